package policy_test

import (
	"strconv"
	"syscall"
)

// numbered is an error of the system, which has words for them and no numbers.
func numbered(n int) error { return syscall.ErrorString(strconv.Itoa(n)) }
