package read

import (
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// ahead finds the calls of a block that end long after those about them: a line with a wrong time, or a long call in
// records that are in order of start, as in HAR. Of these time must not go on, or all that come after them were late.
// The last calls of a block, of about 6,000, are not seen to be.
func (f *file) ahead(calls []record.Call, seconds []int64) {
	window := int64(f.source.settings.Window)
	for i := 0; i < len(calls); i++ {
		end := calls[i].End()
		if f.met && end <= f.before+window {
			f.before = max(f.before, end)
			continue
		}
		back := f.goesBack(calls[i:min(len(calls), i+enough)], window)
		if back == 0 {
			f.met, f.before = true, end
			continue
		}
		if back += i; !f.met {
			f.met, f.before = true, calls[back].End()
		}
		for ; i < back; i++ {
			c := &calls[i]
			if c.End() <= f.before+window {
				continue
			}
			f.early++
			if took := min(f.before-c.Start, 0) + window; took >= 0 {
				c.SetTook(min(max(c.Took(), 0), time.Duration(took)))
				continue
			}
			by := f.before - c.End()
			if f.format.about().whole {
				by = (f.before/second - seconds[i]>>1) * second
				seconds[i] += by / second << 1
			}
			c.Start += by
		}
		i--
	}
}

// enough is how many calls in a row are no strays: by as many a clock was set.
const enough = 20

// goesBack is which of the calls is the first that is of the time before the first of them; 0 if none is.
func (f *file) goesBack(calls []record.Call, window int64) int {
	end, before := calls[0].End(), f.before
	if !f.met {
		if len(calls) < 3 {
			return 0
		}
		if before = calls[1].End(); max(before-calls[2].End(), calls[2].End()-before) > window {
			return 0
		}
	}
	for i := 1; i < len(calls); i++ {
		if at := calls[i].End(); at < end-window && at >= before-window && at <= before+window {
			return i
		}
	}
	return 0
}

// newestFirst reports whether calls are in order of time backwards, as a query of stored logs often gives them, and by
// how much. Those that overlap are in no order, so each is compared with one further away.
func newestFirst(calls []record.Call) (by time.Duration, is bool) {
	const steps, enough = 20, 4
	step, back := len(calls)/steps, 0
	if step < 2 {
		return 0, false
	}
	for i := 0; i+step < len(calls); i += step {
		switch d := calls[i+step].End() - calls[i].End(); {
		case d > 0:
			return 0, false
		case d < 0:
			back++
		}
	}
	return time.Duration(calls[0].End() - calls[len(calls)-1].End()), back >= enough
}
