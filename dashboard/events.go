package dashboard

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	lookEvery   = time.Second
	quietFor    = 10 * time.Second // after which those who watch are told that nothing has changed
	eventTarget = 64 << 10         // bytes, after which no further row is added to an event
	mostNews    = 1000             // rows a second of whose numbers a watcher hears; beyond it, he hears less often
	mostLull    = barFor           // but not less often than this
)

// watcher is one who watches, and what was sent.
type watcher struct {
	d        *Dashboard
	r        *http.Request
	sent     map[uint32]sentRow
	head     [sha256.Size]byte // of what was sent, which can be long
	lastSent time.Time
	looked   time.Time     // when the table was made for which lull is
	lull     time.Duration // how long a row is not sent again for its numbers alone
}

type sentRow struct {
	at      time.Time // of the table
	version uint64
	slot    uint32 // up to which bars were sent
	good    uint32 // in the bar of that slot
	bad     uint32
}

// message is an event.
type message struct {
	Now  int64           `json:"now"` // Unix time in milliseconds
	Head json.RawMessage `json:"head,omitempty"`
	Rows []rowMessage    `json:"rows,omitempty"`
	Gone []uint32        `json:"gone,omitempty"`
	More bool            `json:"more,omitempty"` // another event follows at once
}

// watch serves the stream of events: everything at first, in pieces, and then what changes. All work is done by the
// goroutine of the request, and a watcher who reads slowly misses what came in between.
func (d *Dashboard) watch(w http.ResponseWriter, r *http.Request) {
	if !d.join(&d.watchers, mostWatchers) {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d watch already", mostWatchers), http.StatusServiceUnavailable)
		return
	}
	defer d.leave(&d.watchers)
	if r.Method == http.MethodHead {
		return
	}
	stream := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would wait for more
	if err := stream.Flush(); err != nil {
		http.Error(w, "the server cannot stream: "+err.Error(), http.StatusInternalServerError)
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	in := watcher{d: d, r: r, sent: make(map[uint32]sentRow)}
	for {
		d.refresh()
		for more := true; more; {
			var event []byte
			event, more = in.next()
			if event == nil {
				break
			}
			if err := stream.SetWriteDeadline(time.Now().Add(d.patience)); err != nil &&
				!errors.Is(err, http.ErrNotSupported) {
				return
			}
			if _, err := w.Write(event); err != nil {
				return
			}
			if err := stream.Flush(); err != nil {
				return
			}
			// over HTTP/2 it, or the server's own, would end the stream even if nothing is written
			stream.SetWriteDeadline(time.Time{})
		}
		select {
		case <-r.Context().Done():
			return
		case <-d.closed:
			return
		case <-tick.C:
		}
	}
}

// join counts one more of those who watch or are answered, if there may be one.
func (d *Dashboard) join(those *int, most int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if *those >= most {
		return false
	}
	*those++
	return true
}

// leave is its counterpart. Once nobody has asked for a while, the table is given back; a page that looks every few
// seconds finds it.
func (d *Dashboard) leave(those *int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*those--
	if d.watchers+d.answers > 0 {
		return
	}
	if d.unused == nil {
		d.unused = time.AfterFunc(d.keep, d.forget)
		return
	}
	d.unused.Reset(d.keep)
}

func (d *Dashboard) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watchers+d.answers == 0 {
		d.table = table{last: d.table.last}
	}
}

// next returns the next event, or nil if there is nothing to tell, and whether there is more.
func (in *watcher) next() (event []byte, more bool) {
	m := message{Now: time.Now().UnixMilli()}
	if head, err := json.Marshal(in.d.head(in.r)); err == nil && sha256.Sum256(head) != in.head {
		m.Head, in.head = head, sha256.Sum256(head)
	}
	in.rows(&m)
	if m.Head == nil && m.Rows == nil && m.Gone == nil && time.Since(in.lastSent) < quietFor {
		return nil, false
	}
	in.lastSent = time.Now()
	data, err := json.Marshal(m)
	if err != nil {
		return nil, false
	}
	event = append(event, "id: "+strconv.FormatInt(m.Now, 10)+"\ndata: "...)
	return append(append(event, data...), "\n\n"...), m.More
}

// rows adds the rows that have changed since they were sent, those that were sent longest ago first.
func (in *watcher) rows(m *message) {
	in.d.mu.Lock()
	defer in.d.mu.Unlock()
	table := &in.d.table
	now := slotOf(table.at)
	var due []*row
	for _, r := range table.order {
		if in.news(r, now) {
			due = append(due, r)
		}
	}
	if in.looked != table.at {
		in.looked, in.lull = table.at, 0
		if len(due) > mostNews {
			in.lull = min(mostLull, time.Duration(len(due))*time.Second/mostNews)
		}
	}
	due = slices.DeleteFunc(due, func(r *row) bool {
		sent := in.sent[r.id]
		return r.turned <= sent.version && table.at.Sub(sent.at) < in.lull
	})
	slices.SortStableFunc(due, func(a, b *row) int { return cmp.Compare(in.sent[a.id].slot, in.sent[b.id].slot) })
	size := 0
	for _, r := range due {
		if size > eventTarget {
			m.More = true
			break
		}
		sent := in.sent[r.id]
		message := rowMessage{ID: r.id, Circuit: r.changed(sent.version), Bars: r.barsSince(sent.slot, now)}
		m.Rows = append(m.Rows, message)
		size += len(message.Circuit) + 24*len(message.Bars) + 16
		sent = sentRow{at: table.at, version: r.version, slot: now}
		if last := len(message.Bars) - 1; last >= 0 && message.Bars[last][0] == now {
			sent.good, sent.bad = message.Bars[last][1], message.Bars[last][2]+message.Bars[last][3]
		}
		in.sent[r.id] = sent
	}
	if m.More || len(in.sent) == len(table.order) { // every row of the table is among those sent
		return
	}
	there := make(map[uint32]bool, len(table.order))
	for _, r := range table.order {
		there[r.id] = true
	}
	for id := range in.sent {
		if !there[id] {
			m.Gone = append(m.Gone, id)
			delete(in.sent, id)
		}
	}
}

// news reports whether there is any of a row. Good calls alone are news when their bar is complete.
func (in *watcher) news(r *row, now uint32) bool {
	sent, known := in.sent[r.id]
	if !known || sent.version != r.version {
		return true
	}
	if r.series == nil {
		return false
	}
	good, bad := r.series.in(sent.slot)
	if bad != sent.bad || now > sent.slot && good != sent.good {
		return true
	}
	for slot := max(sent.slot+1, now-mostBars+1); slot <= now; slot++ {
		if good, bad := r.series.in(slot); good+bad > 0 {
			return true
		}
	}
	return false
}
