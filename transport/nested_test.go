package transport_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// many is an error that cannot be compared.
type many []string

func (m many) Error() string { return fmt.Sprint([]string(m)) }

func TestARefusalOfACircuitInsideSaysNothingWhateverItsForm(t *testing.T) {
	own := errors.New("not now")
	timeout := &net.DNSError{Err: "too slow", IsTimeout: true}
	for name, refuse := range map[string]transport.RefusalFunc{
		"its own error":    func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, own },
		"one like a fault": func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"a timeout":        func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, timeout },
		"not comparable":   func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, many{"a", "b"} },
		"with the facts": func(_ *http.Request, e *transport.RefusedError) (*http.Response, error) {
			return nil, fmt.Errorf("no: %w", e)
		},
		"the facts":         func(_ *http.Request, e *transport.RefusedError) (*http.Response, error) { return nil, e },
		"nothing":           func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, nil },
		"a response":        transport.Response(503, nil, ""),
		"one of a good day": transport.Response(200, nil, "cached"),
	} {
		for layer, between := range map[string]func(http.RoundTripper) http.RoundTripper{
			"directly": func(rt http.RoundTripper) http.RoundTripper { return rt },
			"through another": func(rt http.RoundTripper) http.RoundTripper {
				return base(func(req *http.Request) (*http.Response, error) {
					resp, err := rt.RoundTrip(req)
					if err != nil {
						err = fmt.Errorf("traced: %w", err)
					}
					return resp, err
				})
			},
		} {
			t.Run(name+", "+layer, func(t *testing.T) {
				inner := transport.New(answer(200, ""), transport.WithRefusal(refuse))
				inner.Force("*", policy.Open)
				outer := transport.New(between(inner), transport.WithClassifier(policy.OnError(policy.Failure, own)))
				for range 20 {
					resp, err := outer.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
					if err == nil {
						resp.Body.Close()
					}
				}
				circuit := outer.Circuits()[0]
				require.Equal(t, policy.Closed, circuit.State)
				require.Zero(t, circuit.FailedCalls)
				require.EqualValues(t, 20, circuit.IgnoredCalls)
			})
		}
	}
}

func TestTheErrorOfARefusalFuncIsFoundAsItWas(t *testing.T) {
	call := func(refusal error) error {
		rt := transport.New(answer(200, ""), transport.WithRefusal(func(*http.Request, *transport.RefusedError) (*http.Response, error) {
			return nil, refusal
		}))
		rt.Force("*", policy.Open)
		_, err := (&http.Client{Transport: rt}).Do(newRequest(t, http.MethodGet, t.Context()))
		var wrapped *url.Error
		require.ErrorAs(t, err, &wrapped)
		require.Equal(t, refusal.Error(), wrapped.Err.Error())
		return err
	}
	own := errors.New("not now")
	require.ErrorIs(t, call(own), own)
	require.ErrorIs(t, call(fmt.Errorf("sorry: %w", own)), own)
	require.NotErrorIs(t, call(own), transport.ErrOpen)
	var list many
	require.ErrorAs(t, call(many{"a"}), &list)
	for _, is := range []bool{true, false} {
		var timeout net.Error
		require.ErrorAs(t, call(&net.DNSError{IsTimeout: is, IsTemporary: is}), &timeout)
		require.Equal(t, is, timeout.Timeout())
		//lint:ignore SA1019 *url.Error still asks for it
		require.Equal(t, is, timeout.Temporary())
	}
}
