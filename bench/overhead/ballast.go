package main

// ballast is live memory, as a real program has it: in an almost empty heap, garbage collection would be most of what
// is measured.
var ballast []byte

const ballastSize = 64 << 20

func init() {
	ballast = touched(ballastSize)
	// And as much again as garbage, up to the first collection: a program that runs for a while has been given by the
	// system the memory that it works in, and does not wait for it at an allocation.
	for range ballastSize >> 13 {
		touched(1 << 13)
	}
}

func touched(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}
