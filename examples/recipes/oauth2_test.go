package recipes

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/fusebox-go/fusebox/transport"
)

func newOAuth2Client(tokenURL string) (client, tokens *http.Client, breaker *transport.Transport) {
	// recipe: oauth2
	tokens = &http.Client{
		Timeout:   10 * time.Second,
		Transport: transport.New(nil, transport.WithRefusalError()),
	}
	config := &clientcredentials.Config{
		ClientID: "me", ClientSecret: "secret", TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader,
	}
	source := config.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, tokens))

	breaker = transport.New(nil)
	client = &http.Client{Transport: &oauth2.Transport{Source: source, Base: breaker}}
	// end
	return client, tokens, breaker
}

func newTokenServer(t *testing.T) *upstream {
	return newUpstream(t,
		answer(http.StatusOK, "application/json", `{"access_token": "token", "token_type": "Bearer", "expires_in": 1}`), // too short to be kept
		answer(http.StatusServiceUnavailable, "text/plain", "out of order\n"))
}

func TestOAuth2(t *testing.T) {
	login := newTokenServer(t)
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}, answer(http.StatusServiceUnavailable, "text/plain", "out of order\n"))
	client, tokens, breaker := newOAuth2Client(login.URL)
	t.Cleanup(tokens.CloseIdleConnections)
	untilRefused(t, breaker, server, func() bool {
		resp, err := client.Get(server.URL)
		require.NoError(t, err)
		require.NotEqual(t, http.StatusUnauthorized, resp.StatusCode)
		return refusedResponse(t, "oauth2", resp)
	})
}

func TestOAuth2TokenServerDown(t *testing.T) {
	login, server := newTokenServer(t), newTextUpstream(t)
	client, tokens, breaker := newOAuth2Client(login.URL)
	t.Cleanup(breaker.CloseIdleConnections)
	untilRefused(t, tokens.Transport.(*transport.Transport), login, func() bool {
		resp, err := client.Get(server.URL)
		if err == nil {
			resp.Body.Close()
			return false
		}
		if !isRefused(err) {
			return false
		}
		sees(t, "oauth2-tokens", strings.ReplaceAll(err.Error(), login.URL, "http://login.test"))
		return true
	})
	circuits := breaker.Circuits()
	require.Len(t, circuits, 1)
	require.Zero(t, circuits[0].FailedCalls, "the API is not to blame for its token server")
	require.EqualValues(t, 1, server.arrived.Load())
}
