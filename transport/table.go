package transport

import (
	"hash/maphash"
	"sync/atomic"
)

// A table finds circuits by their keys. Finding takes no lock: it reads the slots from where the key's hash says on,
// to the first that is empty. Putting and removing are under a lock of whoever has the table. It takes 16 to 32 bytes a
// circuit, and touches one line of memory beside the circuit's own; a sync.Map takes a hundred, and five.
type table struct {
	slots atomic.Pointer[[]atomic.Pointer[circuit]] // a power of two of them
	live  int                                       // circuits in it
	used  int                                       // slots that are not empty
}

// leastSlots is how many slots there are at least.
const leastSlots = 16

// seed makes it impossible to choose keys that collide.
var seed = maphash.MakeSeed()

// removed takes the slot of a circuit that was removed, so that those behind it are found.
var removed = new(circuit)

// hash is mostly of the host, which is what most keys differ by.
func hash(k *Key) uint64 {
	sum := maphash.String(seed, k.Host) + uint64(len(k.Scheme))*0x9e3779b97f4a7c15
	if k.Detail != "" {
		sum ^= maphash.String(seed, k.Detail) * 0x9e3779b97f4a7c15
	}
	return sum
}

// find returns nil if there is none.
func (t *table) find(k *Key) *circuit {
	slots := t.slots.Load()
	if slots == nil {
		return nil
	}
	last := uint64(len(*slots) - 1)
	for i := hash(k); ; i++ {
		c := (*slots)[i&last].Load()
		if c == nil || c != removed && c.key.Host == k.Host && c.key.Scheme == k.Scheme && c.key.Detail == k.Detail {
			return c
		}
	}
}

// put adds a circuit whose key has none.
func (t *table) put(c *circuit) {
	slots := t.slots.Load()
	if slots == nil || 4*(t.used+1) > 3*len(*slots) {
		slots = t.rebuilt(slots)
	}
	fill(*slots, c)
	t.live++
	t.used++
}

// rebuilt returns slots without those that were removed, of which a third to two thirds are empty.
func (t *table) rebuilt(old *[]atomic.Pointer[circuit]) *[]atomic.Pointer[circuit] {
	n := leastSlots
	for 2*n < 3*(t.live+1) {
		n *= 2
	}
	slots := make([]atomic.Pointer[circuit], n)
	if old != nil {
		for i := range *old {
			if c := (*old)[i].Load(); c != nil && c != removed {
				fill(slots, c)
			}
		}
	}
	t.used = t.live
	t.slots.Store(&slots)
	return &slots
}

func fill(slots []atomic.Pointer[circuit], c *circuit) {
	last := uint64(len(slots) - 1)
	i := hash(&c.key)
	for slots[i&last].Load() != nil {
		i++
	}
	slots[i&last].Store(c)
}

// remove takes a circuit out.
func (t *table) remove(c *circuit) {
	slots := *t.slots.Load()
	last := uint64(len(slots) - 1)
	for i := hash(&c.key); ; i++ {
		switch slots[i&last].Load() {
		case c:
			slots[i&last].Store(removed)
			t.live--
			return
		case nil:
			return
		}
	}
}
