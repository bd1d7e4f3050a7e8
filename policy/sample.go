package policy

import "time"

// Sample is what a circuit remembers of the failures of one cause.
type Sample struct {
	Cause Cause     `json:"cause"`
	Count uint64    `json:"count"`           // how many there were
	At    time.Time `json:"at"`              // of the last one
	Trace string    `json:"trace,omitempty"` // id of the trace of the last one that had one
}
