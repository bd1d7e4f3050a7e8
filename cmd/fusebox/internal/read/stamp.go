package read

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

const second = int64(time.Second)

// stamps reads times. It remembers the last second of each way of writing it, as the next line has mostly the same.
type stamps struct {
	zone *time.Location // of times without one; nil is UTC

	clf     [26]byte // 29/Nov/2026:02:27:06 +0000
	clfIs   int64
	civil   [20]byte // 29/Nov/2026:02:27:06
	civilIs int64
	iso     [19]byte // 2026-11-29T02:27:06
	isoIs   int64    // as if it were UTC

	hour, offset int64 // of the zone in that hour of its clocks, in seconds
	hourIs       bool
}

// clock reads 29/Nov/2026:02:27:06 +0000, or the same without a zone, and then with a fraction if there is one.
func (s *stamps) clock(b []byte) (ns int64, ok bool) {
	if len(b) == 26 {
		if string(b) == string(s.clf[:]) {
			return s.clfIs, true
		}
		at, ok := civilOf(b[:20])
		offset, zoned := zoneOf(b[21:])
		if !ok || !zoned || b[20] != ' ' {
			return 0, false
		}
		copy(s.clf[:], b)
		s.clfIs = (at - offset) * second
		return s.clfIs, true
	}
	if len(b) < 20 {
		return 0, false
	}
	fraction, rest, ok := fractionOf(b[20:])
	if !ok || len(rest) > 0 {
		return 0, false
	}
	if string(b[:20]) != string(s.civil[:]) {
		at, ok := civilOf(b[:20])
		if !ok {
			return 0, false
		}
		copy(s.civil[:], b)
		s.civilIs = (at - s.offsetAt(at)) * second
	}
	return s.civilIs + fraction, true
}

// rfc3339 reads 2026-11-29T02:27:06.123456789Z, with what is usual instead: a blank for T, +0000 or +00:00 for Z, no
// zone, a comma in the fraction or none.
func (s *stamps) rfc3339(b []byte) (ns int64, ok bool) {
	if len(b) < 19 || b[4] != '-' || b[10] != 'T' && b[10] != ' ' {
		return 0, false
	}
	if string(b[:19]) != string(s.iso[:]) {
		at, ok := isoOf(b[:19])
		if !ok {
			return 0, false
		}
		copy(s.iso[:], b)
		s.isoIs = at
	}
	fraction, rest, ok := fractionOf(b[19:])
	if !ok {
		return 0, false
	}
	at := s.isoIs
	switch {
	case len(rest) == 0:
		at -= s.offsetAt(at)
	case len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z'):
	default:
		offset, ok := zoneOf(rest)
		if !ok {
			return 0, false
		}
		at -= offset
	}
	return at*second + fraction, true
}

// epoch reads a number of seconds, milliseconds, microseconds or nanoseconds since 1970, which its size tells.
func epoch(b []byte) (ns int64, ok bool) {
	whole, _, _ := bytes.Cut(b, []byte{'.'})
	unit := second
	switch n := len(whole); {
	case n < 9 || n > 19 || whole[0] == '-':
		return 0, false
	case n > 17:
		unit = 1
	case n > 14:
		unit = int64(time.Microsecond)
	case n > 11:
		unit = int64(time.Millisecond)
	}
	return number(b, unit)
}

// stamp reads a time that is written in any of these ways.
func (s *stamps) stamp(b []byte) (ns int64, ok bool) {
	switch {
	case len(b) > 10 && b[4] == '-':
		return s.rfc3339(b)
	case len(b) > 10 && b[2] == '/':
		return s.clock(b)
	}
	return epoch(b)
}

// offsetAt is how far the zone's clocks are before UTC when they show civil, in seconds. When they show it twice, it is
// the first time.
func (s *stamps) offsetAt(civil int64) int64 {
	if s.zone == nil || s.zone == time.UTC {
		return 0
	}
	if hour := civil / 3600; !s.hourIs || hour != s.hour {
		t := time.Unix(civil, 0).UTC()
		in := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, s.zone)
		s.hour, s.offset, s.hourIs = hour, civil-in.Unix(), true
		// Of two times at which clocks show this, time.Date may have taken the later one.
		_, before := in.Add(-3 * time.Hour).Zone()
		if _, then := time.Unix(civil-int64(before), 0).In(s.zone).Zone(); then == before {
			s.offset = int64(before)
		}
	}
	return s.offset
}

