package read

import "github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"

// spread spreads the calls of a second evenly over it, in the order in which they come, where a record has no more of
// its stamp than the second. Taken as they are, all calls of a second would come at once.
//
// Lines are written in order of end. So if the stamp is the start, a call that took long comes among calls of a later
// second, and ended when they did.
//
// If it is the end, a second in which an outage begins or ends is not full: of the calls that take long there were none
// in the second before, or of those that do not none in the one after. These are not spread over all of it, but are at
// its end or its beginning, as close together as in the full second beside it.
type spread struct {
	end     bool // the stamp is the end
	begun   bool
	current group // whose calls still come
	last    group // of the second before, if the stamp is the end: its calls wait for what comes after it
	before  [2]int
	strays  uint64
	places  []int64
}

// group is the calls of a second.
type group struct {
	second  int64
	calls   []record.Call
	further []bool // whether a call is a further attempt on the line of the one before
	counts  [2]int // lines, of those that are quick and of those that are slow
}

// slow is from where on a call is one that takes long.
const slow = second / 2

func slowness(c *record.Call) int {
	if int64(c.Took()) >= slow {
		return 1
	}
	return 0
}

// mostOfASecond is how many calls of one second are held.
const mostOfASecond = 1 << 17

// add takes a call whose stamp's second is at, or a further attempt on the line of the call before, and appends to out
// what of earlier seconds is done.
func (s *spread) add(c record.Call, at int64, further bool, out []record.Call) []record.Call {
	g := &s.current
	switch {
	case !s.begun:
		s.begun, g.second = true, at
	case at > g.second:
		out = s.next(at, out)
	case at < g.second && s.end: // of another process that wrote later, such as with a buffer
		if !further {
			s.strays++
		}
		c.Start += int64(s.strays * 0x9e3779b97f4a7c15 >> 34 * uint64(second) >> 30) // as evenly as can be, one by one
		return append(out, c)
	case len(g.calls) >= mostOfASecond && !further:
		out = s.next(g.second, out)
	}
	g.calls, g.further = append(g.calls, c), append(g.further, further)
	if !further {
		g.counts[slowness(&c)]++
	}
	return out
}

// next begins a second, and appends what is done.
func (s *spread) next(at int64, out []record.Call) []record.Call {
	if s.end {
		out = s.place(s.current.second, s.current.counts, out)
		s.last, s.current = s.current, s.last
	} else {
		s.starts()
		out = append(out, s.current.calls...)
	}
	s.current = group{at, s.current.calls[:0], s.current.further[:0], [2]int{}}
	return out
}

// flush appends all calls that are held.
func (s *spread) flush(out []record.Call) []record.Call {
	if !s.begun {
		return out
	}
	out = s.next(s.current.second+1, out)
	return s.place(s.current.second, [2]int{}, out)
}

// place places the calls of the last second, beside those of the second that comes after it in the log.
func (s *spread) place(second int64, after [2]int, out []record.Call) []record.Call {
	g := &s.last
	if len(g.calls) == 0 {
		s.before = [2]int{}
		return out
	}
	if second != g.second+1 && second != g.second {
		after = [2]int{}
	}
	s.ends(g, after)
	out = append(out, g.calls...)
	s.before = g.counts
	if second != g.second+1 && second != g.second {
		s.before = [2]int{}
	}
	g.calls, g.further = g.calls[:0], g.further[:0]
	return out
}

// ends spreads the ends of a second.
func (s *spread) ends(g *group, after [2]int) {
	n := int64(max(g.counts[0]+g.counts[1], 1))
	s.places = s.places[:0]
	var met [2]int
	line, edges := int64(0), false
	for i := range g.calls {
		if g.further[i] && len(s.places) > 0 {
			s.places = append(s.places, s.places[len(s.places)-1])
			continue
		}
		at := (2*line + 1) * second / (2 * n)
		line++
		of := slowness(&g.calls[i])
		count, b, a := g.counts[of], s.before[of], after[of]
		switch {
		case a == 0 && b >= few && count < b: // the last of them
			at, edges = (2*int64(met[of])+1)*second/(2*int64(b)), true
		case b == 0 && a >= few && count < a: // the first
			at, edges = second-(2*int64(count-met[of])-1)*second/(2*int64(a)), true
		}
		met[of]++
		s.places = append(s.places, at)
	}
	if edges {
		ascending(s.places)
	}
	for i := range g.calls {
		g.calls[i].Start += s.places[i]
	}
}

// few is how many calls of a second are too few to tell an outage from chance.
const few = 8

// ascending moves places no more than they must to be in order: to the middle of what was before each and what is
// after.
func ascending(places []int64) {
	lowest := places[len(places)-1]
	after := make([]int64, len(places))
	for i := len(places) - 1; i >= 0; i-- {
		lowest = min(lowest, places[i])
		after[i] = lowest
	}
	highest := places[0]
	for i := range places {
		highest = max(highest, places[i])
		places[i] = (highest + after[i]) / 2
	}
}

// starts spreads the starts of a second over it. Then, from the last to the first, none ends later than the one that
// was written after it, and so begins earlier if it took longer; those of earlier seconds are placed by that alone.
func (s *spread) starts() {
	g := &s.current
	begin, n := g.second*second, int64(0)
	for i := range g.calls {
		if g.calls[i].Start == begin {
			n++
		}
	}
	i, end := n, int64(1)<<62
	for at := len(g.calls) - 1; at >= 0; at-- {
		c := &g.calls[at]
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
