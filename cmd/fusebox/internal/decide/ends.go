package decide

import (
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/internal/statemachine"
)

// end is a call that was let through and has not come back.
type end struct {
	at         int64 // when it does
	call       record.Call
	generation uint64               // of its permit, if that is plain
	permit     *statemachine.Permit // nil if it is
}

// ends are a heap of them, the soonest first.
type ends []end

func (h *ends) push(e end) {
	s := append(*h, e)
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if s[parent].at <= e.at {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = e
	*h = s
}

func (h *ends) pop() end {
	s := *h
	first, last := s[0], s[len(s)-1]
	s[len(s)-1].permit = nil
	s = s[:len(s)-1]
	*h = s
	if len(s) == 0 {
		return first
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].at < s[child].at {
			child++
		}
		if last.at <= s[child].at {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = last
	return first
}
