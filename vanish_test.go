package fusebox_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-cleanhttp"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// vanishing is the network in front of a server whose instances can vanish without a word: what is sent on a connection
// made before goes nowhere, and nothing comes back on it. A new instance answers on new connections at once.
type vanishing struct {
	*httptest.Server
	listener net.Listener
	mu       sync.Mutex
	gone     chan struct{} // closed when the instance of the connections being made is
	over     chan struct{}
	pipes    sync.WaitGroup
	gather   atomic.Pointer[sync.WaitGroup] // calls wait until all of them are there
}

// vanish makes the instance vanish. New connections are to the next one.
func (v *vanishing) vanish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.gone)
	v.gone = make(chan struct{})
}

func newVanishing(t *testing.T, http2 bool) *vanishing {
	t.Helper()
	v := &vanishing{gone: make(chan struct{}), over: make(chan struct{})}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gather" {
			gather := v.gather.Load()
			gather.Done()
			gather.Wait()
		}
		io.WriteString(w, "hello")
	}))
	if http2 {
		v.Server.EnableHTTP2 = true
		v.Server.StartTLS()
	} else {
		v.Server.Start()
	}
	v.listener, _ = net.Listen("tcp", "127.0.0.1:0")
	require.NotNil(t, v.listener)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := v.listener.Accept()
			if err != nil {
				return
			}
			v.mu.Lock()
			gone := v.gone
			v.mu.Unlock()
			v.pipes.Go(func() { v.pipe(conn, gone) })
		}
	}()
	t.Cleanup(func() {
		v.listener.Close()
		close(v.over)
		<-accepting
		v.pipes.Wait()
		v.Server.Close()
	})
	return v
}

func (v *vanishing) pipe(client net.Conn, gone chan struct{}) {
	defer client.Close()
	server, err := net.Dial("tcp", v.Server.Listener.Addr().String())
	if err != nil {
		return
	}
	defer server.Close()
	one := func(to, from net.Conn) func() {
		return func() {
			buffer := make([]byte, 32<<10)
			for {
				n, err := from.Read(buffer)
				select {
				case <-gone:
					<-v.over
				default:
				}
				if err != nil {
					break
				}
				to.Write(buffer[:n])
			}
			to.Close()
			from.Close()
		}
	}
	var both sync.WaitGroup
	both.Go(one(server, client))
	both.Go(one(client, server))
	select {
	case <-v.over:
	case <-gone:
		<-v.over
	case <-wait(&both):
	}
	client.Close()
	server.Close()
	both.Wait()
}

func wait(group *sync.WaitGroup) chan struct{} {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	return done
}

func (v *vanishing) url(path string) string {
	scheme, _, _ := strings.Cut(v.Server.URL, ":")
	return scheme + "://" + v.listener.Addr().String() + path
}

// base is http.Transport as users have it, with a large pool.
func (v *vanishing) base() *http.Transport {
	base := cleanhttp.DefaultPooledTransport()
	base.MaxIdleConns, base.MaxIdleConnsPerHost = 0, 100
	base.TLSClientConfig = v.Server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	return base
}

// foreign hides everything of a base but its RoundTrip.
type foreign struct{ http.RoundTripper }

// fill makes the client have n idle connections.
func (v *vanishing) fill(client *http.Client, n int) {
	gather := new(sync.WaitGroup)
	gather.Add(n)
	v.gather.Store(gather)
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() {
			resp, err := client.Get(v.url("/gather"))
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	calls.Wait()
}

// course is how a client did after the instance behind its connections had vanished.
type course struct {
	well time.Duration // from when on all calls were good
	lost int
}

// outlive calls at intervals from when the instance vanishes, until calls go well for good.
func (v *vanishing) outlive(ctx context.Context, client *http.Client, every, most time.Duration) course {
	const good = 30 // since the last that was lost
	patience := cmp.Or(client.Timeout, time.Second)
	var mu sync.Mutex
	started, lost, row, bad := 0, 0, 0, -1
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	tick := time.NewTicker(every)
	for time.Since(began) < most {
		number := started
		started++
		calls.Go(func() {
			var judged bool
			judge := func(ok bool) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case judged || ctx.Err() != nil:
				case ok && number > bad:
					row++
				case !ok:
					lost++
					if number > bad {
						bad, row = number, 0
					}
				}
				judged = true
			}
			late := time.AfterFunc(patience, func() { judge(false) }) // it is lost though it may go on
			defer late.Stop()
			judge(v.call(ctx, client))
		})
		mu.Lock()
		over := row >= good && bad >= 0
		mu.Unlock()
		if over {
			break
		}
		<-tick.C
	}
	tick.Stop()
	cancel()
	calls.Wait()
	mu.Lock()
	defer mu.Unlock()
	if row < good {
		return course{well: most, lost: lost}
	}
	return course{well: time.Duration(bad+1) * every, lost: lost}
}

