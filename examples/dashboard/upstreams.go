package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-cleanhttp"
)

// scene is how an upstream is for some time.
type scene struct {
	lasts   time.Duration
	failing float64       // share of requests that get a 500
	takes   time.Duration // to answer
	silent  bool          // no answer at all
}

// scripts are played over and over again.
var scripts = map[string][]scene{
	"catalog.example": {{lasts: time.Minute, failing: 0.02, takes: 10 * time.Millisecond}},
	"payments.example": {
		{lasts: 1500 * time.Millisecond, takes: 20 * time.Millisecond},
		{lasts: 15 * time.Second, failing: 1},
		{lasts: 30 * time.Second, failing: 0.01, takes: 20 * time.Millisecond},
	},
	"search.example": {
		{lasts: 10 * time.Second, takes: 30 * time.Millisecond},
		{lasts: 10 * time.Second, failing: 0.1, takes: 250 * time.Millisecond},
		{lasts: 12 * time.Second, silent: true},
		{lasts: 20 * time.Second, takes: 30 * time.Millisecond},
	},
}

const (
	callEvery = 40 * time.Millisecond
	timeout   = 500 * time.Millisecond
)

// upstreams are servers on loopback, under names that only the base of these callers knows.
type upstreams struct {
	servers []*http.Server
	addr    map[string]string // by host:port
}

func startUpstreams() (*upstreams, error) {
	u := &upstreams{addr: make(map[string]string)}
	for name, script := range scripts {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			u.close()
			return nil, err
		}
		server := &http.Server{Handler: play(script)}
		u.servers = append(u.servers, server)
		u.addr[name+":80"] = listener.Addr().String()
		go server.Serve(listener) // until close
	}
	return u, nil
}

func (u *upstreams) close() {
	for _, s := range u.servers {
		s.Close()
	}
}

// base is the RoundTripper that finds them.
func (u *upstreams) base() http.RoundTripper {
	base := cleanhttp.DefaultPooledTransport()
	base.Proxy = nil
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, u.addr[addr])
	}
	return base
}

func play(script []scene) http.HandlerFunc {
	began := time.Now()
	var whole time.Duration
	for _, s := range script {
		whole += s.lasts
	}
	return func(w http.ResponseWriter, r *http.Request) {
		at := time.Since(began) % whole
		now := script[0]
		for _, s := range script {
			if now = s; at < s.lasts {
				break
			}
			at -= s.lasts
		}
		if now.silent {
			<-r.Context().Done() // the caller gave up
			return
		}
		time.Sleep(now.takes)
		if rand.Float64() < now.failing {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "hello")
	}
}

// callAll calls all upstreams without pause, whatever becomes of the calls before, until the context ends.
func callAll(ctx context.Context, through http.RoundTripper) *sync.WaitGroup {
	client := &http.Client{Transport: through, Timeout: timeout}
	var all sync.WaitGroup
	for name := range scripts {
		all.Go(func() {
			tick := time.NewTicker(callEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					all.Go(func() { call(client, name) })
				}
			}
		})
	}
	return &all
}

func call(client *http.Client, name string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+name+"/", nil)
	if err != nil {
		return
	}
	// As tracing would: the id is shown with what failed.
	req.Header.Set("Traceparent", fmt.Sprintf("00-%016x%016x-%016x-01", rand.Uint64(), rand.Uint64(), rand.Uint64()))
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}
