package policy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func ExampleAdaptive() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Adaptive{
			Trip: policy.Evidence{Threshold: 3}, // opens sooner than by default
			Hold: policy.Hold{Off: true},        // and never before calls have failed
		}),
	)}
	for _, status := range []string{"200", "500", "500", "500", "200"} {
		fmt.Println(fetch(client, "http://api.example.com/status/"+status))
	}
	// Output:
	// 200 OK
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 503 Service Unavailable, refused: open
}

func ExampleHold() {
	rules := policy.Rules{
		Trip:    policy.Consecutive{Failures: 10},
		Probe:   policy.OpenTime{For: time.Minute},
		Recover: policy.Trial{},
		Hold:    &policy.Hold{Silence: 2 * time.Second}, // without one, nothing is held
	}
	fmt.Println(*rules.Validated().Hold)
	// Output: {false 2s 10}
}

func ExampleOnStatus() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}),
		transport.WithClassifier(
			policy.OnStatus(policy.Failure, http.StatusTooManyRequests), // by default a success
			policy.OnStatus(policy.Ignored, http.StatusNotImplemented),  // and this a failure
		),
	)}
	for _, status := range []string{"501", "429", "200"} {
		fmt.Println(fetch(client, "http://api.example.com/status/"+status))
	}
	// Output:
	// 501 Not Implemented
	// 429 Too Many Requests
	// 503 Service Unavailable, refused: open
}

func ExampleClassic() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}), // two in a row
	)}
	for _, status := range []string{"500", "200", "500", "500", "200"} {
		fmt.Println(fetch(client, "http://api.example.com/status/"+status))
	}
	// Output:
	// 500 Internal Server Error
	// 200 OK
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 503 Service Unavailable, refused: open
}

func ExampleRules() {
	upstream := newUpstream()
	defer upstream.Close()

	breaker := transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Rules{
			Trip:    policy.FailureShare{Percent: 50, Window: 10 * time.Minute, Minimum: 4},
			Probe:   policy.OpenTime{For: time.Minute, Factor: 2, JitterPercent: 20},
			Recover: policy.Trial{Probes: 1, Successes: 2},
		}),
		transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) { fmt.Println(c) }}),
	)
	client := &http.Client{Transport: breaker}
	for _, status := range []string{"200", "500", "200", "500"} {
		fetch(client, "http://api.example.com/status/"+status)
	}
	breaker.SetState(transport.Key{Scheme: "http", Host: "api.example.com"}, policy.HalfOpen) // as if the minute were over
	fetch(client, "http://api.example.com/status/200")
	fetch(client, "http://api.example.com/status/200")
	// Output:
	// http://api.example.com: closed to open, tripped: 2 of 4 calls failed (bound 50 %), last: status 500
	// http://api.example.com: open to half-open, by hand
	// http://api.example.com: half-open to closed, recovered: 0 failures against 2 successes
}

func ExampleAnyOf() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Rules{
			Trip: policy.AnyOf(
				policy.FailureShare{Percent: 50, Calls: 100, Minimum: 6},
				policy.Consecutive{Failures: 3},
			),
			Probe:   policy.OpenTime{For: time.Minute},
			Recover: policy.Trial{Probes: 3},
		}),
		transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) { fmt.Println(c) }}),
	)}
	for range 3 {
		fetch(client, "http://down.example.com/status/500")
		fetch(client, "http://shaky.example.com/status/200")
		fetch(client, "http://shaky.example.com/status/500")
	}
	// Output:
	// http://down.example.com: closed to open, tripped: 3 failures in a row (bound 3), last: status 500
	// http://shaky.example.com: closed to open, tripped: 3 of 6 calls failed (bound 50 %), last: status 500
}

func ExampleLimits() {
	upstream := newUpstream()
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 1}}),
	)}
	resp, err := client.Get("http://api.example.com/status/200")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(fetch(client, "http://api.example.com/status/200")) // a call is in flight to the end of its body
	resp.Body.Close()
	fmt.Println(fetch(client, "http://api.example.com/status/200"))
	// Output:
	// 503 Service Unavailable, refused: limit
	// 200 OK
}

func ExampleFirstOf() {
	classify := policy.FirstOf(
		policy.OnStatus(policy.Failure, http.StatusTooManyRequests),
		policy.OnStatus(policy.Ignored, http.StatusNotImplemented),
		policy.DefaultClassifier,
	)
	for _, status := range []int{200, 429, 500, 501} {
		fmt.Println(status, classify(&policy.Call{Response: &http.Response{StatusCode: status}}))
	}
	// Output:
	// 200 success
	// 429 failure
	// 500 failure
	// 501 ignored
}

func ExampleWhen() {
	// A report that fails says nothing of the upstream's other work.
	reports := policy.When(policy.Ignored, func(c *policy.Call) bool {
		return strings.HasPrefix(c.Request.URL.Path, "/reports/")
	})
	classify := policy.FirstOf(reports, policy.DefaultClassifier)
	for _, path := range []string{"/reports/7", "/users/7"} {
		fmt.Println(path, classify(&policy.Call{
			Request:  httptest.NewRequest(http.MethodGet, path, nil),
			Response: &http.Response{StatusCode: http.StatusInternalServerError},
		}))
	}
	// Output:
	// /reports/7 ignored
	// /users/7 failure
}

func ExampleOnBody() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"errors": ["the database is down"]}`) // a 200
	}))
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithClassifier(policy.OnBody(64, func(_ *http.Response, prefix []byte) policy.Outcome {
			if bytes.HasPrefix(prefix, []byte(`{"errors":`)) {
				return policy.Failure
			}
			return policy.Undecided // left to policy.DefaultClassifier
		})),
	)}
	for range 3 {
		fmt.Println(fetch(client, "http://api.example.com/graphql"))
	}
	// Output:
	// 200 OK
	// 200 OK
	// 503 Service Unavailable, refused: open
}

func ExampleAtEnd() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Checksum")
		io.WriteString(w, "a report, and then\nERROR: the database is down\n") // a 200
	}))
	defer upstream.Close()

	client := &http.Client{Transport: transport.New(upstream.Client().Transport,
		transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Minute}),
		transport.WithClassifier(policy.AtEnd(100, func(c *policy.Call) policy.Outcome {
			if !c.ClosedEarly && c.Response.Trailer.Get("X-Checksum") == "" && bytes.Contains(c.Tail, []byte("\nERROR: ")) {
				return policy.Failure
			}
			return policy.Undecided // it stays a success
		})),
	)}
	for range 3 {
		fmt.Println(fetch(client, "http://reports.example.com/7"))
	}
	// Output:
	// 200 OK
	// 200 OK
	// 503 Service Unavailable, refused: open
}

// newUpstream answers /status/500 with a 500. Its Client's Transport, as a base, takes example.com and all below it there.
func newUpstream() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
		io.WriteString(w, "some text\n")
	})
	return httptest.NewServer(mux)
}

func fetch(client *http.Client, url string) (answer string) {
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if transport.Refused(resp) {
		return resp.Status + ", refused: " + transport.RefusedBecause(resp).String()
	}
	return resp.Status
}
