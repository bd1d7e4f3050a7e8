package dashboard

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// Option changes what Handler makes.
type Option func(*options)

type options struct {
	noGoodCalls bool
	allow       func(*http.Request) bool // nil if nobody may act
	user        func(*http.Request) string
	log         func(Action)
	hosts       []string // in lower case; empty if any will do
}

// AllowActions lets those requests override circuits for which allow is true. Without it the page is read-only. Allow
// decides who the operator is, such as by a session, a client certificate or a header that a proxy sets; it is called
// for every look at the page too, to show the buttons or not. That a request was made by another site's page is found
// out here before allow is asked.
//
// An allow that trusts everybody who can reach the listener, such as one that always returns true on localhost or in a
// private network, needs AllowHosts beside it. Without it, a page of another site that an operator looks at can have
// its own name resolve to this server (DNS rebinding), and then acts in his place. An allow that asks for a secret of
// the operator does not need it.
func AllowActions(allow func(*http.Request) bool) Option {
	mustNotBeNil("AllowActions", allow == nil)
	return func(o *options) { o.allow = allow }
}

// WithUser sets what finds out who makes a request, for Action.User, of which 256 bytes are kept. It is called only for
// requests that AllowActions lets through, and before anything is done.
func WithUser(user func(*http.Request) string) Option {
	mustNotBeNil("WithUser", user == nil)
	return func(o *options) { o.user = user }
}

// WithActionLog sets what is told of every action twice, on the goroutine of its request: before it is done (Asked),
// and what came of it. If it panics before, nothing is done. LogActions makes one for a slog.Logger. The page shows the
// last fifty to everybody who can open it.
func WithActionLog(log func(Action)) Option {
	mustNotBeNil("WithActionLog", log == nil)
	return func(o *options) { o.log = log }
}

// AllowHosts makes the dashboard answer only under these host names, such as "localhost" or "ops.example.com:8443";
// without a port, any port will do. It keeps a page of another site out that has its own name resolve to this server's
// address (DNS rebinding), which matters most where the dashboard is open to all on localhost or in a private network.
func AllowHosts(hosts ...string) Option {
	if len(hosts) == 0 {
		panic("fusebox/dashboard: AllowHosts got no host; leave it out to allow any")
	}
	return func(o *options) {
		for _, host := range hosts {
			o.hosts = append(o.hosts, strings.ToLower(host))
		}
	}
}

// WithoutGoodCalls leaves good calls out of the strips, and they cost nothing then.
func WithoutGoodCalls() Option {
	return func(o *options) { o.noGoodCalls = true }
}

func (o *options) hostAllowed(host string) bool {
	if len(o.hosts) == 0 {
		return true
	}
	host = strings.ToLower(host)
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return slices.Contains(o.hosts, host) || slices.Contains(o.hosts, strings.Trim(name, "[]"))
}

func mustNotBeNil(option string, isNil bool) {
	if isNil {
		panic("fusebox/dashboard: " + option + " got nil; leave it out for the default")
	}
}
