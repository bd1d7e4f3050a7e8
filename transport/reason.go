package transport

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// mostReason is how many bytes of a classifier's reason are kept: there can be one with each sample of each circuit.
const mostReason = 64

// reasonOf makes a reason fit into a line of a log, whatever is in it: it may have been built of what an upstream sent,
// all of which is not to be kept for it either.
func reasonOf(text string) string {
	var line strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if line.Len()+utf8.RuneLen(r) > mostReason {
			break
		}
		line.WriteRune(r)
	}
	return line.String()
}
