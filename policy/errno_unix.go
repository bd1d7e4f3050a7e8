//go:build unix

package policy

import "syscall"

// What an operating system says when a connection fails, and whom it blames.
//
// ENETUNREACH is that there is no route at all: nothing was ever sent to any upstream. EHOSTUNREACH is of one host: a
// router or a firewall has rejected what was sent to it, or nobody in the local network answers for its address, as
// after a pod was deleted. If the way to all of them is cut behind the first router, all circuits open together, and
// that is told as LocalTrouble.
var (
	localErrors = []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.ENETUNREACH,
		syscall.ENETDOWN, syscall.ENOBUFS, syscall.ENOMEM,
	}
	refusedErrors = []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH}
	resetErrors   = []error{syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE}
)
