package transport_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

// layer is one as client-go makes them.
type layer struct{ http.RoundTripper }

func (l layer) WrappedRoundTripper() http.RoundTripper { return l.RoundTripper }

// opaque is one that lets nobody look through it.
type opaque struct{ http.RoundTripper }

// closable counts how often its connections are closed.
type closable struct {
	base
	closed int
}

func (p *closable) CloseIdleConnections() { p.closed++ }

// loop has no inside but itself.
type loop struct{ base }

func (l loop) WrappedRoundTripper() http.RoundTripper { return l }

func TestIdleConnectionsAreClosedThroughLayers(t *testing.T) {
	for name, c := range map[string]struct {
		wrap   func(http.RoundTripper) http.RoundTripper
		closed int
	}{
		"none":                   {func(rt http.RoundTripper) http.RoundTripper { return rt }, 1},
		"one":                    {func(rt http.RoundTripper) http.RoundTripper { return layer{rt} }, 1},
		"three":                  {func(rt http.RoundTripper) http.RoundTripper { return layer{&layer{layer{rt}}} }, 1},
		"ours":                   {func(rt http.RoundTripper) http.RoundTripper { return transport.New(rt) }, 1},
		"ours between":           {func(rt http.RoundTripper) http.RoundTripper { return layer{transport.New(layer{rt})} }, 1},
		"one that is opaque":     {func(rt http.RoundTripper) http.RoundTripper { return layer{opaque{rt}} }, 0},
		"one that holds nothing": {func(http.RoundTripper) http.RoundTripper { return layer{nil} }, 0},
		"one that holds itself":  {func(http.RoundTripper) http.RoundTripper { return loop{} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &closable{base: answer(200, "")}
			rt := transport.New(c.wrap(p))
			require.NotNil(t, rt.WrappedRoundTripper())
			(&http.Client{Transport: rt}).CloseIdleConnections()
			require.Equal(t, c.closed, p.closed)
		})
	}
}

func TestAProbeAfterSilenceHasIdleConnectionsClosedThroughLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &closable{base: func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		}}
		rt := transport.New(layer{layer{p}})
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx)); err == nil {
				resp.Body.Close()
			}
			cancel()
			time.Sleep(time.Second)
		}
		require.NotZero(t, p.closed)
	})
}
