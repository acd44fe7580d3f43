// As `causes.py loop`, on the goroutines of Go: causes PORT BACKEND
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	port, backend := os.Args[1], os.Args[2]
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	ask := func(method, path, body string) {
		request, err := http.NewRequest(method, "http://"+backend+path, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		response, err := client.Do(request)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	go func() {
		for number := 0; ; number++ {
			ask("GET", fmt.Sprintf("/out/background/%d", number), "")
			time.Sleep(3 * time.Millisecond)
		}
	}()
	http.HandleFunc("/in/", func(writer http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		id, _ := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/in/"))
		for index := 0; index < 1+id%3; index++ {
			time.Sleep([]time.Duration{0, 0, 1, 5}[id%4] * time.Millisecond)
			if (id+index)%4 == 0 {
				ask("POST", fmt.Sprintf("/out/%d/%d", id, index), strings.Repeat("x", 3000))
			} else {
				ask("GET", fmt.Sprintf("/out/%d/%d", id, index), "")
			}
		}
		io.WriteString(writer, "ok\n")
	})
	panic(http.ListenAndServe("127.0.0.1:"+port, nil))
}
