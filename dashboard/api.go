package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	mostAnswers  = 64       // of api at a time
	answerTarget = 32 << 10 // bytes of rows, after which they are written
	mostPatience = 6        // times that with a watcher, for an answer as a whole
)

// api answers with everything at once. It is written in pieces, so that a client who reads slowly, or not at all, holds
// no more than one.
func (d *Dashboard) api(w http.ResponseWriter, r *http.Request) {
	if !d.join(&d.answers, mostAnswers) {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d are being answered already", mostAnswers), http.StatusServiceUnavailable)
		return
	}
	defer d.leave(&d.answers)
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	d.refresh()
	now := time.Now()
	top, err := json.Marshal(struct {
		Now time.Time `json:"now"`
		head
	}{now, d.head(r)})
	if err != nil {
		panic(err) // there is nothing in it that cannot be written
	}
	out := answer{w, http.NewResponseController(w), d, now.Add(mostPatience * d.patience)}
	piece := append(top[:len(top)-1], `,"circuits":[`...)
	for last, more := (*row)(nil), true; more; {
		piece, last, more = d.rowsAfter(piece, last)
		if !more {
			piece = append(piece, "]}\n"...)
		}
		if !out.write(piece) || more && (r.Context().Err() != nil || d.isClosed()) {
			panic(http.ErrAbortHandler) // or it would look like the whole
		}
		piece = piece[:0]
	}
}

// answer is one that is being written.
type answer struct {
	w      http.ResponseWriter
	stream *http.ResponseController
	d      *Dashboard
	latest time.Time
}

// write writes a piece in time, if the server can tell.
func (a *answer) write(piece []byte) bool {
	deadline := time.Now().Add(a.d.patience)
	if deadline.After(a.latest) {
		deadline = a.latest
	}
	if err := a.stream.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return false
	}
	if _, err := a.w.Write(piece); err != nil {
		return false
	}
	err := a.stream.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported)
}

// rowsAfter appends a piece of the rows after one, and reports whether there are more. It goes by the key's text
// because the table may be made anew between two pieces.
func (d *Dashboard) rowsAfter(piece []byte, last *row) (_ []byte, _ *row, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	order := d.table.order
	if last != nil {
		after, _ := slices.BinarySearchFunc(order, last.text, func(r *row, text string) int {
			if r.text <= text {
				return -1
			}
			return 1
		})
		order = order[after:]
	}
	now, start := slotOf(time.Now()), len(piece)
	for _, row := range order {
		if len(piece)-start > answerTarget {
			return piece, last, true
		}
		text, err := json.Marshal(rowMessage{ID: row.id, Circuit: row.changed(0), Bars: row.barsSince(0, now)})
		if err != nil {
			continue // events leave it out, too
		}
		if last != nil {
			piece = append(piece, ',')
		}
		piece, last = append(piece, text...), row
	}
	return piece, last, false
}
