package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fusebox-go/fusebox/internal/keys"
	"github.com/fusebox-go/fusebox/internal/visible"
)

// Key tells circuits apart. Keys can be compared.
//
// A circuit's key weighs at most 1024 bytes: a Detail longer than 512 is one that begins as it does and ends with a
// SHA-256 of it all, so that it has a circuit of its own still, and that is what observers, policies and storages get.
// A request whose scheme and host are longer than 512 bytes together, which no resolver knows, has no circuit and
// passes unwatched, unless it is forced open by what they begin with.
type Key struct {
	Scheme string // in lower case
	Host   string // canonical, with a port unless it is the scheme's own
	Detail string // what a KeyFunc adds: a method, a route, a tenant; empty by default
}

// String returns the key as "https://example.com", or "https://example.com GET /users/{id}" if it has a Detail, or as
// its Detail if that is all there is of it, and never as "". No two keys have the same text: what cannot be seen is
// escaped as in a Go string, and so are backslashes, and spaces that nobody would see or that would be taken for the
// one before the Detail. A Detail alone that has "://" in it stands behind ":// ".
func (k Key) String() string {
	if k.Scheme == "" && k.Host == "" && k.Detail != "" && !strings.Contains(k.Detail, "://") {
		return escape(k.Detail, unseen)
	}
	text := escape(k.Scheme, spaceOrColon) + "://" + escape(k.Host, anySpace)
	if k.Detail != "" {
		text += " " + escape(k.Detail, unseen)
	}
	return text
}

// unseen reports whether a byte is a space at an end of the text, or after another.
func unseen(text string, at int) bool {
	return text[at] == ' ' && (at == 0 || at == len(text)-1 || text[at-1] == ' ')
}

func anySpace(text string, at int) bool     { return text[at] == ' ' }
func spaceOrColon(text string, at int) bool { return text[at] == ' ' || text[at] == ':' }

// escape writes out what cannot be seen, backslashes, and what also is to be.
func escape(text string, also func(text string, at int) bool) string {
	var escaped []byte // nil as long as it is the text itself
	from := 0
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		broken := r == utf8.RuneError && size == 1
		if broken || r == '\\' || !visible.Rune(r) || also(text, at) {
			escaped = append(escaped, text[from:at]...)
			if broken || visible.Rune(r) && r != '\\' {
				escaped = append(escaped, '\\', 'x', hex[text[at]>>4], hex[text[at]&0xf])
			} else {
				quoted := strconv.AppendQuoteRuneToASCII(nil, r)
				escaped = append(escaped, quoted[1:len(quoted)-1]...)
			}
			from = at + size
		}
		at += size
	}
	if from == 0 {
		return text
	}
	return string(append(escaped, text[from:]...))
}

const hex = "0123456789abcdef"

// MarshalText writes the key as String does.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Pattern returns the pattern for Force, Release and Reset that matches this key alone.
func (k Key) Pattern() string {
	k.Scheme, k.Host, k.Detail, _ = keys.Short(k.Scheme, k.Host, k.Detail)
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(k.String())
}
