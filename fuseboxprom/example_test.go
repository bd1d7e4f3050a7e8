package fuseboxprom_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fusebox-go/fusebox/fuseboxprom"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer upstream.Close()

	breaker := transport.New(nil, transport.WithPolicy(policy.Classic{Failures: 3}))
	defer breaker.CloseIdleConnections()
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	registry.MustRegister(fuseboxprom.NewCollector(breaker))

	client := &http.Client{Transport: breaker}
	for range 10 {
		resp, err := client.Get(upstream.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}

	scraped := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(scraped.Body.String()) {
		if strings.HasPrefix(line, "fusebox_failures") || strings.HasPrefix(line, "fusebox_refusals") || strings.HasPrefix(line, "fusebox_circuits") {
			fmt.Print(strings.Replace(line, upstream.URL, "http://upstream", 1))
		}
	}
	// Output:
	// fusebox_circuits{state="closed"} 0
	// fusebox_circuits{state="half-open"} 0
	// fusebox_circuits{state="open"} 1
	// fusebox_failures_total{class="5xx",key="http://upstream",reason=""} 3
	// fusebox_refusals_total{key="http://upstream",reason="open"} 7
}
