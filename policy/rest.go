package policy

import "math"

// A rest is how the rest of an upstream does while calls of one part of it are turned away.
type rest struct {
	than uint64 // the part of the first call that was; 0 if no parts are told apart
	good int    // calls of other parts that were answered well since; negative if one of them was turned away, too
}

// unlikely is what chance has to be less than, so that it is none.
const unlikely = 0.01

func (r *rest) turnedAway(part uint64) {
	if part != r.than {
		r.good = math.MinInt
	}
}

func (r *rest) well(part uint64) {
	if part != r.than {
		r.good++
	}
}

// isWell reports whether the part alone is turned away, of which a share of all calls is.
func (r *rest) isWell(share float64) bool {
	return r.than != 0 && r.good > 0 && math.Pow(1-share, float64(r.good)) < unlikely
}
