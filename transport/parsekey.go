package transport

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// ParseKey returns the key of the circuit that requests for a URL have, in canonical form: of
// "https://Example.com:443/" it is that of "https://example.com". It takes the text of a key, too, as Key.String writes
// it: what stands behind a space is its Detail. It returns an error for what is the key of no upstream: text without a
// scheme, or with a path, a query or a user, none of which the default key has (PerRoute has routes as a Detail).
//
// A KeyFunc of your own can return other keys; those are written as a Key.
func ParseKey(text string) (Key, error) {
	k, err := parseKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("fusebox: %q is no key of an upstream: %w", withoutUser(text), err)
	}
	return k, nil
}

func parseKey(text string) (k Key, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return k, errors.New("it has no scheme; write it as https://example.com")
	}
	host, detail, _ := strings.Cut(rest, " ")
	for _, part := range []*string{&scheme, &host, &detail} {
		if *part, err = unescape(*part); err != nil {
			return k, errors.New("it has a backslash that escapes nothing")
		}
	}
	if scheme = lower(scheme); !isScheme(scheme) {
		return k, errors.New("its scheme is none; write it as https://example.com")
	}
	host = strings.TrimSuffix(host, "/")
	k = Key{Scheme: scheme, Host: canonicalHost(scheme, host), Detail: detail}
	switch {
	case strings.ContainsAny(host, "/?#"):
		bare := Key{Scheme: scheme, Host: canonicalHost(scheme, host[:strings.IndexAny(host, "/?#")])}
		return k, fmt.Errorf("an upstream has no path and no query; write %s", bare)
	case strings.Contains(host, "@"):
		bare := Key{Scheme: scheme, Host: canonicalHost(scheme, host[strings.LastIndex(host, "@")+1:])}
		return k, fmt.Errorf("an upstream has no user; write %s", bare)
	case k.Host == "" && defaultPort(scheme) != "":
		return k, errors.New("it has no host")
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return k, errors.New("there is a character in its host that none has")
	case strings.Contains(host, "%") && !strings.HasPrefix(host, "["):
		return k, errors.New("its host is escaped; write it in letters")
	}
	k, ok = short(k)
	if !ok {
		return k, errors.New("it is too long, and no circuit is kept for it")
	}
	return k, nil
}

// withoutUser leaves out of a URL what is nobody's business, for an error that is logged.
func withoutUser(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	host := rest
	if end := strings.IndexAny(host, "/?# "); end >= 0 {
		host = host[:end]
	}
	if at := strings.LastIndex(host, "@"); at >= 0 {
		return scheme + "://" + rest[at+1:]
	}
	return text
}

// unescape takes back what Key.String writes for what cannot be seen.
func unescape(text string) (string, error) {
	if !strings.Contains(text, `\`) {
		return text, nil
	}
	return strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
}

func isScheme(text string) bool {
	for i, r := range text {
		letter := 'a' <= r && r <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", r)) {
			return false
		}
	}
	return text != ""
}

// possible returns an error if no circuit can match the pattern because keys are not written so. What a KeyFunc of the
// user returns cannot be known: under one, a pattern is only taken for wrong if circuits are kept that match it in
// canonical form, and none that does as it stands.
func (t *Transport) possible(text string, p *pattern) error {
	if text == "" {
		return errors.New(`fusebox: no circuit can match an empty pattern; write "*" for all circuits`)
	}
	canonical, why := canonicalPattern(text, p)
	if why == nil && t.keyOf == nil && strings.Contains(text, " ") {
		why = errors.New("keys have no Detail here; see WithKey")
	}
	if why == nil && canonical == text {
		return nil
	}
	var meant *pattern
	if why == nil {
		meant, _ = parsePattern(canonical)
	}
	anyMeant := false
	for _, c := range t.all() {
		if p.matches(c.text()) {
			return nil
		}
		anyMeant = anyMeant || meant != nil && meant.matches(c.text())
	}
	switch {
	case t.keyOf != nil && !anyMeant:
		return nil
	case why != nil:
		return fmt.Errorf("fusebox: no circuit can match the pattern %q: %w", withoutUser(text), why)
	}
	return fmt.Errorf(
		"fusebox: no circuit can match the pattern %q: keys are canonical; write %s", withoutUser(text), canonical,
	)
}

// canonicalPattern returns the pattern as it would have to be to match keys of upstreams, or why there is none.
func canonicalPattern(text string, p *pattern) (canonical string, why error) {
	if p.exact {
		k, err := parseKey(p.first)
		if err != nil || k.String() == p.first {
			return text, err
		}
		return k.Pattern(), nil
	}
	head, detail, hasDetail := strings.Cut(text, " ")
	if strings.Contains(head, `\`) {
		return text, nil // it says by itself that it is meant literally
	}
	head = lower(head)
	if hasDetail {
		detail = " " + detail
	}
	scheme, rest, ok := strings.Cut(head, "://")
	if !ok {
		return head + detail, nil
	}
	if at := strings.IndexAny(rest, "/?#"); at >= 0 {
		rest = rest[:at]
	}
	if port := defaultPort(scheme); port != "" {
		rest = strings.TrimSuffix(rest, ":"+port)
	}
	labels := strings.Split(rest, ".")
	for i, label := range labels {
		if !isASCII(label) && !strings.Contains(label, "*") && len(label) <= mostName {
			if ascii, err := idna.Lookup.ToASCII(label); err == nil {
				labels[i] = ascii
			}
		}
	}
	return scheme + "://" + strings.Join(labels, ".") + detail, nil
}
