package statemachine

// mostWaiting is how many events of one circuit may wait for a slow observer. Beyond it refusals are no longer kept
// for it, but still counted; changes of state always are.
const mostWaiting = 1024

// tell keeps an event for unlock to deliver.
func (c *Circuit) tell(event func(Observer)) {
	if c.observer != nil {
		c.events = append(c.events, event)
	}
}

// unlock releases mu, and delivers the events that wait unless another goroutine is at it.
func (c *Circuit) unlock() {
	if len(c.events) == 0 || c.delivering {
		c.mu.Unlock()
		return
	}
	c.delivering = true
	for len(c.events) > 0 {
		batch := c.events
		c.events = nil
		c.mu.Unlock()
		c.deliver(batch)
	}
	c.delivering = false
	c.mu.Unlock()
}

// deliver tells the observer of a batch and returns with mu locked. If the observer panics, what is left of the
// batch goes back to wait for the next unlock.
func (c *Circuit) deliver(batch []func(Observer)) {
	done, completed := 0, false
	defer func() {
		c.mu.Lock()
		if !completed {
			c.events = append(batch[done:], c.events...)
			c.delivering = false
			c.mu.Unlock()
		}
	}()
	for _, event := range batch {
		done++
		event(c.observer)
	}
	completed = true
}
