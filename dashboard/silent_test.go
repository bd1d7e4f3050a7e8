package dashboard_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/tried"
)

// silent are clients that ask over sockets of their own and read no more than the status.
type silent struct {
	served, refused int
	conns           []net.Conn
}

// ask connects n clients and returns when each has its status line.
func (w *world) ask(n int, name string) (s silent) {
	w.t.Helper()
	for range n {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.server.URL, "http://"))
		require.NoError(w.t, err)
		w.t.Cleanup(func() { conn.Close() })
		require.NoError(w.t, conn.(*net.TCPConn).SetReadBuffer(4096))
		s.conns = append(s.conns, conn)
		one := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", strings.TrimPrefix(w.url, w.server.URL)+name)
		io.WriteString(conn, strings.Repeat(one, 300)) // so that buffers are full
	}
	for _, conn := range s.conns {
		conn.SetReadDeadline(time.Now().Add(patience))
		status, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
		require.NoError(w.t, err)
		switch {
		case strings.Contains(status, " 200 "):
			s.served++
		case strings.Contains(status, " 503 "):
			s.refused++
		}
	}
	require.Equal(w.t, n, s.served+s.refused)
	return s
}

// crowded is a world with many circuits, whose server has small buffers and counts the answers under way.
func crowded(t *testing.T, circuits int, under *atomic.Int64) *world {
	w := newWorld(t)
	for i := range circuits {
		w.circuits(fmt.Sprintf("host-%d.example.test", i))
	}
	w.server.Close()
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		w.board.ServeHTTP(rw, r)
	}))
	w.server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.(*net.TCPConn).SetWriteBuffer(4096)
		case http.StateClosed:
			w.ended.Add(1)
		}
	}
	w.server.Start()
	w.url = w.server.URL + "/"
	return w
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), what)
	}
}

func TestClientsWhoDoNotReadHoldLittle(t *testing.T) {
	const mib = 1 << 20
	var under atomic.Int64
	w := crowded(t, 16384, &under)
	w.board.SetPatience(time.Hour)
	before := inUse()
	silent := w.ask(20, "api")
	require.Equal(t, 20, silent.served)
	held := inUse() - before
	tried.Row(t, "20 clients of the dashboard who do not read, 16,384 circuits", "250 MiB", "45 MiB", "%.0f MiB", float64(held)/mib)
	require.Less(t, held, int64(45*mib), "that is the table, which is there once, and a piece for each")

	var all answer
	resp, err := w.server.Client().Get(w.url + "api")
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&all))
	resp.Body.Close()
	require.Len(t, all.Circuits, 16384, "who reads is served in the meantime")

	many := w.ask(200, "api")
	require.NotZero(t, many.refused)
	require.Equal(t, 64, silent.served+many.served)
	status, body, header := w.do(http.MethodGet, "api", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "10", header.Get("Retry-After"))
	require.Equal(t, "64 are being answered already\n", body)
	all, many.conns = answer{}, append(many.conns, silent.conns...)
	held = inUse() - before
	tried.Row(t, fmt.Sprintf("64 such clients, and %d more who get a 503", many.refused), "", "70 MiB", "%.0f MiB", float64(held)/mib)
	require.Less(t, held, int64(70*mib))

	for _, conn := range many.conns {
		conn.Close()
	}
	await(t, "places are given back", func() bool { return under.Load() == 0 })
	status, _, _ = w.do(http.MethodGet, "api", "")
	require.Equal(t, http.StatusOK, status)
}

func TestTheTableIsGivenBackOnceNobodyHasAskedForAWhile(t *testing.T) {
	var under atomic.Int64
	w := crowded(t, 4096, &under)
	w.board.SetKeep(time.Millisecond)
	for _, name := range []string{"api", "events", "api"} {
		s := w.ask(3, name)
		with := inUse()
		for _, conn := range s.conns {
			conn.Close()
		}
		await(t, "places are given back", func() bool { return under.Load() == 0 })
		var given int64
		await(t, "the table is given back", func() bool { given = with - inUse(); return given > 3<<20 })
		t.Logf("after %s %.1f MiB are given back", name, float64(given)/(1<<20))
	}
}

func TestWhoDoesNotReadAnAnswerIsLetGo(t *testing.T) {
	var under atomic.Int64
	w := crowded(t, 2000, &under)
	w.board.SetPatience(200 * time.Millisecond)
	for _, name := range []string{"api", "app.js"} {
		w.ended.Store(0)
		require.Equal(t, 5, w.ask(5, name).served)
		await(t, "they are still served", func() bool { return w.ended.Load() == 5 })
	}
}

// An answer that is cut short must not look like one that is whole.
func TestAnAnswerThatIsCutShortIsSeenToBe(t *testing.T) {
	var under atomic.Int64
	w := crowded(t, 2000, &under)
	resp, err := w.server.Client().Get(w.url + "api")
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadFull(resp.Body, make([]byte, 1000))
	require.NoError(t, err)
	w.board.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A deadline that an answer had is not that of the next one over the same connection.
func TestAConnectionCanBeUsedAgainAfterAnAnswer(t *testing.T) {
	w := newWorld(t)
	w.circuits("a.test")
	w.board.SetPatience(50 * time.Millisecond)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.server.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for _, name := range []string{"api", "app.js", "api", "app.js"} {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", strings.TrimPrefix(w.url, w.server.URL)+name)
		resp, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.False(t, resp.Close)
		resp.Body.Close()
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // until the deadline would be over
		_, err = reader.Peek(1)
		require.ErrorContains(t, err, "timeout")
		conn.SetReadDeadline(time.Time{})
	}
}