func civilOf(b []byte) (at int64, ok bool) {
	day, ok1 := digits(b[0:2])
	month := monthOf(b[3:6])
	year, ok2 := digits(b[7:11])
	hour, ok3 := digits(b[12:14])
	minute, ok4 := digits(b[15:17])
	sec, ok5 := digits(b[18:20])
	if b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' || month == 0 ||
		!(ok1 && ok2 && ok3 && ok4 && ok5) {
		return 0, false
	}
	return unixOf(year, month, day, hour, minute, sec)
}

func isoOf(b []byte) (at int64, ok bool) {
	year, ok1 := digits(b[0:4])
	month, ok2 := digits(b[5:7])
	day, ok3 := digits(b[8:10])
	hour, ok4 := digits(b[11:13])
	minute, ok5 := digits(b[14:16])
	sec, ok6 := digits(b[17:19])
	if b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' || !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) {
		return 0, false
	}
	return unixOf(year, month, day, hour, minute, sec)
}

// unixOf is the seconds since 1970 of a date from 1970 to 2199, a leap second being the next.
func unixOf(year, month, day, hour, minute, sec int64) (at int64, ok bool) {
	if year < 1970 || year > 2199 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
		sec > 60 {
		return 0, false
	}
	y := year
	if month <= 2 { // years that begin with March have the odd day at their end
		y--
	}
	shifted := (month + 9) % 12
	days := y*365 + y/4 - y/100 + y/400 + (shifted*153+2)/5 + day - 1 - 719468
	return days*86400 + hour*3600 + minute*60 + sec, true
}

func monthOf(b []byte) int64 {
	switch uint32(b[0]|32)<<16 | uint32(b[1]|32)<<8 | uint32(b[2]|32) {
	case 'j'<<16 | 'a'<<8 | 'n':
		return 1
	case 'f'<<16 | 'e'<<8 | 'b':
		return 2
	case 'm'<<16 | 'a'<<8 | 'r':
		return 3
	case 'a'<<16 | 'p'<<8 | 'r':
		return 4
	case 'm'<<16 | 'a'<<8 | 'y':
		return 5
	case 'j'<<16 | 'u'<<8 | 'n':
		return 6
	case 'j'<<16 | 'u'<<8 | 'l':
		return 7
	case 'a'<<16 | 'u'<<8 | 'g':
		return 8
	case 's'<<16 | 'e'<<8 | 'p':
		return 9
	case 'o'<<16 | 'c'<<8 | 't':
		return 10
	case 'n'<<16 | 'o'<<8 | 'v':
		return 11
	case 'd'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

// zoneOf reads +0100, +01:00 or Z, in seconds.
func zoneOf(b []byte) (offset int64, ok bool) {
	switch {
	case len(b) == 1 && b[0] == 'Z':
		return 0, true
	case len(b) == 6 && b[3] == ':':
		b = []byte{b[0], b[1], b[2], b[4], b[5]}
	case len(b) != 5:
		return 0, false
	}
	hours, ok1 := digits(b[1:3])
	minutes, ok2 := digits(b[3:5])
	offset = hours*3600 + minutes*60
	switch {
	case !ok1 || !ok2:
		return 0, false
	case b[0] == '-':
		return -offset, true
	}
	return offset, b[0] == '+'
}

// fractionOf reads the fraction of a second that b may begin with, in nanoseconds.
func fractionOf(b []byte) (ns int64, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' && b[0] != ',' {
		return 0, b, true
	}
	i, scale := 1, second
	for ; i < len(b) && b[i]-'0' < 10; i++ {
		scale /= 10
		ns += int64(b[i]-'0') * scale
	}
	return ns, b[i:], i > 1
}

// digits reads a number that is digits alone, and short.
func digits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, len(b) > 0 && len(b) < 19
}

// number reads a decimal number of units, such as 0.401 with a unit of a second in nanoseconds.
func number(b []byte, unit int64) (n int64, ok bool) {
	i := 0
	for ; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		if n > (math.MaxInt64-9)/10 {
			return float(b, unit)
		}
		n = n*10 + int64(c)
	}
	if i > 9 && n > math.MaxInt64/unit-1 {
		return float(b, unit)
	}
	n *= unit
	if i == len(b) {
		return n, i > 0
	}
	if b[i] != '.' || i == 0 {
		return float(b, unit)
	}
	for i++; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			return float(b, unit)
		}
		unit /= 10
		n += int64(c) * unit
	}
	return n, true
}

// float reads the rest of what numbers look like: signs, exponents, many digits.
func float(b []byte, unit int64) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 40 {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if f *= float64(unit); err != nil || !(math.Abs(f) < math.MaxInt64/2) {
		return 0, false
	}
	return int64(math.Round(f)), true
}
