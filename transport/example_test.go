package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(nil), Timeout: 10 * time.Second} // one for the life of the process
	defer client.CloseIdleConnections()

	resp, err := client.Get(upstream.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body), err, "refused:", transport.Refused(resp))
	// Output: 200 OK hello <nil> refused: false
}

func ExampleNew() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer upstream.Close()

	breaker := transport.New(nil, transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute}))
	client := &http.Client{Transport: breaker}
	defer client.CloseIdleConnections()
	for range 5 {
		resp, err := client.Get(upstream.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status, "refused:", transport.Refused(resp))
	}
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
	// 503 Service Unavailable refused: true
}

func ExampleWithRefusalError() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithRefusalError(),
	)}
	for range 3 {
		resp, err := client.Get("http://api.example.com/status/500")
		var open *transport.RefusedError
		switch {
		case errors.As(err, &open): // or errors.Is(err, transport.ErrOpen)
			fmt.Println("refused:", open.Key, "is", open.State, "after", open.Cause)
		case err != nil:
			fmt.Println(err)
		default:
			resp.Body.Close()
			fmt.Println(resp.Status)
		}
	}
	// Output:
	// 500 Internal Server Error
	// 500 Internal Server Error
	// refused: http://api.example.com is open after status 500
}

func ExampleWithRefusal() {
	upstream := newUpstream()
	defer upstream.Close()

	header := http.Header{"Content-Type": {"application/json"}}
	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}),
		transport.WithRefusal(transport.Response(http.StatusServiceUnavailable, header, `{"error":"try again later"}`)),
	)}
	fetch(client, "http://api.example.com/status/500")

	resp, err := client.Get("http://api.example.com/status/200")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"), string(body))
	// Output:
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable application/json {"error":"try again later"}
}

func ExampleWithPolicy() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Adaptive{
			Trip:   policy.Evidence{Threshold: 2},                          // opens sooner
			Limits: policy.Limits{InFlight: 100, Timeout: 3 * time.Second}, // of an attempt
		}),
	)}
	for range 3 {
		fetch(client, "http://api.example.com/status/500")
	}
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
}

func ExampleResponse() {
	breaker := transport.New(nil, transport.WithRefusal(transport.Response(http.StatusTooManyRequests, nil, "")))
	breaker.Force("*", policy.Open) // in place of an outage

	resp, err := (&http.Client{Transport: breaker}).Get("http://api.example.com/users/7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	fmt.Println(resp.Status, "Retry-After:", resp.Header.Get("Retry-After"))
	// Output:
	// fusebox: circuit forced open for http://api.example.com
	// 429 Too Many Requests Retry-After:
}

func ExampleRefused() {
	breaker := transport.New(nil)
	breaker.Force("*", policy.Open) // in place of an outage

	resp, err := (&http.Client{Transport: breaker}).Get("http://api.example.com/users/7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	if transport.Refused(resp) {
		fmt.Println("never sent:", transport.RefusedBecause(resp))
	}
	// Output: never sent: forced open
}

func ExampleRefusedError() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}),
		transport.WithRefusalError(),
	)}
	fetch(client, "http://api.example.com/status/500")

	_, err := client.Get("http://api.example.com/status/200")
	var refused *transport.RefusedError
	if errors.As(err, &refused) {
		fmt.Println(refused.Key, "is", refused.State, "for", refused.RetryAfter.Round(time.Minute), "after", refused.Cause)
	}
	// Output:
	// 500 Internal Server Error refused: false
	// http://api.example.com is open for 1m0s after status 500
}

func ExampleKeyFunc_perMethod() {
	byMethod := func(req *http.Request) transport.Key {
		k := transport.Upstream(req)
		k.Detail = req.Method
		return k
	}
	breaker := transport.New(nil, transport.WithKey(byMethod))
	breaker.Force("* POST", policy.Open)

	resp, err := (&http.Client{Transport: breaker}).Post("http://api.example.com/users", "text/plain", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	// Output: fusebox: circuit forced open for http://api.example.com POST
}

func ExampleKeyFunc_perTenant() {
	byTenant := func(req *http.Request) transport.Key {
		k := transport.Upstream(req)
		k.Detail = req.Header.Get("X-Tenant") // of which there are few, each of them a circuit
		return k
	}
	breaker := transport.New(nil, transport.WithKey(byTenant))
	breaker.Force("* blue", policy.Open)

	req, err := http.NewRequest(http.MethodGet, "http://api.example.com/users", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("X-Tenant", "blue")
	resp, err := (&http.Client{Transport: breaker}).Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	// Output: fusebox: circuit forced open for http://api.example.com blue
}

func ExampleUpstream() {
	for _, url := range []string{"http://Example.com./a?b", "HTTP://example.com:80/", "https://example.com:8443"} {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(transport.Upstream(req))
	}
	// Output:
	// http://example.com
	// http://example.com
	// https://example.com:8443
}

func ExampleTransport_SetPolicy() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport)
	client := &http.Client{Transport: breaker}
	fetch(client, "http://api.example.com/status/500")
	breaker.SetPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute})
	fetch(client, "http://api.example.com/status/500")
	fetch(client, "http://api.example.com/status/500")
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
}

