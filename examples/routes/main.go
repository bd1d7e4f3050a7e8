// Routes shows a circuit for every route of an upstream: one route that fails takes no other with it.
//
//	go run ./examples/routes
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "routes:", err)
		os.Exit(1)
	}
}

func run() error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "the report writer is out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "hello")
	}))
	defer server.Close()

	const users, reports = "GET /users/{id}", "POST /reports"
	breaker := transport.New(nil,
		transport.WithKey(transport.PerRoute(users, reports)),
		transport.WithSettingsFor(func(k transport.Key) transport.Settings {
			if k.Detail == reports { // an expensive route is given up sooner
				return transport.Settings{Policy: policy.Classic{Failures: 2, OpenFor: time.Minute}}
			}
			return transport.Settings{} // that of WithPolicy
		}),
	)
	client := &http.Client{Transport: breaker}
	defer client.CloseIdleConnections()

	fmt.Println("A server whose reports are broken, and a circuit for each route:")
	for _, call := range []struct{ method, path string }{
		{"POST", "/reports"}, {"POST", "/reports"}, {"POST", "/reports"},
		{"GET", "/users/1"}, {"GET", "/users/2"}, {"GET", "/about"},
	} {
		req, err := http.NewRequest(call.method, server.URL+call.path, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		by := "by the server"
		if transport.Refused(resp) {
			by = "refused"
		}
		fmt.Printf("%-4s %-9s %d %s\n", call.method, call.path, resp.StatusCode, by)
	}

	fmt.Println("The circuits:")
	states := make(map[string]policy.State)
	for _, c := range breaker.Circuits() {
		fmt.Printf("  %-9v %v\n", c.State, c.Key)
		states[c.Key.Detail] = c.State
	}
	want := map[string]policy.State{reports: policy.Open, users: policy.Closed, "": policy.Closed}
	for route, state := range want {
		if got, ok := states[route]; !ok || got != state {
			return fmt.Errorf("the circuit of %q should be %v", route, state)
		}
	}
	if len(states) != len(want) {
		return fmt.Errorf("there should be %d circuits", len(want))
	}
	return nil
}
