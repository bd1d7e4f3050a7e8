package read

import "github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"

// spread spreads the calls of a second evenly over it, in the order in which they come, where a record has no more of
// its stamp than the second. Taken as they are, all calls of a second would come at once.
//
// Lines are written in order of end. Where the stamp is the end, the calls of a second are one after the other. Where it
// is the start, the second in which a call ended is at least that of its stamp and how long it took, and of whatever came
// before: by that they are one after the other, too, and the start is as much before the end as the call took, within the
// second of its stamp.
type spread struct {
	end    bool // the stamp is the end
	second int64
	group  []record.Call
	begun  bool
	strays uint64
}

// most is how many calls of one second are held.
const mostOfASecond = 1 << 19

// add takes a call whose stamp's second is at, and appends to out what of earlier seconds is done.
func (s *spread) add(c record.Call, at int64, out []record.Call) []record.Call {
	if !s.end {
		at = max(s.second, floor(c.End()))
	}
	switch {
	case !s.begun:
		s.begun, s.second = true, at
	case at > s.second:
		out = s.flush(out)
		s.second = at
	case at < s.second: // of another process that wrote later, such as with a buffer
		s.strays++
		c.Start += int64(s.strays * 0x9e3779b97f4a7c15 >> 34 * uint64(second) >> 30) // as evenly as can be, one by one
		return append(out, c)
	case len(s.group) >= mostOfASecond:
		out = s.flush(out)
	}
	s.group = append(s.group, c)
	return out
}

// flush appends the calls of the second that is under way.
func (s *spread) flush(out []record.Call) []record.Call {
	n := int64(len(s.group))
	for i := range s.group {
		c := &s.group[i]
		part := (2*int64(i) + 1) * second / (2 * n)
		if s.end {
			c.Start += part
		} else {
			start := s.second*second + part - int64(max(c.Took(), 0))
			c.Start = min(max(start, c.Start), c.Start+second-1)
		}
		out = append(out, *c)
	}
	s.group = s.group[:0]
	return out
}

func floor(ns int64) int64 {
	at := ns / second
	if ns%second < 0 {
		at--
	}
	return at
}
