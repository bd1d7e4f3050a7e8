//go:build unix

package fleetredis_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func (s *server) pause(t testing.TB) {
	require.NoError(t, s.process.Process.Signal(syscall.SIGSTOP))
}

func (s *server) goOn(t testing.TB) {
	require.NoError(t, s.process.Process.Signal(syscall.SIGCONT))
}
