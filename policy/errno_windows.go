package policy

import "syscall"

// The codes of Windows Sockets, as errno_unix.go has those of Unix. See
// https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2.
var (
	localErrors = []error{
		syscall.Errno(10024), // WSAEMFILE
		syscall.Errno(10048), // WSAEADDRINUSE
		syscall.Errno(10049), // WSAEADDRNOTAVAIL
		syscall.Errno(10050), // WSAENETDOWN
		syscall.Errno(10051), // WSAENETUNREACH
		syscall.Errno(10055), // WSAENOBUFS
	}
	refusedErrors = []error{syscall.Errno(10061), syscall.Errno(10065)} // WSAECONNREFUSED, WSAEHOSTUNREACH
	resetErrors   = []error{syscall.Errno(10053), syscall.Errno(10054)} // WSAECONNABORTED, WSAECONNRESET
)
