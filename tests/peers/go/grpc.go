package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// raw sends and receives messages as the bytes they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

const unary = "/observer.test.Echo/Unary"

// grpcServe echoes every message of every method.
func grpcServe(arguments []string) error {
	flags := flag.NewFlagSet("grpc-serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	echo := func(_ any, stream grpc.ServerStream) error {
		for {
			var message []byte
			if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(echo))
	return server.Serve(listener)
}

// grpcLoad makes unary calls in a closed loop, and prints `measured CALLS MICROSECONDS P50 P99
// MAXIMUM ERRORS`, times in microseconds.
func grpcLoad(arguments []string) error {
	flags := flag.NewFlagSet("grpc-load", flag.ExitOnError)
	address := flags.String("address", "", "server")
	connections := flags.Int("connections", 16, "connections")
	streams := flags.Int("streams", 1, "concurrent calls of a connection")
	calls := flags.Int64("calls", 0, "calls in all; 0: as many as there is time for")
	seconds := flags.Int("seconds", 60, "most time")
	bytes := flags.Int("bytes", 32, "bytes of a message")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	message := make([]byte, *bytes)
	var channels []*grpc.ClientConn
	for number := 0; number < *connections; number++ {
		channel, err := grpc.Dial(*address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithBlock())
		if err != nil {
			return err
		}
		defer channel.Close()
		channels = append(channels, channel)
	}
	var begun, failed atomic.Int64
	var group sync.WaitGroup
	var lock sync.Mutex
	var latencies []time.Duration
	started := time.Now()
	end := started.Add(time.Duration(*seconds) * time.Second)
	for _, channel := range channels {
		for stream := 0; stream < *streams; stream++ {
			group.Add(1)
			go func(channel *grpc.ClientConn) {
				defer group.Done()
				own := make([]time.Duration, 0, 1<<16)
				var reply []byte
				for {
					before := time.Now()
					// A call that has begun is always finished, so that both ends count it.
					if before.After(end) || (*calls > 0 && begun.Add(1) > *calls) {
						break
					}
					if err := channel.Invoke(context.Background(), unary, &message, &reply); err != nil {
						failed.Add(1)
						break
					}
					own = append(own, time.Since(before))
				}
				lock.Lock()
				latencies = append(latencies, own...)
				lock.Unlock()
			}(channel)
		}
	}
	group.Wait()
	took := time.Since(started)
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(share float64) int64 {
		if len(latencies) == 0 {
			return 0
		}
		return latencies[int(share*float64(len(latencies)-1))].Microseconds()
	}
	fmt.Printf("measured %d %d %d %d %d %d\n", len(latencies), took.Microseconds(), at(0.5), at(0.99),
		at(1), failed.Load())
	return nil
}
