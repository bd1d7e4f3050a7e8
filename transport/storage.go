package transport

import (
	"errors"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
)

// Record is what a Storage keeps of a circuit.
type Record struct {
	Key       Key          `json:"key"`
	State     policy.State `json:"state"`
	Since     time.Time    `json:"since"`
	NextProbe time.Time    `json:"next_probe,omitzero"` // the earliest time of the next probe, if State is Open
	Failures  int          `json:"failures"`            // what the rule had in view when the state changed
	Successes int          `json:"successes"`
	// Known is that of Snapshot. A Storage makes room by it; and what one Transport knows, a record of another that
	// does not takes back nowhere.
	Known bool `json:"known"`
}

// Storage keeps the states of circuits where they outlive a Transport, or where others can read them.
//
// Load is called once for a key, when its circuit is made, and Save after every change of state, in order; both on
// the goroutine of a request, which waits for them: a Storage on the far side of a network should answer Load from
// what it has at hand and Save in the background. If either returns an error, or does not know the key, the
// circuit goes on with what it knows itself, closed at first, and OnStorageError is told.
// The methods may be called by many goroutines at once.
type Storage interface {
	// Load returns the record of a key, and ErrNoRecord if there is none.
	Load(Key) (Record, error)
	Save(Record) error
}

// ErrNoRecord is the error of Storage.Load for a key of which nothing was saved.
var ErrNoRecord = errors.New("fusebox: no record of this circuit")

// MemoryStorage is a Storage for the Transports of one process. The zero value is empty and ready to use. It keeps
// 16384 records at most; those of circuits that are not Known make room for others, and then those of closed ones.
type MemoryStorage struct {
	mu      sync.Mutex
	records *bounded.Map[Key, Record] // nil if empty
}

// Load returns the last record saved under the key.
func (m *MemoryStorage) Load(k Key) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records != nil {
		if r, ok := m.records.Get(k); ok {
			return r, nil
		}
	}
	return Record{}, ErrNoRecord
}

// Save keeps the record. It is Known if one is that was saved before under its key, by whichever Transport. It returns
// an error if there is no room for one more.
func (m *MemoryStorage) Save(r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = bounded.New[Key, Record](defaultMaxCircuits)
	}
	if old, ok := m.records.Get(r.Key); ok && old.Known {
		r.Known = true // another Transport has had an answer
	}
	if m.records.Put(r.Key, r, r.Known) {
		return nil
	}
	if _, ok := m.records.DropUnknown(); !ok && !m.dropClosed() {
		return errNoRoom
	}
	m.records.Put(r.Key, r, r.Known)
	return nil
}

// dropClosed forgets the record of a circuit that is closed, which says no more than that there is none, if there is
// one among a few.
func (m *MemoryStorage) dropClosed() bool {
	looked := 0
	for key, r := range m.records.All() {
		if r.State == policy.Closed {
			m.records.Delete(key)
			return true
		}
		if looked++; looked == 64 {
			break
		}
	}
	return false
}

var errNoRoom = errors.New("fusebox: too many records")

// restore gives a new circuit the state that the storage has of it. One that was half-open is due for a probe.
func (t *Transport) restore(c *circuit) {
	if t.storage == nil {
		return
	}
	record, err := t.storage.Load(c.key)
	if errors.Is(err, ErrNoRecord) {
		return
	}
	if err != nil {
		t.storageFailed(c.key, err)
		return
	}
	now := time.Now()
	since := believed(record.Since, now)
	switch record.State {
	case policy.Open:
		c.Restore(now, record.NextProbe, since, record.Known)
	case policy.HalfOpen:
		c.Restore(now, now, since, record.Known)
	}
}

func (t *Transport) save(change StateChange) {
	if t.storage == nil || change.Reason == policy.ChangeRestored {
		return
	}
	err := t.storage.Save(Record{
		Key: change.Key, State: change.To, Since: change.At, NextProbe: change.NextProbe,
		Failures: change.Failures, Successes: change.Successes, Known: change.Known,
	})
	if err != nil {
		t.storageFailed(change.Key, err)
	}
}

func (t *Transport) storageFailed(k Key, err error) {
	for _, observer := range t.observers.all() {
		if observer.OnStorageError != nil {
			observer.OnStorageError(StorageError{Key: k, Err: err})
		}
	}
}
