package read

import "github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"

// spread spreads the calls of a second evenly over it, in the order in which they come, where a record has no more of
// its stamp than the second. Taken as they are, all calls of a second would come at once.
//
// Lines are written in order of end. So if the stamp is the start, a call that took long comes among calls of a later
// second, and ended when they did.
type spread struct {
	end     bool // the stamp is the end
	second  int64
	group   []record.Call
	further []bool // of the group, whether the call is a further attempt on the line of the one before
	begun   bool
	strays  uint64
}

// mostOfASecond is how many calls of one second are held.
const mostOfASecond = 1 << 17

// add takes a call whose stamp's second is at, or a further attempt on the line of the call before, and appends to out
// what of earlier seconds is done.
func (s *spread) add(c record.Call, at int64, further bool, out []record.Call) []record.Call {
	switch {
	case !s.begun:
		s.begun, s.second = true, at
	case at > s.second:
		out = s.flush(out)
		s.second = at
	case at < s.second && s.end: // of another process that wrote later, such as with a buffer
		if !further {
			s.strays++
		}
		c.Start += int64(s.strays * 0x9e3779b97f4a7c15 >> 34 * uint64(second) >> 30) // as evenly as can be, one by one
		return append(out, c)
	case len(s.group) >= mostOfASecond && !further:
		out = s.flush(out)
	}
	s.group, s.further = append(s.group, c), append(s.further, further)
	return out
}

// flush appends the calls of the second that is under way.
func (s *spread) flush(out []record.Call) []record.Call {
	if s.end {
		n, line := int64(0), int64(-1)
		for _, further := range s.further {
			if !further {
				n++
			}
		}
		for i := range s.group {
			if !s.further[i] {
				line++
			}
			s.group[i].Start += (2*max(line, 0) + 1) * second / (2 * max(n, 1))
		}
	} else {
		s.starts()
	}
	out = append(out, s.group...)
	s.group, s.further = s.group[:0], s.further[:0]
	return out
}

// starts spreads the starts of the second over it. Then, from the last to the first, none ends later than the one that was
// written after it, and so begins earlier if it took longer; those of earlier seconds are placed by that alone.
func (s *spread) starts() {
	begin, n := s.second*second, int64(0)
	for i := range s.group {
		if s.group[i].Start == begin {
			n++
		}
	}
	i, end := n, int64(1)<<62
	for at := len(s.group) - 1; at >= 0; at-- {
		c := &s.group[at]
		took := int64(max(c.Took(), 0))
		from := c.Start
		if from == begin {
			i--
			end = min(end, begin+(2*i+1)*second/(2*n)+took)
		} else {
			end = min(end, max(begin+second, from+took))
		}
		c.Start = min(max(from, end-took), from+second-1)
	}
}
