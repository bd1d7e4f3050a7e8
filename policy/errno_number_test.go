//go:build !plan9

package policy_test

import "syscall"

// numbered is an error of the system.
func numbered(n int) error { return syscall.Errno(n) }
