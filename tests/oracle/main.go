// Serves the real net/http/pprof as the oracle of the tests: one table of requests is put to it and
// to us. It prints its address on the first line and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	pprof.NewProfile("my/custom.things").Add("one", 0)
	contend()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		log.Fatal(http.Serve(listener, nil))
	}()
	io.Copy(io.Discard, os.Stdin)
}

// contend makes one holder and one waiter, so that no profile is empty.
func contend() {
	var lock sync.Mutex
	var done sync.WaitGroup
	lock.Lock()
	done.Add(1)
	go func() {
		defer done.Done()
		lock.Lock()
		lock.Unlock()
	}()
	time.Sleep(10 * time.Millisecond)
	lock.Unlock()
	done.Wait()
}
