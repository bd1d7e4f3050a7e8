package policy

// ChangeReason is why a circuit changed its state. It is what logs, metrics and the dashboard show.
type ChangeReason string

const (
	ChangeTripped        ChangeReason = "tripped"          // its rule said so
	ChangeTrippedByFleet ChangeReason = "tripped by fleet" // with what other members of its fleet said
	ChangeOpenTimePassed ChangeReason = "open time passed" // a trial begins
	ChangeProbeSucceeded ChangeReason = "probe succeeded"  // a recovery begins
	// another member's probe succeeded, and this one joins the recovery
	ChangeAnsweredInFleet ChangeReason = "answered in fleet"
	ChangeRecovered       ChangeReason = "recovered"
	ChangeRecoveryFailed  ChangeReason = "recovery failed"
	ChangeByHand          ChangeReason = "by hand"  // Transport.SetState
	ChangeForced          ChangeReason = "forced"   // Transport.Force
	ChangeReleased        ChangeReason = "released" // Transport.Release
	ChangeReset           ChangeReason = "reset"    // Transport.Reset
	ChangeRestored        ChangeReason = "restored" // Transport.RestoreFrom, or a Storage
)
