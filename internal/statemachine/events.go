package statemachine

import "sync"

// mostWaiting is how many events of one circuit may wait for a slow observer. Beyond it refusals are no longer kept
// for it, but still counted; changes of state always are.
const mostWaiting = 1024

// Events wait to be told, in order. They are under the circuit's mu, and what is told is told outside it.

// later keeps an event for unlockAndTell.
func (m *machine) later(event func()) {
	if m.observer != nil {
		m.remember()
		m.waiting = append(m.waiting, event)
	}
}

// observed reports whether refusals are told to anybody. It needs no lock.
func (m *machine) observed() bool { return m.observer != nil && m.observer.WantsRefusals() }

// wantsRefusals reports whether one more refusal is to be told.
func (m *machine) wantsRefusals() bool { return len(m.waiting) < mostWaiting && m.observed() }

// unlockAndTell releases mu, and delivers the events that wait unless another goroutine is at it.
func (m *machine) unlockAndTell(mu *sync.Mutex) {
	if len(m.waiting) == 0 || m.delivering {
		mu.Unlock()
		return
	}
	m.delivering = true
	for len(m.waiting) > 0 {
		batch := m.waiting
		m.waiting = nil
		mu.Unlock()
		m.deliver(mu, batch)
	}
	m.delivering = false
	mu.Unlock()
}

// deliver tells a batch and returns with mu locked. If the observer panics, what is left of the batch goes back to wait
// for the next unlock.
func (m *machine) deliver(mu *sync.Mutex, batch []func()) {
	done, completed := 0, false
	defer func() {
		mu.Lock()
		if !completed {
			m.waiting = append(batch[done:], m.waiting...)
			m.delivering = false
			mu.Unlock()
		}
	}()
	for _, event := range batch {
		done++
		event()
	}
	completed = true
}
