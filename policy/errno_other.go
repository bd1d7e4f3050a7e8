//go:build !unix && !windows

package policy

// No errors are told apart by number here: they are all of KindOther.
var localErrors, refusedErrors, resetErrors []error
