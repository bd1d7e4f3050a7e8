package fuseboxtest_test

import (
	"net/http"
	"testing"

	"github.com/jarcoal/httpmock"

	"github.com/fusebox-go/fusebox/fuseboxtest"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// page: httpmock
var upstream = transport.Key{Scheme: "https", Host: "rates.example.com"}

func TestWhileTheUpstreamIsRefusedTheLastGoodAnswerIsServed(t *testing.T) {
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://rates.example.com/eur", httpmock.NewStringResponder(200, "1.09"))
	service, breaker := newRates(mock)
	ask(service) // the answer to keep

	fuseboxtest.Force(t, breaker, upstream, policy.Open)
	events := fuseboxtest.Record(t, breaker)
	if body, cached := ask(service); body != "1.09" || !cached {
		t.Errorf("the service answers %q, from its cache: %v", body, cached)
	}
	if calls := mock.GetTotalCallCount(); calls != 1 {
		t.Errorf("the upstream got %d requests", calls)
	}
	if refusals := events.Refusals(); len(refusals) != 1 || refusals[0].Key != upstream {
		t.Errorf("refused: %v", refusals)
	}
	resp, err := service.client.Get("https://rates.example.com/eur") // or of the response itself
	events.AssertRefused(resp, err, upstream, policy.RefusedForced)
}

func TestTooManyRequestsOpenTheCircuit(t *testing.T) {
	mock := httpmock.NewMockTransport()
	mock.RegisterNoResponder(httpmock.NewStringResponder(http.StatusTooManyRequests, "slow down"))
	service, breaker := newRates(mock)

	fuseboxtest.AlmostTrip(t, breaker, upstream, func() { ask(service) })
	events := fuseboxtest.Record(t, breaker)
	ask(service) // the last straw
	changes := events.Changes()
	if len(changes) != 1 || changes[0].To != policy.Open || changes[0].Cause.Status != http.StatusTooManyRequests {
		t.Errorf("the circuit did this: %v", changes)
	}
}

// end