func (v *vanishing) call(ctx context.Context, client *http.Client) (ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url("/"), nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// TestDeadConnectionsAreNotTakenForADeadUpstream compares clients with and without a Transport, side by side.
func TestDeadConnectionsAreNotTakenForADeadUpstream(t *testing.T) {
	const every = 20 * time.Millisecond
	classic := policy.Classic{OpenFor: 200 * time.Millisecond}
	held := policy.Adaptive{Hold: policy.Hold{Silence: 100 * time.Millisecond}} // before the calls have used up the pool
	own := func(v *vanishing) http.RoundTripper { return v.base() }
	wrapped := func(v *vanishing) http.RoundTripper { return foreign{v.base()} }
	try := testkit.OneIn(4)
	for _, c := range []struct {
		name    string
		http2   bool
		base    func(*vanishing) http.RoundTripper // nil for that of New(nil)
		policy  policy.Policy
		timeout time.Duration
		later   time.Duration // than a client without a Transport; over HTTP/2, than the start
	}{
		{name: "New(nil)", policy: policy.Adaptive{}, timeout: 500 * time.Millisecond, later: 2 * time.Second},
		{name: "New(nil), classic", policy: classic, timeout: 500 * time.Millisecond, later: 2 * time.Second},
		{name: "an http.Transport", base: own, policy: policy.Adaptive{}, timeout: 500 * time.Millisecond, later: 2 * time.Second},
		{name: "an http.Transport, classic", base: own, policy: classic, timeout: 500 * time.Millisecond, later: 2 * time.Second},
		{name: "an http.Transport, callers without a deadline", base: own, policy: held, later: 2 * time.Second},
		{name: "a foreign base", base: wrapped, policy: policy.Adaptive{}, timeout: 500 * time.Millisecond, later: 2 * time.Second},
		{name: "a foreign base, classic", base: wrapped, policy: classic, timeout: 500 * time.Millisecond, later: 3 * time.Second},
		{name: "a foreign base, callers without a deadline", base: wrapped, policy: held, later: 3 * time.Second},
		{name: "HTTP/2", http2: true, base: own, policy: policy.Adaptive{}, timeout: 500 * time.Millisecond, later: 4 * time.Second},
		{name: "HTTP/2, classic", http2: true, base: own, policy: classic, timeout: 500 * time.Millisecond, later: 4 * time.Second},
		{name: "HTTP/2, callers without a deadline", http2: true, base: own, policy: policy.Adaptive{}, later: 4 * time.Second},
		{name: "HTTP/2, a foreign base", http2: true, base: wrapped, policy: policy.Adaptive{}, timeout: 500 * time.Millisecond, later: 4 * time.Second},
		{name: "HTTP/2, a foreign base, classic", http2: true, base: wrapped, policy: classic, timeout: 500 * time.Millisecond, later: 4 * time.Second},
	} {
		if !try() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			processors := runtime.GOMAXPROCS(50) // by which the pool of New(nil) is sized
			made := transport.New(nil, transport.WithPolicy(c.policy))
			runtime.GOMAXPROCS(processors)
			t.Parallel()
			v := newVanishing(t, c.http2)
			bare := &http.Client{Transport: v.base(), Timeout: c.timeout}
			var base http.RoundTripper
			if c.base != nil {
				base = c.base(v)
			}
			rt, filled := made, http.RoundTripper(made)
			if base != nil {
				rt, filled = transport.New(base, transport.WithPolicy(c.policy)), base
			}
			ours := &http.Client{Transport: rt, Timeout: c.timeout}
			connections := 50
			if c.http2 {
				connections = 1
			}
			v.fill(&http.Client{Transport: bare.Transport}, connections)
			v.fill(&http.Client{Transport: filled}, connections) // not by rt, which would take a crowd for usual
			for range 3 {                                        // so that it is known how long a call takes
				require.True(t, v.call(t.Context(), ours))
			}
			v.vanish()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var both sync.WaitGroup
			var without, with course
			if !c.http2 {
				both.Go(func() { without = v.outlive(ctx, bare, every, 5*time.Second) })
			}
			both.Go(func() { with = v.outlive(ctx, ours, every, 5*time.Second) })
			both.Wait()
			t.Logf("bare: %v, ours: %v", without, with)
			require.LessOrEqual(t, with.well, without.well+c.later)
			bare.CloseIdleConnections()
			rt.CloseIdleConnections()
			if f, ok := base.(foreign); ok {
				f.RoundTripper.(*http.Transport).CloseIdleConnections()
			}
		})
	}
}

func (c course) String() string { return fmt.Sprintf("well after %v, %d lost", c.well, c.lost) }
