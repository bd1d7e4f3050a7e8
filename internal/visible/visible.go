// Package visible writes text for people so that they see all that is in it. What turns the direction of a line, takes
// no room or looks like a space is escaped: a name with such characters can look like another name, and hide what it
// does.
package visible

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with what cannot be seen, and bytes that are no UTF-8, escaped as in a Go string, such as \u202e. What
// is visible stays as it is, backslashes too, so that a name that spells an escape out looks like one that has the
// character.
func Text(s string) string { return escaped(s, "") }

// Short is Text of at most so many bytes, from the start of s. It keeps nothing else of the memory of s.
func Short(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	if s = Text(s); len(s) > most {
		s = s[:most]
	}
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return strings.Clone(s)
}

// Pattern is Text for a pattern of keys (transport.Transport.Force): it matches the text of keys that have the
// character, which is escaped, too.
func Pattern(s string) string { return escaped(s, `\`) }

// Rune reports whether a character can be seen by itself: of all spaces and formats that of ASCII alone.
func Rune(r rune) bool {
	return unicode.IsPrint(r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && r != '\u2800'
}

func escaped(s, before string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !Rune(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(before + `\x` + strconv.FormatUint(uint64(s[0]), 16))
		case Rune(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(before + quoted[1:len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
