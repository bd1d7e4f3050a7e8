// Package dashboard is a page that shows an operator the circuits of a transport.Transport, live: which upstream is
// out, since when and why, what its callers get, and when it is tried again; and if it is allowed, lets them be
// overridden.
//
//	http.Handle("/debug/fusebox/", dashboard.Handler(breaker))
//
// Mount it beside net/http/pprof, on a listener that only operators reach: the page shows the names of upstreams to
// whoever can open it. Any path that ends in a slash will do, with or without http.StripPrefix, since all its URLs are
// relative. It is one page, written by hand, with no outside resources, and these URLs below it:
//
//	api      GET: circuits, transitions, strips, overrides and actions as JSON
//	events   GET: the same as server-sent events, what changed about once a second
//	action   POST: an override, if AllowActions lets it
//
// # What it costs
//
// A Dashboard counts the calls of each circuit, good ones too, in bars of five seconds. A good call, which otherwise
// takes a shorter way through the Transport, then costs about 90 nanoseconds more (18 and 109 in BenchmarkCall), and
// allocates nothing. WithoutGoodCalls leaves them out, and they cost what they cost without a Dashboard. A refusal
// costs about 300 nanoseconds more, and three allocations. Counts take about 1 KB for a circuit; 8,192 circuits at most
// have them, and good calls are counted for 6,144. Of a circuit that is refused faster than its observers can be told,
// some refusals are missing in the strip, but not in its total.
//
// Who watches is served by the goroutine of his own request. While somebody does, all circuits are looked at once a
// second, or less often if that would take more than a tenth of a processor. He is sent what has changed; where that is
// the numbers of more than a thousand circuits a second, he hears of each after up to five seconds, and of a change of
// state at once. While nobody does, nothing runs.
//
// What all are shown is kept once, about 1 KB for a circuit, and given back when nobody has asked for ten seconds. 64
// may watch at a time, and 64 requests for api be answered; others get a 503 with Retry-After. Both are written in
// pieces, of which a client holds one, and who does not take a piece within ten seconds, or an answer within a minute,
// is cut off. That needs a server whose http.ResponseController can set a deadline, as that of net/http can.
package dashboard

import (
	"embed"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

//go:embed assets
var embedded embed.FS

// assets are read once: each client who does not read would hold a copy.
var assets = func() map[string][]byte {
	all := make(map[string][]byte)
	for _, name := range []string{"index.html", "app.js", "style.css"} {
		content, err := embedded.ReadFile("assets/" + name)
		if err != nil {
			panic(err)
		}
		all[name] = content
	}
	return all
}()

// Dashboard is the http.Handler that Handler returns.
type Dashboard struct {
	t     *transport.Transport
	opts  options
	store store
	stop  func() // observing

	closed    chan struct{}
	closeOnce sync.Once

	local    atomic.Pointer[transport.LocalTrouble] // nil if there is none
	patience time.Duration                          // with a watcher who does not read
	keep     time.Duration                          // of the table once nobody asks

	mu       sync.Mutex // not for observers: a request would wait
	table    table
	watchers int
	answers  int         // of api that are under way
	unused   *time.Timer // nil until nobody asks for the first time
	actions  []Action    // the latest last
}

const (
	mostWatchers    = 64
	mostActions     = 50
	defaultPatience = 10 * time.Second
	defaultKeep     = 10 * time.Second
)

// Handler returns a Dashboard of t, which observes t from now on until it is closed. It panics if t is nil or an option
// makes no sense.
func Handler(t *transport.Transport, opts ...Option) *Dashboard {
	if t == nil {
		panic("fusebox/dashboard: Handler got a nil Transport; write the one that transport.New returned")
	}
	d := &Dashboard{t: t, closed: make(chan struct{}), patience: defaultPatience, keep: defaultKeep}
	for _, option := range opts {
		option(&d.opts)
	}
	d.store.kept = d.keys
	observer := transport.Observer{
		OnStateChange:  d.store.changed,
		OnRefusal:      d.store.refused,
		OnThrottle:     d.store.throttled,
		OnOutcome:      d.store.ended,
		OnLocalTrouble: d.localTrouble,
		Untimed:        true,
	}
	if d.opts.noGoodCalls {
		observer.OnOutcome, observer.OnFailure = nil, d.store.ended
	}
	d.stop = t.Observe(observer)
	return d
}

// Close stops observing and ends the streams of those who watch; further requests get a 503. http.Server.Shutdown
// waits for streams, so let it close the Dashboard: server.RegisterOnShutdown(d.Close).
func (d *Dashboard) Close() {
	d.closeOnce.Do(func() {
		d.stop()
		close(d.closed)
	})
}

func (d *Dashboard) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

func (d *Dashboard) localTrouble(trouble transport.LocalTrouble) {
	if trouble.Cause != (policy.Cause{}) {
		return // no circuit is open by it
	}
	if trouble.Over {
		d.local.Store(nil)
		return
	}
	d.local.Store(&trouble)
}

func (d *Dashboard) keys() map[transport.Key]bool {
	all := make(map[transport.Key]bool)
	for _, c := range d.t.Circuits() {
		all[c.Key] = true
	}
	return all
}

// ServeHTTP goes by the last part of the path, so that it does not matter where it is mounted.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")

	if !d.opts.hostAllowed(r.Host) {
		http.Error(
			w, "the dashboard is not served under this host name; see dashboard.AllowHosts",
			http.StatusMisdirectedRequest,
		)
		return
	}
	if d.isClosed() {
		http.Error(w, "the dashboard is closed", http.StatusServiceUnavailable)
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if name == "action" {
		d.act(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is served here", http.StatusMethodNotAllowed)
		return
	}
	switch name {
	case "":
		d.asset(w, r, "index.html", "text/html; charset=utf-8")
	case "app.js":
		d.asset(w, r, name, "text/javascript; charset=utf-8")
	case "style.css":
		d.asset(w, r, name, "text/css; charset=utf-8")
	case "api", "events":
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			http.Error(w, "another site may not ask for this", http.StatusForbidden)
			return
		}
		if name == "api" {
			d.api(w, r)
			return
		}
		d.watch(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request, name, contentType string) {
	content := assets[name]
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method != http.MethodHead {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d.patience))
		w.Write(content)
	}
}

// remember keeps an action for the page.
func (d *Dashboard) remember(a Action) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.actions) == mostActions {
		d.actions = slices.Delete(d.actions, 0, 1)
	}
	d.actions = append(d.actions, a)
}
