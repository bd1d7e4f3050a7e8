//go:build unix

package policy_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// What cannot be had on order from a real network is wrapped as package net wraps it.
func TestCausesOfSystemErrors(t *testing.T) {
	local := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}
	cases := []struct {
		name    string
		number  syscall.Errno
		call    string
		cause   policy.Cause
		outcome policy.Outcome
	}{
		{"no file descriptors here", syscall.EMFILE, "socket", local, policy.Ignored},
		{"none on the whole machine", syscall.ENFILE, "socket", local, policy.Ignored},
		{"no ports", syscall.EADDRNOTAVAIL, "connect", local, policy.Ignored},
		{"no route to the network", syscall.ENETUNREACH, "connect", local, policy.Ignored},
		{"no route to the host", syscall.EHOSTUNREACH, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, policy.Failure},
		{"network down", syscall.ENETDOWN, "connect", local, policy.Ignored},
		{"no buffers", syscall.ENOBUFS, "socket", local, policy.Ignored},
		{"no memory", syscall.ENOMEM, "socket", local, policy.Ignored},
		{"refused", syscall.ECONNREFUSED, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, policy.Failure},
		{"reset", syscall.ECONNRESET, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindReset}, policy.Failure},
		{"aborted", syscall.ECONNABORTED, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindReset}, policy.Failure},
		{"timed out", syscall.ETIMEDOUT, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, policy.Failure},
		{"not permitted", syscall.EPERM, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindOther}, policy.Failure},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &scene{t: t, base: new(http.Transport), client: new(http.Client), headers: func() {}}
			s.dialFails(os.NewSyscallError(c.call, c.number))
			end := s.run(get(t, somewhere))
			require.Equal(t, c.cause, end.Cause)
			require.Equal(t, c.outcome, end.Outcome)
		})
	}
}

func TestAPipeBrokenWhileSendingIsAReset(t *testing.T) {
	err := &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	call := &policy.Call{Request: get(t, somewhere), Err: err}
	require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, policy.CauseOf(call))
}

// The resolver keeps only the text of the error.
func TestAResolverThatCannotBeAskedIsLocal(t *testing.T) {
	for _, err := range []error{
		os.NewSyscallError("socket", syscall.EMFILE), os.NewSyscallError("socket", syscall.ENFILE),
		os.NewSyscallError("connect", syscall.ENETUNREACH), os.NewSyscallError("connect", syscall.ENETDOWN),
		os.NewSyscallError("connect", syscall.EHOSTUNREACH), os.NewSyscallError("connect", syscall.EADDRNOTAVAIL),
		os.NewSyscallError("read", syscall.ECONNREFUSED),
	} {
		s := &scene{t: t, base: new(http.Transport), client: new(http.Client), headers: func() {}}
		s.resolveBy(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "udp", Err: err}
		})
		end := s.run(get(t, somewhere))
		require.Equal(t, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, end.Cause, "%v", err)
		require.Equal(t, policy.Ignored, end.Outcome)
	}
}

// A resolver that answers knows something of the name, if only that whoever is to know does not say.
func TestAResolverThatAnswersSpeaksOfTheUpstream(t *testing.T) {
	for _, text := range []string{"no such host", "server misbehaving", "i/o timeout", "lame referral"} {
		err := &net.DNSError{Err: text, Name: "connection refused", Server: "network is unreachable"}
		require.Equal(t, policy.PhaseDNS, policy.CauseOf(&policy.Call{Request: get(t, somewhere), Err: err}).Phase)
	}
}

// Nobody listens at the resolver's port, for real.
func TestAResolverThatIsGoneOpensNoCircuit(t *testing.T) {
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	s := &scene{t: t, base: new(http.Transport), client: new(http.Client), headers: func() {}}
	s.resolveBy(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", nobody.LocalAddr().String())
	})
	end := s.run(get(t, "http://upstream.test./"))
	require.Equal(t, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, end.Cause)
	require.Equal(t, policy.Ignored, end.Outcome)
}
