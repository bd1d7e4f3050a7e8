//go:build unix

package policy

import "syscall"

// What an operating system says when a connection fails, and whom it blames.
//
// ENETUNREACH and EHOSTUNREACH are "no route": nothing was ever sent to the upstream. A neighbour that is switched
// off can show as EHOSTUNREACH too; OnError(Failure, syscall.EHOSTUNREACH) counts it where that is the likelier
// reason.
var (
	localErrors = []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
		syscall.ENETDOWN, syscall.ENOBUFS, syscall.ENOMEM,
	}
	refusedErrors = []error{syscall.ECONNREFUSED}
	resetErrors   = []error{syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE}
	fileErrors    = []error{syscall.EMFILE, syscall.ENFILE} // whose text is all that a resolver keeps
)
