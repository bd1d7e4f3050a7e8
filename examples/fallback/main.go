// Fallback shows how a refusal can be an answer that is of use: the last good one, kept by the caller.
//
//	go run ./examples/fallback
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fallback:", err)
		os.Exit(1)
	}
}

// lastGood keeps the last good body of each URL.
type lastGood struct{ bodies sync.Map }

func (l *lastGood) keep(url, body string) { l.bodies.Store(url, body) }

// refusal is a transport.RefusalFunc: the last good answer if there is one, and a plain 503 if not.
func (l *lastGood) refusal(req *http.Request, open *transport.RefusedError) (*http.Response, error) {
	body, ok := l.bodies.Load(req.URL.String())
	if !ok || req.Method != http.MethodGet {
		return transport.Response(http.StatusServiceUnavailable, nil, "")(req, open)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		ContentLength: int64(len(body.(string))),
		Body:          io.NopCloser(strings.NewReader(body.(string))),
	}, nil
}

func run() error {
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "1 EUR = 1.09 USD")
	}))
	defer server.Close()

	kept := new(lastGood)
	client := &http.Client{Transport: transport.New(nil,
		transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute}),
		transport.WithRefusal(kept.refusal),
		transport.WithRefusalOnTrip(), // the call that opens the circuit gets the fallback too
	)}
	defer client.CloseIdleConnections()

	get := func(path string) (status int, body string, fallback bool, err error) {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			return 0, "", false, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		body, fallback = strings.TrimSpace(string(text)), transport.Refused(resp)
		if err == nil && resp.StatusCode == http.StatusOK && !fallback {
			kept.keep(server.URL+path, body)
		}
		note := ""
		if fallback {
			note = "(a refusal)"
		}
		fmt.Printf("GET %s  %d %s %s\n", path, resp.StatusCode, body, note)
		return resp.StatusCode, body, fallback, err
	}

	fmt.Println("A server that works, and a client that keeps its last good answers for refusals:")
	_, good, _, err := get("/rate")
	if err != nil {
		return err
	}
	broken.Store(true)
	fmt.Println("The server breaks.")
	for range 4 {
		if _, _, _, err := get("/rate"); err != nil {
			return err
		}
	}
	status, body, fallback, err := get("/rate")
	if err != nil {
		return err
	}
	if status != http.StatusOK || body != good || !fallback {
		return fmt.Errorf("the open circuit should answer %q, as a refusal", good)
	}
	if status, _, fallback, err = get("/news"); err != nil {
		return err
	}
	if status != http.StatusServiceUnavailable || !fallback {
		return fmt.Errorf("what was never answered should be refused by a 503")
	}
	return nil
}
