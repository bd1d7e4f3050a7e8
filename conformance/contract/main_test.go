package contract

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noLeaks checks that no goroutine is left when the test, and all that it cleans up from here on, is over.
func noLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// wrapper is a way to put something in front of a base.
type wrapper struct {
	name string
	wrap func(base http.RoundTripper) http.RoundTripper
}

var bare = wrapper{"bare", func(base http.RoundTripper) http.RoundTripper { return base }}

// wrappers are the ways that a request goes through a Transport.
var wrappers = []wrapper{
	{"closed", func(base http.RoundTripper) http.RoundTripper { return transport.New(base) }},
	{"observed", func(base http.RoundTripper) http.RoundTripper {
		return transport.New(base,
			transport.WithClassifier(func(*policy.Call) policy.Outcome { return policy.Undecided }),
			transport.WithObserver(transport.Observer{OnCall: func(transport.CallStart) {}, OnOutcome: func(transport.CallEnd) {}}))
	}},
	{"half-open", func(base http.RoundTripper) http.RoundTripper {
		return halfOpen(base, policy.Rules{Trip: policy.Consecutive{}, Probe: policy.OpenTime{}, Recover: always{}})
	}},
}

// halfOpen gives a transport with one circuit for everything, half-open.
func halfOpen(base http.RoundTripper, p policy.Policy) *transport.Transport {
	rt := transport.New(base, transport.WithPolicy(p), oneCircuit)
	rt.SetState(transport.Key{}, policy.HalfOpen)
	return rt
}

// refusing gives a transport with one circuit for everything, open for a minute at least.
func refusing(base http.RoundTripper) *transport.Transport {
	rt := transport.New(base, transport.WithPolicy(policy.Classic{}), oneCircuit)
	rt.SetState(transport.Key{}, policy.Open)
	return rt
}

var oneCircuit = transport.WithKey(func(*http.Request) transport.Key { return transport.Key{} })

// always is half-open for good, with room for all.
type always struct{}

func (always) NewRecover() policy.Recover                          { return always{} }
func (always) AfterProbe() bool                                    { return true }
func (always) Start(time.Time, policy.Result)                      {}
func (always) Admit(int) (mark int, ok bool)                       { return 0, true }
func (always) Record(time.Time, int, policy.Result) policy.Verdict { return policy.VerdictStay }
func (always) Lease() time.Duration                                { return time.Hour }
func (always) Limit() int                                          { return 1000 }
func (always) Counts() (failures, successes int)                   { return 0, 0 }

type roundTripper = testkit.RoundTripper

// identity is a certificate of a.example.com, b.example.com and 127.0.0.1, and who believes in it.
func identity() (tls.Certificate, *x509.CertPool) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.TLS.Certificates[0], roots
}

func protocols(set ...func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	for _, enable := range set {
		enable(p, true)
	}
	return p
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// describe gives an error's text and types, as deep as they go.
func describe(err error) string {
	if err == nil {
		return "none"
	}
	var timeout interface{ Timeout() bool }
	text := fmt.Sprintf("%T %q timeout=%v", err, address.ReplaceAllString(err.Error(), "addr"),
		errors.As(err, &timeout) && timeout.Timeout())
	switch wraps := err.(type) {
	case interface{ Unwrap() error }:
		if inner := wraps.Unwrap(); inner != nil {
			text += " > " + describe(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wraps.Unwrap() {
			text += " > (" + describe(inner) + ")"
		}
	}
	return text
}

func newRequest(t testing.TB, method, url string) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	return req
}

// circuitOf is the only circuit that a transport has.
func circuitOf(t testing.TB, rt *transport.Transport) transport.Snapshot {
	circuits := rt.Circuits()
	require.Len(t, circuits, 1)
	return circuits[0]
}

func lines(parts ...string) string { return strings.Join(parts, "\r\n") }
