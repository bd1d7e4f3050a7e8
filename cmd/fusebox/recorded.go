package main

import (
	"io"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/recorder"
)

// recorded is the format of package recorder.
var recorded = read.Own{
	Name:  "recorder",
	Magic: recorder.Magic,
	Open: func(r io.Reader, keys *record.Keys) (read.Calls, error) {
		calls, err := recorder.NewReader(r)
		return &recordedCalls{calls: calls, keys: keys}, err
	},
}

type recordedCalls struct {
	calls   *recorder.Reader
	keys    *record.Keys
	numbers []uint32 // of the keys of the file
	err     error    // with which it ended
}

// Next ends a file that is cut, as that of a process that was killed, where it is.
func (r *recordedCalls) Next(buf []record.Call) (n int, err error) {
	for n < len(buf) && r.err == nil {
		var from recorder.Call
		if r.err = r.calls.Next(&from); r.err == io.ErrUnexpectedEOF {
			r.err = io.EOF
		}
		if r.err != nil {
			break
		}
		for from.KeyIndex >= len(r.numbers) {
			r.numbers = append(r.numbers, none)
		}
		if r.numbers[from.KeyIndex] == none {
			r.numbers[from.KeyIndex] = r.keys.Number(from.Key.String())
		}
		to := &buf[n]
		*to = record.Call{Start: from.Start.UnixNano(), Key: r.numbers[from.KeyIndex]}
		to.SetTook(from.Took)
		to.SetCause(from.Cause)
		to.SetOutcome(from.Outcome)
		if from.Refused {
			to.SetRefused()
		}
		n++
	}
	if n == 0 {
		return 0, r.err
	}
	return n, nil
}

const none = 1<<32 - 1
