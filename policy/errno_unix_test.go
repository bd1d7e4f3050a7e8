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
	local := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Local}
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
		{"no route to the host", syscall.EHOSTUNREACH, "connect", local, policy.Ignored},
		{"network down", syscall.ENETDOWN, "connect", local, policy.Ignored},
		{"no buffers", syscall.ENOBUFS, "socket", local, policy.Ignored},
		{"no memory", syscall.ENOMEM, "socket", local, policy.Ignored},
		{"refused", syscall.ECONNREFUSED, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Refused}, policy.Failure},
		{"reset", syscall.ECONNRESET, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Reset}, policy.Failure},
		{"aborted", syscall.ECONNABORTED, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Reset}, policy.Failure},
		{"timed out", syscall.ETIMEDOUT, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Timeout, Deadline: policy.TransportDeadline}, policy.Failure},
		{"not permitted", syscall.EPERM, "connect", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Other}, policy.Failure},
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
	require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.Reset}, policy.CauseOf(call))
}

// The resolver keeps only the text of the error.
func TestAResolverWithoutFileDescriptorsIsLocal(t *testing.T) {
	for _, number := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		s := &scene{t: t, base: new(http.Transport), client: new(http.Client), headers: func() {}}
		s.resolveBy(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", number)}
		})
		end := s.run(get(t, somewhere))
		require.Equal(t, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.Local}, end.Cause)
		require.Equal(t, policy.Ignored, end.Outcome)
	}
}
