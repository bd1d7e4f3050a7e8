package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// A server that chooses its port itself cannot lose it. Programs that must be told one get it below where systems begin
// with those that they give to connections (32,768 in Linux, 49,152 elsewhere): one of these may be gone again when the
// program listens, as the local end of somebody's connection.
const (
	firstPort = 12_000
	ports     = 10_000

	busAbove = 10_000 // by which the port of the cluster bus of a node of Redis is above its own
)

var portsGiven sync.Map

// FreePort returns a port of 127.0.0.1 on which nothing listens, nor on that of its cluster bus, and which it
// returns no second time.
func FreePort(t testing.TB) int {
	t.Helper()
	for range ports {
		port := firstPort + rand.IntN(ports)
		if _, given := portsGiven.LoadOrStore(port, true); !given && canListen(port) && canListen(port+busAbove) {
			return port
		}
	}
	t.Fatalf("no port from %d on is free", firstPort)
	return 0
}

// FreeAddress is 127.0.0.1 with a FreePort.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprint("127.0.0.1:", FreePort(t))
}

// canListen returns whether a listener can have the port.
func canListen(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
