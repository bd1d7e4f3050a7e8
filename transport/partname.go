package transport

import (
	"hash/maphash"
	"net/http"
	"strings"
)

// A part of an upstream is what its requests with one method and one path are, ids aside. It is told apart by a number,
// which costs no memory, and has a name only once it is cut out.

// eachSegment yields the parts of a path between slashes, in which each id is a star.
func eachSegment(path string, yield func(segment string)) {
	path = strings.TrimPrefix(path, "/")
	for {
		segment, rest, more := strings.Cut(path, "/")
		if isID(segment) {
			segment = "*"
		}
		yield(segment)
		if !more {
			return
		}
		path = rest
	}
}

const (
	idDigits  = 4  // of a segment that is an id whatever else is in it
	idLong    = 16 // bytes of one that has any digit
	idHyphens = 3  // of one that is the title of something
)

// isID reports whether a segment of a path is most likely one of many in its place: a number, what has digits and is
// long or has many, a title, an address. A version, as v2, is none.
func isID(segment string) bool {
	digits, hyphens := 0, 0
	for i := range len(segment) {
		switch c := segment[i]; {
		case '0' <= c && c <= '9':
			digits++
		case c == '-':
			hyphens++
		case c == '@':
			return true
		}
	}
	return hyphens >= idHyphens ||
		digits > 0 && (digits == len(segment) || digits >= idDigits || len(segment) >= idLong)
}

// pathOf is the path of a request as the upstream gets it, so that a slash within a segment is none between two.
func pathOf(req *http.Request) string {
	switch u := req.URL; {
	case u.Opaque != "":
		return u.Opaque
	case u.RawPath != "":
		return u.RawPath
	default:
		return u.Path
	}
}

// partName is what a part is called: "GET /users/*/orders".
func partName(req *http.Request) string {
	var name strings.Builder
	name.WriteString(methodOf(req))
	name.WriteByte(' ')
	eachSegment(pathOf(req), func(segment string) {
		name.WriteByte('/')
		name.WriteString(segment)
	})
	return name.String()
}

// partSeed is not known outside, so that nobody can make up a path whose number is that of another.
var partSeed = maphash.MakeSeed()

// partNumber is the number of the part that a request is for; not 0.
func partNumber(req *http.Request) uint64 {
	var sum maphash.Hash
	sum.SetSeed(partSeed)
	sum.WriteString(methodOf(req))
	eachSegment(pathOf(req), func(segment string) {
		sum.WriteByte('/')
		sum.WriteString(segment)
	})
	return max(1, sum.Sum64())
}
