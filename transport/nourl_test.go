package transport_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestARequestWithoutAURLIsTheBasesToAnswer(t *testing.T) {
	request := func() (*http.Request, *closeCounter) {
		body := &closeCounter{Reader: strings.NewReader("payload")}
		return &http.Request{Method: http.MethodPost, Header: http.Header{}, Body: body, ContentLength: 7}, body
	}
	// net/http has an error for it, which is what its caller gets with a Transport and without.
	plain, body := request()
	_, want := new(http.Transport).RoundTrip(plain)
	require.Error(t, want)
	require.Equal(t, 1, body.closed)
	for name, opts := range map[string][]transport.Option{
		"by upstream": nil, "by route": {transport.WithKey(transport.PerRoute("/"))}, "by error": {transport.WithRefusalError()},
	} {
		rt := transport.New(new(http.Transport), opts...)
		rt.Force("*", policy.Open)
		req, body := request()
		_, err := rt.RoundTrip(req)
		require.Equal(t, want, err, name)
		require.Equal(t, 1, body.closed, name)
		require.Empty(t, rt.Circuits(), name)
	}

	// Another base may know what is meant.
	own := errors.New("the URL is elsewhere")
	var got *http.Request
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) { got = req; return nil, own }))
	req, _ := request()
	_, err := rt.RoundTrip(req)
	require.Same(t, req, got)
	require.Equal(t, own, err)
}
