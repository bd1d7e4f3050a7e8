package policy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestAnAnswerToCONNECTTellsTheProxyFromTheUpstream(t *testing.T) {
	local := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}
	refused := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}
	timeout := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}
	for _, test := range []struct {
		status int
		said   string
		want   policy.Cause
	}{
		{204, "", local}, {302, "", local}, {400, "", local}, {401, "", local}, {403, "", local}, {404, "", local}, {407, "", local},
		{429, "", local}, {500, "", refused}, {501, "", local}, {502, "", refused}, {503, "", refused}, {504, "", timeout},
		{505, "", local}, {511, "", local}, {521, "", refused},
		{502, "proxy; error=connection_refused", refused},
		{502, "proxy; error=dns_error;rcode=NXDOMAIN", policy.Cause{Phase: policy.PhaseDNS, Kind: policy.KindNotFound}},
		{404, "proxy; error=dns_error", policy.Cause{Phase: policy.PhaseDNS, Kind: policy.KindNotFound}},
		{504, "proxy; error=connection_timeout", timeout}, {502, "proxy; error=connection_timeout", timeout}, {504, "proxy; error=something_of_its_own", timeout},
		{504, "proxy; error=dns_timeout", policy.Cause{Phase: policy.PhaseDNS, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}},
		{504, "proxy; error=connection_refused", refused},
		{504, "proxy; error=proxy_internal_response", local},
		{502, "proxy; error=connection_limit_reached", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindStatus}},
		{502, "proxy; error=tls_certificate_error", policy.Cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}},
		{502, "proxy; error=proxy_loop_detected", local},
		{500, "proxy; error=proxy_configuration_error", local},
		{503, "proxy; error=destination_ip_prohibited", local},
		{503, "proxy; error=something_of_its_own", refused},
	} {
		resp := &http.Response{StatusCode: test.status, Status: http.StatusText(test.status), Header: http.Header{}}
		if test.said != "" {
			resp.Header.Set("Proxy-Status", test.said)
		}
		test.want.Status = test.status
		got := policy.CauseOf(&policy.Call{Request: get(t, elsewhere), Err: policy.NewProxyError(resp)})
		require.Equal(t, test.want, got, "%d %s", test.status, test.said)
	}
}

func TestProxyStatusOfAResponseRefinesItsCauseAndNotItsOutcome(t *testing.T) {
	for said, want := range map[string]policy.Cause{
		"cdn; error=connection_refused":                       {Phase: policy.PhaseConnect, Kind: policy.KindRefused},
		"cdn;error=dns_error":                                 {Phase: policy.PhaseDNS, Kind: policy.KindNotFound},
		`"a, b; error=dns_error"; error=http_protocol_error`:  {Phase: policy.PhaseHeaders, Kind: policy.KindStatus},
		"inner; error=connection_timeout, outer":              {Phase: policy.PhaseConnect, Kind: policy.KindStatus},
		"inner, outer; next-hop=x ; error=connection_refused": {Phase: policy.PhaseConnect, Kind: policy.KindRefused},
		"cdn; error=connection_timeout":                       {Phase: policy.PhaseConnect, Kind: policy.KindStatus}, // this end did not wait in vain
		"cdn; error=http_response_header_section_size;x=1":    {Phase: policy.PhaseHeaders, Kind: policy.KindStatus},
		"cdn; error=http_response_content_coding":             {Phase: policy.PhaseBody, Kind: policy.KindStatus},
		"cdn; error=http_upgrade_failed":                      {Phase: policy.PhaseHeaders, Kind: policy.KindStatus},
		"cdn; error=proxy_internal_response":                  {Kind: policy.KindStatus},
		"cdn; error=proxy_configuration_error":                {Kind: policy.KindStatus},
		"cdn; error=made_up":                                  {Kind: policy.KindStatus}, `cdn; details="error=dns_error`: {Kind: policy.KindStatus}, "error=dns_error": {Kind: policy.KindStatus},
	} {
		want.Status = 502
		call := &policy.Call{Request: get(t, somewhere), Response: &http.Response{StatusCode: 502, Header: http.Header{"Proxy-Status": {said}}}}
		require.Equal(t, want, policy.CauseOf(call), said)
		require.Equal(t, policy.Failure, policy.DefaultClassifier(call), said)
		call.Response.StatusCode = 404
		require.Equal(t, policy.Success, policy.DefaultClassifier(call), said)
	}
}

