package logs

import (
	"sync"
	"time"
)

// mostLines is how many lines of a kind that anybody can make up there are in a time; the rest is counted.
const mostLines = 32

// sparing lets so many lines through in a time, and at its end has one written of the others.
type sparing struct {
	mu     sync.Mutex
	until  time.Time
	lines  int
	held   int
	others func(held int) // writes the line of the latest
}

func (s *sparing) takes(others func(held int)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !now.Before(s.until) && s.held == 0 {
		s.until, s.lines = now.Add(lineEvery), 0
	}
	if s.held == 0 && s.lines < mostLines {
		s.lines++
		return true
	}
	s.others = others
	if s.held++; s.held == 1 {
		time.AfterFunc(s.until.Sub(now), s.tell)
	}
	return false
}

func (s *sparing) tell() {
	s.mu.Lock()
	held, others := s.held, s.others
	s.held, s.others = 0, nil
	s.mu.Unlock()
	others(held)
}
