//go:build !race

package http3_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// inEarlyData is left out under the race detector: quic-go v0.65.0 has a race of its own there, between the stream that is opened early
// and the upstream's parameters.
var inEarlyData = []trouble{early(http3.MethodGet0RTT), early(http3.MethodHead0RTT)}

func early(method string) trouble {
	return trouble{
		name:    "`" + method + "`",
		want:    policy.Success,
		make:    func(s *scene) func() { s.remembering(); s.serve(s.listen(), fine); return nil },
		request: func(s *scene) *http.Request { s.settle(); return s.early0RTT(method) },
	}
}

// remembering makes a client remember what it needs for early data.
func (s *scene) remembering() {
	s.base.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(10)
}

// settle makes good calls by a connection of the upstream that is there now, and closes that.
func (s *scene) settle() {
	s.call(s.request(nil))
	for tries := 0; s.err != nil && tries < 5; tries++ { // what an earlier one gave is not forgotten at once
		s.judgedWell()
		s.call(s.request(nil))
	}
	require.NoError(s, s.err)
	s.base.CloseIdleConnections()
}

func (s *scene) early0RTT(method string) *http.Request {
	req := s.request(nil)
	req.Method = method
	return req
}

// judgedWell looks at a call that the upstream is not to blame for, however it ended.
func (s *scene) judgedWell() {
	if s.err != nil {
		require.True(s, strings.HasSuffix(s.err.Error(), "0-RTT rejected"), "%v", s.err)
		require.Equal(s, policy.Ignored, s.last.Outcome, "%v: %v", s.last.Cause, s.err)
	}
}

func TestAnUpstreamThatTakesNoEarlyDataAfterARestartIsNotBlamed(t *testing.T) {
	rejected := 0
	for try := 0; rejected < 6 && try < 100; try++ { // chance has it whether the client has learned of it before the request is sent
		s := newScene(t)
		s.remembering()
		stop := s.serve(s.listen(), fine)
		for range 6 {
			s.settle()
			stop()
			stop = s.serve(s.here(), fine)
			s.call(s.early0RTT(http3.MethodGet0RTT))
			s.judgedWell()
			if s.err != nil {
				rejected++
			}
			require.Equal(t, policy.Closed, s.rt.Circuits()[0].State)
		}
		stop()
	}
	require.GreaterOrEqual(t, rejected, 6)
}
