package policy

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryInfo is the type of a detail of an error, and retryInfoHeader the name under which connect's is kept with gRPC's
// headers.
const (
	retryInfo       = "google.rpc.RetryInfo"
	retryInfoHeader = "Google-Rpc-Retryinfo"
)

// delayOf returns the longest time for which what came with the code of a call asks to leave its server alone.
func delayOf(c *Call, with http.Header) time.Duration {
	longest := ParseRetryAfter(with.Get("Retry-After"), UpstreamTime(c.Response.Header, c.Ended, time.Now()))
	// of a negative one it says nothing
	if ms, err := strconv.ParseInt(with.Get("Grpc-Retry-Pushback-Ms"), 10, 64); err == nil {
		longest = max(longest, atMost(ms, time.Millisecond))
	}
	for _, info := range with[retryInfoHeader] {
		longest = max(longest, delayOfInfo([]byte(info)))
	}
	details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(with.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil {
		return longest
	}
	eachField(details, func(field, _ uint64, detail []byte) { // of a google.rpc.Status
		if field != 3 {
			return
		}
		var kind, value []byte
		eachField(detail, func(field, _ uint64, text []byte) { // of a google.protobuf.Any
			switch field {
			case 1:
				kind = text
			case 2:
				value = text
			}
		})
		if strings.HasSuffix(string(kind), "/"+retryInfo) {
			longest = max(longest, delayOfInfo(value))
		}
	})
	return longest
}

// delayOfInfo reads a google.rpc.RetryInfo.
func delayOfInfo(info []byte) (delay time.Duration) {
	eachField(info, func(field, _ uint64, duration []byte) {
		if field != 1 {
			return
		}
		eachField(duration, func(field, number uint64, _ []byte) { // of a google.protobuf.Duration
			switch field {
			case 1:
				delay += atMost(int64(number), time.Second)
			case 2:
				delay += min(time.Duration(int32(number)), time.Second)
			}
		})
	})
	return min(delay, mostRetryAfter)
}

func atMost(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), int64(mostRetryAfter/unit))) * unit
}

// eachField goes through the fields of a message of Protocol Buffers, and ends where it cannot be read. See
// https://protobuf.dev/programming-guides/encoding for how it is written.
func eachField(message []byte, see func(field, number uint64, text []byte)) {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag > math.MaxUint32 {
			return
		}
		message = message[n:]
		var number uint64
		var text []byte
		switch tag & 7 {
		case 0, 2:
			if number, n = binary.Uvarint(message); n <= 0 {
				return
			}
			message = message[n:]
			if tag&7 == 2 {
				if number > uint64(len(message)) {
					return
				}
				text, message = message[:number], message[number:]
				number = 0
			}
		case 1, 5: // eight bytes, or four; nobody here looks at those
			if n = 8 >> (tag & 7 >> 2); len(message) < n {
				return
			}
			message = message[n:]
		default:
			return
		}
		see(tag>>3, number, text)
	}
}
