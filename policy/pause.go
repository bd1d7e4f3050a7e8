package policy

import "time"

// A pause is what an upstream that turns calls away by 429 has said of when to come back.
type pause struct {
	row  int           // calls in a row that were told so
	told time.Time     // the last of them was
	wait time.Duration // for which it was told to wait, while hardly anything is sent; otherwise 0
}

func (p *pause) on() bool { return p.wait > 0 }

func (p *pause) left(now time.Time) time.Duration { return p.wait - passed(now, p.told) }

func (p *pause) until() time.Time { return p.told.Add(p.wait) }

const timeIsOver = "the time is over for which the upstream said to wait"

// told takes what one that was turned away was told, and reports whether there is a pause.
func (t *Throttling) told(now time.Time, wait time.Duration) bool {
	p := &t.pause
	switch {
	case p.on() && wait == 0:
		return true // and what was said before stands
	case p.on():
	case wait <= leastPace: // after which a call goes in any case
		p.row = 0
		return false
	default:
		if p.row++; p.row < fullScore {
			return false
		}
		t.because(ThrottledBy429, "%d calls in a row turned away by 429 (bound %d), the last was told to wait for %v",
			p.row, fullScore, rounded(wait))
		t.set(0, 0)
	}
	p.told, p.wait = now, min(wait, mostPause)
	return true
}

// comeBack ends a pause, since its time is over or a call was answered well. That a second was rounded up is no reason
// not to believe it.
func (t *Throttling) comeBack(now time.Time) {
	if left := t.pause.left(now); left > leastPace {
		t.giveUp(now, "a call was answered well, %v before the time that the upstream had named", rounded(left))
		return
	}
	t.release()
	t.because(ThrottleCalm, timeIsOver)
}
