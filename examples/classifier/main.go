// Classifier shows how to say what counts as a failure: a 200 whose body reports an error does, a 429 does, a 501 does
// not, and the say can change while calls are under way.
//
//	go run ./examples/classifier
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "classifier:", err)
		os.Exit(1)
	}
}

// answers is what the server answers, by path.
var answers = map[string]struct {
	status int
	body   string
}{
	"/good":       {http.StatusOK, `{"data": 42}`},
	"/bad-body":   {http.StatusOK, `{"error": "the database is down"}`},
	"/too-many":   {http.StatusTooManyRequests, "slow down"},
	"/not-here":   {http.StatusNotImplemented, "no such function"},
	"/no-such":    {http.StatusNotFound, "not found"},
	"/overloaded": {http.StatusServiceUnavailable, "try later"},
}

func run() error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(answers[r.URL.Path].status)
		io.WriteString(w, answers[r.URL.Path].body)
	}))
	defer server.Close()

	var last transport.CallEnd
	breaker := transport.New(nil,
		transport.WithClassifier(
			policy.OnStatus(policy.Failure, http.StatusTooManyRequests),
			policy.OnStatus(policy.Ignored, http.StatusNotImplemented),
			// The caller still gets the whole body.
			policy.OnBody(64, func(resp *http.Response, prefix []byte) policy.Outcome {
				if resp.StatusCode == http.StatusOK && bytes.Contains(prefix, []byte(`"error"`)) {
					return policy.Failure
				}
				return policy.Undecided // left to policy.DefaultClassifier, as all else
			}),
		),
		transport.WithObserver(transport.Observer{OnOutcome: func(end transport.CallEnd) { last = end }}),
	)
	client := &http.Client{Transport: breaker}
	defer client.CloseIdleConnections()

	expect := func(path string, want policy.Outcome) error {
		status, body, err := get(client, server.URL+path)
		if err != nil {
			return err
		}
		fmt.Printf("%-11s  %d %-33s counts as %v\n", path, status, body, last.Outcome)
		if body != answers[path].body {
			return fmt.Errorf("the body of %s came as %q", path, body)
		}
		if last.Outcome != want {
			return fmt.Errorf("%s should count as %v", path, want)
		}
		return nil
	}

	fmt.Println("By three classifiers, a status for a failure, one for nothing, and a look at the body:")
	for _, call := range []struct {
		path string
		want policy.Outcome
	}{
		{"/good", policy.Success},
		{"/bad-body", policy.Failure},
		{"/too-many", policy.Failure},
		{"/not-here", policy.Ignored},
		{"/no-such", policy.Success}, // the upstream works, and says that the caller is wrong
		{"/overloaded", policy.Failure},
	} {
		if err := expect(call.path, call.want); err != nil {
			return err
		}
	}

	fmt.Println("Now SetClassifier leaves all to policy.DefaultClassifier:")
	breaker.SetClassifier()
	if err := expect("/too-many", policy.Success); err != nil {
		return err
	}
	return expect("/not-here", policy.Failure)
}

func get(client *http.Client, url string) (status int, body string, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
