package read

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Report is what has been read.
type Report struct {
	Files []File // in the order in which they were given
}

// Counts is how many there were of what.
type Counts struct {
	Lines         int64 // of JSON documents, the calls in them
	NotUnderstood int64 // lines
	Others        int64 // lines that are understood, and are no calls: comments, a proxy's own messages
	Left          int64 // calls that Where, Key, From or To leave out
	// Calls is how many are given, of these outcomes. A line with several attempts is as many calls by the key
	// "upstream".
	Calls, Success, Failure, Ignored int64
	// Long is how many calls took longer than the window, and so begin at its edge.
	Long int64
	// Late is how many calls begin at the edge of the window for another reason: their records came late.
	Late int64
	// Back is how often the clock of the file was set back by more than the window.
	Back int64
}

// File is what has been read of one file.
type File struct {
	Name   string
	Format string // as Options.Format has it
	Stamp  Stamp
	Counts
	// Readings are the readings that occurred, most first.
	Readings []Reading
	// Strange are the first three lines that were not understood, cut to 500 bytes.
	Strange []Line
	// CannotShow says in a sentence each what a file of this format cannot tell.
	CannotShow []string
	// Notes says in a sentence each what is to be known of this file: the format was inferred, records seem to be
	// missing, the clock was set back.
	Notes       []string
	First, Last time.Time // of the starts and ends; zero if there was none
}

// Stamp is what the time of a record is.
type Stamp struct {
	End        bool          // the end of the call, and not its start
	Resolution time.Duration // a second's calls are spread evenly over it
	Took       bool          // the record says how long calls took
}

// Reading is what a kind of line was taken for.
type Reading struct {
	Words   string // such as "the caller left before an answer"
	Outcome policy.Outcome
	Calls   int64
	Lines   []Line // the first three, with Options.Explain
}

// Line is a line as it is, and what was read from it.
type Line struct {
	Number int64 // from 1; of JSON documents, the number of the call
	Text   string
	Read   string // such as "start 02:27:06.012, 4 ms, 127.0.0.1:18100, 200: success"; "" if nothing was
}

// Sum is all files together.
func (r Report) Sum() Counts {
	var sum Counts
	for i := range r.Files {
		c := &r.Files[i].Counts
		sum.Lines += c.Lines
		sum.NotUnderstood += c.NotUnderstood
		sum.Others += c.Others
		sum.Left += c.Left
		sum.Calls += c.Calls
		sum.Success += c.Success
		sum.Failure += c.Failure
		sum.Ignored += c.Ignored
		sum.Long += c.Long
		sum.Late += c.Late
		sum.Back += c.Back
	}
	return sum
}
