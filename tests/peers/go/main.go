// Command peers is the Go end of the tests: net/http and x/net/http2 in the clear, and grpc-go.
package main

import (
	"fmt"
	"os"
)

var commands = map[string]func([]string) error{
	"serve":      serve,
	"load":       load,
	"phases":     phases,
	"grpc-serve": grpcServe,
	"grpc-load":  grpcLoad,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peers serve|load|phases|grpc-serve|grpc-load [flags]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
