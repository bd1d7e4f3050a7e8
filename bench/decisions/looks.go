package main

import (
	"fmt"
	"os"
	"time"
)

// log appends a line to a file for a run of draws that are not for tuning: whoever looks at them often enough tunes on
// them, too. It does nothing for others.
func (ds *draws) log(file string, now time.Time) error {
	if ds.set != "look" && ds.set != "final" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s %s: %d families, %d draws of each",
		now.Format("2006-01-02 15:04"), ds.set, len(ds.families), len(ds.seeds))
	if own := ds.subject("fusebox"); own >= 0 {
		line += fmt.Sprintf(", fusebox %.2f", mean(ds.column(own)).Regret)
		if best := ds.bestPeer(-1); best >= 0 {
			line += fmt.Sprintf(", %s %.2f", ds.subjects[best].name, mean(ds.column(best)).Regret)
		}
	}
	if _, err = fmt.Fprintln(f, line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