func ExampleWithSettingsFor() {
	upstream := newUpstream()
	defer upstream.Close()

	const expensive = "GET /status/500"
	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithKey(transport.PerRoute(expensive)),
		transport.WithSettingsFor(func(k transport.Key) transport.Settings {
			if k.Detail == expensive { // given up sooner
				return transport.Settings{Policy: policy.Classic{Failures: 2, OpenFor: time.Minute}}
			}
			return transport.Settings{} // that of WithPolicy
		}),
	)}
	for range 3 {
		fetch(client, "http://api.example.com/status/500")
	}
	fetch(client, "http://api.example.com/status/200") // a circuit of its own
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
	// 200 OK refused: false
}

func ExampleWithClassifier() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests)), // by default a success
	)}
	for range 3 {
		fetch(client, "http://api.example.com/status/429")
	}
	// Output:
	// 429 Too Many Requests refused: false
	// 429 Too Many Requests refused: false
	// 503 Service Unavailable refused: true
}

func ExampleWithObserver() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithObserver(transport.Observer{
			OnStateChange: func(c transport.StateChange) { fmt.Println(c) },
		}),
	)
	client := &http.Client{Transport: breaker}
	fetch(client, "http://api.example.com/status/500")
	fetch(client, "http://api.example.com/status/502")
	// Output:
	// 500 Internal Server Error refused: false
	// http://api.example.com: closed to open, tripped: 2 failures in a row (bound 2), last: status 502
	// 502 Bad Gateway refused: false
}

func ExampleWithStorage() {
	upstream := newUpstream()
	defer upstream.Close()

	storage := new(transport.MemoryStorage)
	newClient := func() *http.Client {
		return &http.Client{Transport: transport.New(upstream.Client().Transport,
			transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
			transport.WithStorage(storage),
		)}
	}
	first := newClient()
	fetch(first, "http://api.example.com/status/500")
	fetch(first, "http://api.example.com/status/500")

	fetch(newClient(), "http://api.example.com/status/200") // its circuit begins as that of the first is
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
}

func ExampleWithShadow() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithShadow(),
	)
	client := &http.Client{Transport: breaker}
	for _, status := range []string{"500", "500", "500", "200", "200"} {
		fetch(client, "http://api.example.com/status/"+status)
	}
	for _, c := range breaker.Circuits() {
		fmt.Println(c.Key, "is", c.State, "and would have refused", c.Shadow.Refused, "calls, of which", c.Shadow.Succeeded, "succeeded")
	}
	// Output:
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 200 OK refused: false
	// 200 OK refused: false
	// http://api.example.com is open and would have refused 3 calls, of which 2 succeeded
}

func ExampleTransport_Force() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport)
	client := &http.Client{Transport: breaker}

	breaker.Force("http://*.example.com", policy.Open) // those that have no circuit yet as well
	fetch(client, "http://api.example.com/status/200")

	breaker.Release("http://*.example.com")
	fetch(client, "http://api.example.com/status/200")
	// Output:
	// 503 Service Unavailable refused: true
	// 200 OK refused: false
}

func ExampleTransport_Circuits() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport, transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}))
	client := &http.Client{Transport: breaker}
	fetch(client, "http://users.example.com/status/200")
	for range 3 {
		fetch(client, "http://reports.example.com/status/500")
	}
	for _, c := range breaker.Circuits() {
		fmt.Println(c.Key, "is", c.State, "failed:", c.FailedCalls, "refused:", c.Refusals)
	}
	// Output:
	// 200 OK refused: false
	// 500 Internal Server Error refused: false
	// 500 Internal Server Error refused: false
	// 503 Service Unavailable refused: true
	// http://reports.example.com is open failed: 2 refused: 1
	// http://users.example.com is closed failed: 0 refused: 0
}

func ExampleTransport_SaveTo() {
	upstream := newUpstream()
	defer upstream.Close()

	classic := transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute})
	old := transport.New(upstream.Client().Transport, classic)
	fetch(&http.Client{Transport: old}, "http://api.example.com/status/500")
	var file bytes.Buffer // in place of one that outlives the process
	if err := old.SaveTo(&file); err != nil {
		fmt.Println(err)
	}

	breaker := transport.New(upstream.Client().Transport, classic)
	opened, err := breaker.RestoreFrom(&file, 5*time.Minute) // what is older is left out
	fmt.Println("opened:", opened, err)
	fetch(&http.Client{Transport: breaker}, "http://api.example.com/status/200")
	// Output:
	// 500 Internal Server Error refused: false
	// opened: 1 <nil>
	// 503 Service Unavailable refused: true
}

// newUpstream answers /status/500 with a 500. Its Client's Transport, as a base, takes example.com and all below it there.
func newUpstream() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	return httptest.NewServer(mux)
}

func fetch(client *http.Client, url string) {
	resp, err := client.Get(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	fmt.Println(resp.Status, "refused:", transport.Refused(resp))
}

func ExampleParseKey() {
	for _, text := range []string{"https://Example.com:443/", "https://example.com/users", "example.com"} {
		key, err := transport.ParseKey(text)
		fmt.Println(key.Host, err)
	}
	// Output:
	// example.com <nil>
	//  fusebox: "https://example.com/users" is no key of an upstream: an upstream has no path and no query; write https://example.com
	//  fusebox: "example.com" is no key of an upstream: it has no scheme; write it as https://example.com
}
