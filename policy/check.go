package policy

import (
	"fmt"
	"time"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("fusebox/policy: "+format, args...)
}

// positiveOr returns the default for zero, and panics for a negative value: a programmer's error.
func positiveOr[T int | time.Duration](value, ifZero T, field string) T {
	if value < 0 {
		panic(invalid("%s is %v; write a positive value, or 0 for the default of %v", field, value, ifZero))
	}
	if value == 0 {
		return ifZero
	}
	return value
}

// percentOr is positiveOr for a share from 1 to 100 %.
func percentOr(value, ifZero int, field string) int {
	if value > 100 {
		panic(invalid("%s is %d; write a share from 1 to 100 %%", field, value))
	}
	return positiveOr(value, ifZero, field)
}
