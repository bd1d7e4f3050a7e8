package dashboard

import "time"

// SetPatience sets how long a watcher may not read, before anybody watches.
func (d *Dashboard) SetPatience(patience time.Duration) { d.patience = patience }
