package transport

import (
	"net/http"
	"net/http/httptrace"
	"time"
)

// An instance that vanished without a word leaves connections behind that are dead and do not look it. http.Transport
// has a pool of them, and a probe that goes over one of them says nothing of the instance that answers on new ones.

const (
	// mostStale is how many calls in a row silence says nothing of, because they went over connections from before. It
	// is more than the pools of http.DefaultTransport and New(nil) hold, so that whatever is dead in one is used up.
	mostStale = 128
	// mostShared is the same of HTTP/2, where a host has one connection or few, and each such call retires the one that
	// it is on.
	mostShared = 4
)

// speaks takes notice of what a response shows of its base, which is done once for HTTP/2 of an upstream, and for
// HTTP/3 at all.
func (c *circuit) speaks(resp *http.Response) {
	switch {
	case resp.ProtoMajor == 2 && !c.http2.Load():
		c.http2.Store(true)
	case resp.ProtoMajor > 2 && !c.t.http3.Load():
		c.t.http3.Store(true)
	}
}

// overNew has a call that goes to see how its upstream does use a new connection, as far as the base lets it; where it
// does not, the permit learns of it.
func (k *call) overNew(sent *http.Request) *http.Request {
	if !k.permit.Scout() || k.t.http3.Load() {
		return sent
	}
	http2, permit, stale := k.c.http2.Load(), k.permit, k.permit.Stale()
	if stale {
		k.t.CloseIdleConnections()
	}
	most := mostStale
	if http2 {
		most = mostShared
	}
	sent = sent.WithContext(httptrace.WithClientTrace(sent.Context(), &httptrace.ClientTrace{GotConn: func(
		info httptrace.GotConnInfo,
	) {
		now := time.Now()
		var since time.Time
		switch {
		case http2: // it is in use, or what ended last may have ended by a deadline
		case info.WasIdle:
			since = now.Add(-info.IdleTime)
		default:
			since = now // another call has just got its answer over it
		}
		permit.Reused(now, info.Reused, since, most)
	}}))
	// A connection of HTTP/2 is not idle while calls hang on it. It gets no others after one that is to close it;
	// nothing of that is sent.
	if stale && http2 && sent.Header.Get("Upgrade") == "" {
		sent.Close = true
	}
	return sent
}
