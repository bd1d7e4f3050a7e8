// Package keys bounds what a key weighs.
package keys

import (
	"crypto/sha256"
	"fmt"
	"unicode/utf8"
)

const (
	// mostHost is longer than the scheme and any name that can be looked up (RFC 1035).
	mostHost   = 512
	mostDetail = 512
)

// Short returns the parts of the key that a circuit has for this one, and false if it has none because the host is too
// long. Then the key is what is looked at for states that are forced.
func Short(scheme, host, detail string) (shortScheme, shortHost, shortDetail string, ok bool) {
	if len(scheme)+len(host) > mostHost {
		scheme = scheme[:min(len(scheme), mostHost)]
		return scheme, host[:min(len(host), mostHost-len(scheme))], "", false
	}
	if len(detail) > mostDetail {
		sum := "... sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte(detail)))
		end := mostDetail - len(sum)
		for range utf8.UTFMax - 1 { // text stays text
			if !utf8.RuneStart(detail[end]) {
				end--
			}
		}
		detail = detail[:end] + sum
	}
	return scheme, host, detail, true
}
