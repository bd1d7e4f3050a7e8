package fuseboxtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// rates is a service to test: it hands on what its upstream says, and the last good answer if that says nothing good.
type rates struct {
	client *http.Client
	mu     sync.Mutex
	last   string
}

func newRates(base http.RoundTripper) (*rates, *transport.Transport) {
	breaker := transport.New(base, transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests)))
	return &rates{client: &http.Client{Transport: breaker, Timeout: 3 * time.Second}}, breaker
}

func (s *rates) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text, err := s.fetch()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.last = text
	case s.last == "":
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	default:
		w.Header().Set("X-Cached", "yes")
	}
	io.WriteString(w, s.last)
}

func (s *rates) fetch() (string, error) {
	resp, err := s.client.Get("https://rates.example.com/eur")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the upstream says %s", resp.Status)
	}
	return string(text), err
}

func ask(service http.Handler) (body string, cached bool) {
	w := httptest.NewRecorder()
	service.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Body.String(), w.Header().Get("X-Cached") != ""
}