func TestAProxyThatWantsAPasswordSaysNothingOfTheUpstream(t *testing.T) {
	call := &policy.Call{Request: get(t, somewhere), Response: &http.Response{StatusCode: 407}}
	require.Equal(t, policy.Cause{Kind: policy.KindLocal, Status: 407}, policy.CauseOf(call))
	call.Request = get(t, elsewhere)
	require.Equal(t, policy.Success, policy.DefaultClassifier(call), "over https it is the upstream's own")
	call.Request, call.NoProxy = get(t, somewhere), true
	require.Equal(t, policy.Cause{Status: 407}, policy.CauseOf(call), "nobody else was asked")
}

// socks is a proxy that answers a greeting and then a request with reply; without one it closes.
func socks(greeting, reply string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		io.CopyN(io.Discard, c, int64(head[1]))
		io.WriteString(c, greeting)
		if greeting == "\x05\x00" {
			io.ReadFull(c, make([]byte, 5))
			io.WriteString(c, reply)
		}
		io.Copy(io.Discard, c)
	}
}

// listen serves connections at an address.
func listen(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func TestReplyCodesOfSOCKSTellTheProxyFromTheUpstream(t *testing.T) {
	local := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}
	other := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindOther}
	reply := func(code string) func(net.Conn) {
		return socks("\x05\x00", "\x05"+code+"\x00\x01\x00\x00\x00\x00\x00\x00")
	}
	for name, test := range map[string]struct {
		proxy func(net.Conn)
		want  policy.Cause
	}{
		"general failure":             {reply("\x01"), other},
		"not allowed by ruleset":      {reply("\x02"), local},
		"network unreachable":         {reply("\x03"), other},
		"host unreachable":            {reply("\x04"), other},
		"refused":                     {reply("\x05"), policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}},
		"TTL expired":                 {reply("\x06"), other},
		"command not supported":       {reply("\x07"), local},
		"address type not supported":  {reply("\x08"), local},
		"unknown code":                {reply("\x63"), other},
		"a method that was not asked": {socks("\x05\xff", ""), local},
		"no SOCKS":                    {socks("HTTP/1.1 400 Bad Request\r\n", ""), local},
		"closed at the request": {func(c net.Conn) {
			defer c.Close()
			io.ReadFull(c, make([]byte, 3))
			io.WriteString(c, "\x05\x00")
			io.ReadFull(c, make([]byte, 22))
		}, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindReset}},
	} {
		for _, target := range []string{somewhere, elsewhere} {
			base := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: listen(t, test.proxy)})}
			_, err := base.RoundTrip(get(t, target))
			require.Error(t, err)
			require.Equal(t, test.want, policy.CauseOf(&policy.Call{Request: get(t, target), Err: err}), "%s: %v", name, err)
		}
	}
}

func TestWordsOfAProxyCountOnlyWhereNothingElseIsLeft(t *testing.T) {
	for text, want := range map[string]policy.Outcome{
		"Filtered": policy.Ignored, "Forbidden": policy.Ignored, "Not Implemented": policy.Ignored, "Proxy Authentication Required": policy.Ignored,
		`invalid proxy address "::": parse "::": missing protocol scheme`: policy.Ignored,
		"Bad Gateway": policy.Failure, "Service Unavailable": policy.Failure, "Unable to connect": policy.Failure, "OK": policy.Failure,
	} {
		require.Equal(t, want, policy.DefaultClassifier(&policy.Call{Request: get(t, elsewhere), Err: errors.New(text)}), text)
		require.Equal(t, policy.Failure, policy.DefaultClassifier(&policy.Call{Request: get(t, elsewhere), Err: errors.New(text), InBody: true}), text)
	}
}

func TestAnIdleConnectionThatTheUpstreamClosedIsAReset(t *testing.T) {
	got := policy.CauseOf(&policy.Call{Request: get(t, somewhere), Err: errors.New("http: server closed idle connection")})
	require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, got)
}

func FuzzProxyStatus(f *testing.F) {
	f.Add(`a; error=dns_error; details="x, y; error=z", b`, 502)
	f.Add(`"\"; error=connection_refused`, 407)
	f.Fuzz(func(t *testing.T, said string, status int) {
		resp := &http.Response{StatusCode: status, Status: "502 x", Header: http.Header{"Proxy-Status": {said}}}
		err := policy.NewProxyError(resp)
		require.Equal(t, "x", err.Error())
		require.Contains(t, said, err.ProxyStatus)
		outcome := policy.DefaultClassifier(&policy.Call{Request: get(t, somewhere), Response: resp})
		if status >= 500 {
			require.Equal(t, policy.Failure, outcome, "whatever a header says")
		}
	})
}
