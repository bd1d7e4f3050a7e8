package decide

// Answer is what a policy did in a trouble.
type Answer struct {
	Opened bool
	After  int64 // calls of the key had begun in the trouble when it opened; less than 1 if it was open before
	At     int64 // it opened, the first time
	Closed int64 // the last time; 0 if it was open when the records ended
	Times  int   // it opened
}

// Answer is what the policy did in a trouble, by the spans that are kept.
func (o *Outcome) Answer(t *Trouble) (a Answer) {
	for i := range o.Spans {
		s := &o.Spans[i]
		if s.Key != t.Key || s.Opened > t.To || s.Closed != 0 && s.Closed < t.From {
			continue
		}
		if !a.Opened {
			a.Opened, a.At, a.After = true, s.Opened, s.Calls-t.First+1
		}
		a.Closed = s.Closed
		a.Times++
	}
	return a
}

// Matter returns the keys that matter most, at most so many: by what the policies refused and what failed, and then by
// their calls.
func (r *Result) Matter(most int) []uint32 {
	var top []uint32
	weight := func(key uint32) (w int64) {
		w = r.Keys[key].Failure
		for i := range r.Outcomes {
			if o := &r.Outcomes[i]; int(key) < len(o.Keys) {
				w = max(w, o.Keys[key].Refused+r.Keys[key].Failure)
			}
		}
		return w
	}
	before := func(a, b uint32) bool {
		if wa, wb := weight(a), weight(b); wa != wb {
			return wa > wb
		}
		if r.Keys[a].Calls != r.Keys[b].Calls {
			return r.Keys[a].Calls > r.Keys[b].Calls
		}
		return a < b
	}
	for key := range r.Keys {
		if r.Keys[key].Calls == 0 {
			continue
		}
		top = append(top, uint32(key))
		for i := len(top) - 1; i > 0 && before(top[i], top[i-1]); i-- {
			top[i], top[i-1] = top[i-1], top[i]
		}
		top = top[:min(len(top), most)]
	}
	return top
}

// Of is what the policy did to calls of a key.
func (o *Outcome) Of(key uint32) Totals {
	if int(key) < len(o.Keys) {
		return o.Keys[key]
	}
	return Totals{}
}
