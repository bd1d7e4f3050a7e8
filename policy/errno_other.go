//go:build !unix && !windows

package policy

// No errors are told apart by number here: they are all of kind Other.
var localErrors, refusedErrors, resetErrors []error
