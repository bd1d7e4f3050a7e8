package statemachine

import "sync"

// mostWaiting is how many events of one circuit may wait for a slow observer. Beyond it refusals are no longer kept
// for it, but still counted; changes of state always are.
const mostWaiting = 1024

// events wait to be told, in order. They are under the circuit's mu, and what is told is told outside it.
type events struct {
	observer   Observer  // nil if there is nobody to tell
	waiting    *[]func() // nil if there are none
	delivering bool
	hushed     bool // nobody is delivering, and nobody is to
}

// later keeps an event for unlock to deliver.
func (e *events) later(event func()) {
	if e.observer == nil {
		return
	}
	if e.waiting == nil {
		e.waiting = new([]func())
	}
	*e.waiting = append(*e.waiting, event)
}

// observed reports whether refusals are told to anybody. It needs no lock.
func (e *events) observed() bool { return e.observer != nil && e.observer.WantsRefusals() }

// wantsRefusals reports whether one more refusal is to be told.
func (e *events) wantsRefusals() bool {
	return (e.waiting == nil || len(*e.waiting) < mostWaiting) && e.observed()
}

// unlock releases mu, and delivers the events that wait unless another goroutine is at it.
func (e *events) unlock(mu *sync.Mutex) {
	if e.waiting == nil || e.delivering {
		mu.Unlock()
		return
	}
	e.delivering = true
	for e.waiting != nil {
		batch := *e.waiting
		e.waiting = nil
		mu.Unlock()
		e.deliver(mu, batch)
	}
	e.delivering = false
	mu.Unlock()
}

// deliver tells a batch and returns with mu locked. If the observer panics, what is left of the batch goes back to wait
// for the next unlock.
func (e *events) deliver(mu *sync.Mutex, batch []func()) {
	done, completed := 0, false
	defer func() {
		mu.Lock()
		if !completed {
			left := batch[done:]
			if e.waiting != nil {
				left = append(left, *e.waiting...)
			}
			if e.waiting = nil; len(left) > 0 {
				e.waiting = &left
			}
			e.delivering = false
			mu.Unlock()
		}
	}()
	for _, event := range batch {
		done++
		event()
	}
	completed = true
}
