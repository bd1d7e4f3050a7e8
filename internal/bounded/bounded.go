// Package bounded keeps a bounded number of values by key. Who chooses the URLs of requests can make up any number of
// keys, but cannot have them answer: what is kept of an upstream that never has makes room for what is to be kept of
// one that has.
package bounded

import "iter"

// Map keeps values by the keys of circuits. It is known of each whether its upstream has ever answered. Not safe for
// concurrent use.
type Map[K comparable, V any] struct {
	most    int
	values  map[K]V
	unknown map[K]struct{} // of these
}

// New returns a Map for at most that many values.
func New[K comparable, V any](most int) *Map[K, V] {
	return &Map[K, V]{most: most, values: make(map[K]V), unknown: make(map[K]struct{})}
}

// Len returns how many values there are.
func (m *Map[K, V]) Len() int { return len(m.values) }

// Get returns the value of a key, if there is one.
func (m *Map[K, V]) Get(k K) (V, bool) {
	v, ok := m.values[k]
	return v, ok
}

// Put keeps a value, and reports whether it did: if there is no room, any value of an unknown key makes room for one of
// a known key. A key that was once known stays so until it is deleted.
func (m *Map[K, V]) Put(k K, v V, known bool) bool {
	_, had := m.values[k]
	if !had && len(m.values) >= m.most {
		if !known {
			return false
		}
		if _, ok := m.DropUnknown(); !ok {
			return false
		}
	}
	m.values[k] = v
	switch {
	case known:
		delete(m.unknown, k)
	case !had:
		m.unknown[k] = struct{}{}
	}
	return true
}

// Delete forgets a key.
func (m *Map[K, V]) Delete(k K) {
	delete(m.values, k)
	delete(m.unknown, k)
}

// DropUnknown forgets an unknown key, whichever it is, and returns what its value was. It reports false if there is
// none.
func (m *Map[K, V]) DropUnknown() (dropped V, ok bool) {
	for k := range m.unknown {
		dropped = m.values[k]
		m.Delete(k)
		return dropped, true
	}
	return dropped, false
}

// All yields all keys and values, known ones first. Those that it yields may be deleted meanwhile.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range m.values {
			if _, unknown := m.unknown[k]; !unknown && !yield(k, v) {
				return
			}
		}
		for k := range m.unknown {
			if !yield(k, m.values[k]) {
				return
			}
		}
	}
}
