package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// serve answers HTTP/1.1, HTTP/2 with prior knowledge, and Upgrade: h2c on one port.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello world\n")
	})
	mux.HandleFunc("/hello/", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello world\n")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		length, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%012d", length)
	})
	mux.HandleFunc("/bytes/", func(w http.ResponseWriter, r *http.Request) {
		left, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/bytes/"))
		piece := make([]byte, 64<<10)
		for left > 0 {
			length := len(piece)
			if left < length {
				length = left
			}
			w.Write(piece[:length])
			left -= length
		}
	})
	mux.HandleFunc("/status/", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/status/"))
		w.WriteHeader(status)
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "hello world\n")
		w.Header().Set("X-Sum", "12")
	})
	mux.HandleFunc("/hint", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, "hello world\n")
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello ")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	server := &http.Server{
		Addr:     *listen,
		Handler:  h2c.NewHandler(mux, &http2.Server{MaxConcurrentStreams: 250}),
		ErrorLog: nil,
	}
	return server.ListenAndServe()
}

// told is what the client counted of equal exchanges.
type told struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int    `json:"status"`
	Sent     int64  `json:"request_body_bytes"`
	Received int64  `json:"response_body_bytes"`
}

// load makes requests of several kinds by x/net/http2 and prints what it counted as JSON lines.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("address", "", "server")
	connections := flags.Int("connections", 2, "connections")
	streams := flags.Int("streams", 10, "concurrent streams of a connection")
	rounds := flags.Int("rounds", 20, "requests of each stream")
	large := flags.Int("large", 0, "bytes of large bodies; 0: none")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	type task struct {
		method, path string
		body         int
	}
	tasks := []task{
		{"GET", "/hello", 0},
		{"POST", "/echo", 1000},
		{"GET", "/status/404", 0},
		{"PUT", "/count", 70000},
		{"HEAD", "/hello", 0},
		{"GET", "/trailers", 0},
		{"GET", "/hint", 0},
		{"DELETE", "/status/204", 0},
		{"GET", "/bytes/100000", 0},
		{"GET", "/status/503", 0},
	}
	if *large > 0 {
		tasks = []task{
			{"GET", "/bytes/" + strconv.Itoa(*large), 0},
			{"POST", "/count", *large},
			{"POST", "/echo", *large},
			{"GET", "/hello", 0},
		}
	}
	counts := map[told]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	failures := make(chan error, *connections**streams)
	for connection := 0; connection < *connections; connection++ {
		client, done := newClient()
		defer done()
		// The first request makes the connection; all others share it.
		work := func(number int) error {
			chosen := tasks[number%len(tasks)]
			request, err := http.NewRequest(chosen.method, "http://"+*address+chosen.path,
				bytes.NewReader(make([]byte, chosen.body)))
			if err != nil {
				return err
			}
			response, err := client.Do(request)
			if err != nil {
				return fmt.Errorf("%s %s: %w", chosen.method, chosen.path, err)
			}
			received, err := io.Copy(io.Discard, response.Body)
			if err != nil {
				return fmt.Errorf("%s %s: %w", chosen.method, chosen.path, err)
			}
			response.Body.Close()
			lock.Lock()
			counts[told{chosen.method, chosen.path, response.StatusCode, int64(chosen.body), received}]++
			lock.Unlock()
			return nil
		}
		if err := work(0); err != nil {
			return err
		}
		for stream := 0; stream < *streams; stream++ {
			group.Add(1)
			go func(first int) {
				defer group.Done()
				for round := 0; round < *rounds; round++ {
					if err := work(first + round); err != nil {
						failures <- err
						return
					}
				}
			}(stream)
		}
	}
	group.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	return tell(counts)
}

// newClient makes a client that has one connection of its own.
func newClient() (*http.Client, func()) {
	transport := &http2.Transport{
		AllowHTTP:          true,
		DisableCompression: true,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}, transport.CloseIdleConnections
}

// phases keeps connections busy with `/hello/busy`; for every line NAME of standard input it makes
// requests for `/hello/NAME` besides, and says NAME when it has all the answers. At the end of
// standard input it prints what it counted.
func phases(arguments []string) error {
	flags := flag.NewFlagSet("phases", flag.ExitOnError)
	address := flags.String("address", "", "server")
	connections := flags.Int("connections", 2, "connections")
	busy := flags.Int("busy", 4, "streams of a connection that are always busy")
	requests := flags.Int("requests", 200, "requests of a phase on each connection")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	counts := map[told]int{}
	var lock sync.Mutex
	get := func(client *http.Client, path string) error {
		response, err := client.Get("http://" + *address + path)
		if err != nil {
			return err
		}
		received, err := io.Copy(io.Discard, response.Body)
		if err != nil {
			return err
		}
		response.Body.Close()
		lock.Lock()
		counts[told{"GET", path, response.StatusCode, 0, received}]++
		lock.Unlock()
		return nil
	}
	var clients []*http.Client
	for number := 0; number < *connections; number++ {
		client, done := newClient()
		defer done()
		if err := get(client, "/hello"); err != nil {
			return err
		}
		clients = append(clients, client)
	}
	var ending atomic.Bool
	var group sync.WaitGroup
	failures := make(chan error, *connections*(*busy+4))
	run := func(work func() error) {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := work(); err != nil {
				failures <- err
			}
		}()
	}
	for _, client := range clients {
		client := client
		for stream := 0; stream < *busy; stream++ {
			run(func() error {
				for !ending.Load() {
					if err := get(client, "/hello/busy"); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var phase sync.WaitGroup
		for _, client := range clients {
			client := client
			for stream := 0; stream < 4; stream++ {
				phase.Add(1)
				run(func() error {
					defer phase.Done()
					for number := 0; number < *requests/4; number++ {
						if err := get(client, "/hello/"+lines.Text()); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		phase.Wait()
		fmt.Println(lines.Text())
	}
	ending.Store(true)
	group.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	return tell(counts)
}

// tell prints counts as JSON lines.
func tell(counts map[told]int) error {
	encoder := json.NewEncoder(os.Stdout)
	for key, count := range counts {
		line := struct {
			told
			Count int `json:"count"`
		}{key, count}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
