// A Go server on an inherited socket (LISTEN_FDS) or on -addr: each answer names its worker; ?ms= makes it wait.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func listen(addr string) (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", addr)
	}
	// The first inherited descriptor is 3.
	return net.FileListener(os.NewFile(3, "http"))
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "where to listen without an inherited socket")
	flag.Parse()
	worker := os.Getenv("MULTIPROCESS_WORKER_ID")

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		w.Header().Set("x-worker-id", worker)
		w.Header().Set("x-worker-pid", strconv.Itoa(os.Getpid()))
		if r.URL.Path == "/healthz" {
			fmt.Fprintln(w, "ok")
			return
		}
		fmt.Fprintf(w, "hello from %s\n", worker)
	})

	listener, err := listen(*addr)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	stopped := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		// Running requests are answered first.
		server.Shutdown(context.Background())
		close(stopped)
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-stopped
}
