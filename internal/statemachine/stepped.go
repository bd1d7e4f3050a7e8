package statemachine

import (
	"reflect"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Stepped makes a closed circuit that reads no clock and has no timer: it is driven by the times that its caller tells,
// which can be those of calls of long ago. Its caller uses AcquireClosedAt in place of AcquireClosed, and calls Wake
// when WakeAt has come, before anything that happens later. One goroutine uses it at a time.
func Stepped(config *Config, observer Observer) *Circuit {
	c := New(config, observer, nil)
	c.machine.canary.stepped = true
	return c
}

// AcquireClosedAt is AcquireClosed of a circuit that is Stepped.
func (c *Circuit) AcquireClosedAt(now time.Time) (Permit, bool) {
	return c.acquireClosed(c.word.Load(), now)
}

// WakeAt is when a circuit that is Stepped wants to be woken; false if it does not.
func (c *Circuit) WakeAt() (at time.Time, wants bool) {
	wake := c.machine.canary.wake
	return wake.time(), wake != 0
}

// Wake does what is due by now. For a circuit that is not Stepped a timer does.
func (c *Circuit) Wake(now time.Time) {
	c.lock()
	defer c.quietly()
	c.machine.wake(now)
}

// AtRest reports whether the circuit is closed and a success would change nothing.
func (c *Circuit) AtRest() bool {
	return c.word.Load()&(stateBits|quietBit) == uint64(policy.Closed)|quietBit
}

// Fork makes a circuit that is Stepped of one that has just opened by r: the same by the same rules, but that the
// config has a Random of its own, which is asked anew for the jitter of the wait. Calls that are under way are not the
// fork's.
func (c *Circuit) Fork(now time.Time, r policy.Result, config *Config, observer Observer) *Circuit {
	fork := Stepped(config, observer)
	m, memory := c.machine, *c.machine.past
	m.config, m.observer, m.delivering, m.past = config, observer, false, &memory
	m.trip = copied(c.machine.seenTrip(), config.Rules.Trip.NewTrip)
	m.probe = config.Rules.Probe.NewProbe()
	m.probe.Trip(now, r, config.Random())
	if m.throttle != nil {
		own := *m.throttle
		m.throttle = &own
	}
	trouble := *c.machine.trouble
	m.recover, m.recoverOf = copied(m.recover, config.Rules.Recover.NewRecover), config
	m.trouble, m.waiting = &trouble, nil
	m.failures.samples = samples{}
	fork.machine = m
	fork.publish()
	return fork
}

// copied copies a rule's memory, if it refers to nothing that the copy would share; otherwise it is a new one.
func copied[Memory any](memory Memory, fresh func() Memory) Memory {
	v := reflect.ValueOf(memory)
	if v.Kind() != reflect.Pointer || !isPlain(v.Type().Elem()) {
		return fresh()
	}
	twin := reflect.New(v.Type().Elem())
	twin.Elem().Set(v.Elem())
	return twin.Interface().(Memory)
}

// isPlain reports whether a value of that type shares nothing with its copy.
func isPlain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Func, reflect.Chan:
		return false
	case reflect.Array:
		return isPlain(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return true
		}
		for i := range t.NumField() {
			if !isPlain(t.Field(i).Type) {
				return false
			}
		}
	}
	return true
}
