package decide

import (
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Columns is how many a strip of time has.
const Columns = 1200

// Axis divides a time into Columns. They become twice as wide when they do not reach any more, and two of before are
// one.
type Axis struct {
	From  int64 // in nanoseconds since 1970; 0 if there is nothing yet
	Width int64 // of a column, in nanoseconds
	// what the last column asked for reaches from and to, so that calls in order of their start need no division
	column   int
	low, top int64
}

const firstWidth = 1e6

// at returns the column of a time, and how often all columns have to be joined in pairs before that is right.
func (a *Axis) at(t int64) (column, joins int) {
	if t >= a.low && t < a.top {
		return a.column, 0
	}
	if a.Width == 0 {
		a.From, a.Width = t, firstWidth
	}
	t = max(t, a.From)
	for (t-a.From)/a.Width >= Columns {
		a.Width *= 2
		joins++
	}
	a.column = int((t - a.From) / a.Width)
	a.low = a.From + int64(a.column)*a.Width
	a.top = a.low + a.Width
	return a.column, joins
}

// join makes one column of each two.
func join[T uint32 | uint8](columns []T, both func(a, b T) T) {
	for i := range columns {
		if 2*i+1 < len(columns) {
			columns[i] = both(columns[2*i], columns[2*i+1])
		} else {
			columns[i] = 0
		}
	}
}

func sum(a, b uint32) uint32 {
	if a+b < a {
		return 1<<32 - 1
	}
	return a + b
}

func either(a, b uint8) uint8 { return a | b }

// Strip is what came of the calls of a key that began in each column.
type Strip struct {
	Key                   uint32
	Good, Failed, Ignored [Columns]uint32
}

func (s *Strip) join() {
	join(s.Good[:], sum)
	join(s.Failed[:], sum)
	join(s.Ignored[:], sum)
}

// Lane is what a policy did with them.
type Lane struct {
	States [Columns]uint8 // a bit for each state in which a circuit of the key was, but for closed
	// calls that were refused, by what they came to
	Price, Gain, Neither [Columns]uint32
}

// The bits of Lane.States.
const (
	WasOpen = 1 << iota
	WasHalfOpen
)

func stateBit(s policy.State) uint8 {
	switch s {
	case policy.Open:
		return WasOpen
	case policy.HalfOpen:
		return WasHalfOpen
	}
	return 0
}

func (l *Lane) refuse(column int, call *record.Call) {
	switch outcome := call.Outcome(); {
	case call.Refused():
		l.Neither[column]++
	case outcome == policy.Success:
		l.Price[column]++
	case outcome == policy.Failure:
		l.Gain[column]++
	default:
		l.Neither[column]++
	}
}

func (l *Lane) join() {
	join(l.States[:], either)
	join(l.Price[:], sum)
	join(l.Gain[:], sum)
	join(l.Neither[:], sum)
}
