//go:build !unix

package fleetredis_test

import "testing"

func (s *server) pause(t testing.TB) { t.Fatal("a process can be paused on Unix alone") }
func (s *server) goOn(t testing.TB)  { t.Fatal("a process can be paused on Unix alone") }
