package transport

import (
	"fmt"
	"strings"

	"github.com/fusebox-go/fusebox/internal/visible"
)

// mostPattern is longer than the pattern of any key that a circuit can have, in bytes.
const mostPattern = 8 << 10

// pattern is what a text with stars in it describes, taken apart once: itself, but for each * any text. After a
// backslash each character stands for itself, unless the two are how the text of a key has what cannot be seen.
type pattern struct {
	first, last string
	inner       []string // what stands between stars, in order; none of it is empty
	exact       bool     // there is no star, and first is all
}

// escapes is what the escapes in the text of a key go on with, but for the backslash itself.
const escapes = "abfnrtvxuU"

// visiblePattern is the pattern with what cannot be seen in it escaped, as it is in keys. One that is too long stays
// so.
func visiblePattern(text string) string {
	if len(text) > mostPattern {
		return text
	}
	return visible.Pattern(text)
}

// parsePattern fails if the text is longer than that of any key can be.
func parsePattern(text string) (*pattern, error) {
	if len(text) > mostPattern {
		return nil, fmt.Errorf("fusebox: a pattern has %d bytes at most, and this one %d", mostPattern, len(text))
	}
	p := &pattern{exact: true}
	part := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '*':
			if text[i] == '\\' && i+1 < len(text) && !strings.Contains(escapes, text[i+1:i+2]) {
				i++
			}
			part = append(part, text[i])
			continue
		case p.exact:
			p.first, p.exact = string(part), false
		case len(part) > 0:
			p.inner = append(p.inner, string(part))
		}
		part = part[:0]
	}
	if p.exact {
		p.first = string(part)
	} else {
		p.last = string(part)
	}
	return p, nil
}

// matches takes a time that grows with the length of the text, and not with that of the pattern.
func (p *pattern) matches(text string) bool {
	if p.exact {
		return text == p.first
	}
	text, ok := strings.CutPrefix(text, p.first)
	if !ok {
		return false
	}
	if text, ok = strings.CutSuffix(text, p.last); !ok {
		return false
	}
	for _, part := range p.inner {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// prefix and suffix report whether the pattern is only that, with one star.
func (p *pattern) prefix() bool { return !p.exact && len(p.inner) == 0 && p.last == "" }
func (p *pattern) suffix() bool { return !p.exact && len(p.inner) == 0 && p.first == "" }
