package dashboard

import "time"

// SetPatience sets how long a watcher may not read, before anybody watches.
func (d *Dashboard) SetPatience(patience time.Duration) { d.patience = patience }

// SetKeep sets how long the table is kept once nobody asks for it.
func (d *Dashboard) SetKeep(keep time.Duration) { d.keep = keep }
