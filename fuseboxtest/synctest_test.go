package fuseboxtest_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/jarcoal/httpmock"

	"github.com/fusebox-go/fusebox/fuseboxtest"
)

// page: synctest
func TestAfterAnOutageTheServiceIsFreshAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mock := httpmock.NewMockTransport()
		well := httpmock.NewStringResponder(http.StatusOK, "1.09")
		down := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done() // it answers nothing, and the client gives up after 3 s, which pass at once
			return nil, req.Context().Err()
		}
		mock.RegisterNoResponder(well)
		service, breaker := newRates(mock)
		ask(service)

		mock.RegisterNoResponder(down)
		fuseboxtest.Trip(t, breaker, upstream, func() { ask(service) })
		if _, cached := ask(service); !cached {
			t.Error("in the outage the answer is not the one that is kept")
		}

		mock.RegisterNoResponder(well)
		fuseboxtest.UntilProbe(t, breaker, upstream)
		if _, cached := ask(service); cached {
			t.Error("the first answer after the outage, which the probe brings, is not fresh")
		}
		fuseboxtest.Recover(t, breaker, upstream, func() { ask(service) })
	})
}

// end
