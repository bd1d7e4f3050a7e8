package logs_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer upstream.Close()

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key { // what differs each time that this runs
		case slog.TimeKey, "next_probe":
			return slog.Attr{}
		case "key":
			return slog.String("key", strings.Replace(a.Value.String(), upstream.URL, "http://upstream", 1))
		}
		return a
	}}))
	breaker := transport.New(nil,
		transport.WithPolicy(policy.Classic{Failures: 3}),
		transport.WithObserver(logs.Observer(logger)), // most programs write logs.Observer(slog.Default())
	)
	defer breaker.CloseIdleConnections()
	client := &http.Client{Transport: breaker}
	for range 10 {
		if resp, err := client.Get(upstream.URL); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	// Output:
	// level=WARN msg="circuit open" key=http://upstream from=closed to=open reason=tripped failures=3 successes=0 cause="status 500" why="3 failures in a row (bound 3)"
	// level=INFO msg="requests refused" key=http://upstream refused=1 reason=open cause="status 500" shadow=false
}
