package decide

import "github.com/fusebox-go/fusebox/internal/statemachine"

const (
	defaultCircuits = 16384  // of a run at most, as of a Transport
	briefCircuits   = 2048   // of one that is brief, of which there are many
	idleTrouble     = 3600e9 // as of a Transport
	// mostSteps bounds the search for a circuit to forget. It is far less than a Transport's, which does not meet that
	// many new keys in a second.
	mostSteps = 8
)

// circuits are those of a run. What is forgotten to make room is found as by a Transport.
type circuits struct {
	most   int
	byKey  [][]*circuit // and by client
	ring   []*circuit
	hand   int
	passed int64 // calls for which there was no room
}

// of finds the circuit of a key and client, or makes it; nil if there is no room.
func (cs *circuits) of(run *run, key uint32, client, clients int, now int64) *circuit {
	for int(key) >= len(cs.byKey) {
		cs.byKey = append(cs.byKey, nil)
	}
	if cs.byKey[key] == nil {
		cs.byKey[key] = make([]*circuit, clients)
	}
	place := &cs.byKey[key][client]
	if *place != nil {
		return *place
	}
	at := len(cs.ring)
	if at < cs.most {
		cs.ring = append(cs.ring, nil)
	} else if at = cs.forget(now); at < 0 {
		cs.passed++
		return nil
	}
	c := &circuit{run: run, key: key, client: client, wake: never, span: -1}
	c.Circuit = statemachine.Stepped(run.configs[0], c)
	*place, cs.ring[at] = c, c
	return c
}

// forget makes room, and returns where; -1 if all are in use.
func (cs *circuits) forget(now int64) int {
	for _, spare := range []statemachine.Spare{
		statemachine.Unknown, statemachine.Quiet, statemachine.AnyClosed, statemachine.Idle,
	} {
		start := cs.hand
		for range 2 { // the second time, those that were used before the first one can be spared too
			cs.hand = start
			for range min(mostSteps, len(cs.ring)) {
				i := cs.hand
				cs.hand = (cs.hand + 1) % len(cs.ring)
				c := cs.ring[i]
				c.advance(now)
				if len(c.out) == 0 && len(c.forks) == 0 && c.Forget(at(now), spare, idleTrouble) {
					c.run.gone(c, now)
					cs.byKey[c.key][c.client] = nil
					return i
				}
			}
		}
	}
	return -1
}
