package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// endOfStream is how much of a body's end GRPC looks at: what comes there is headers, and all that programs take of such is 8 KiB
// by default.
const endOfStream = 16 << 10

// failingCodes is the status codes of gRPC, and the names that connect and Twirp have for them, that speak of the server and not
// of what it was asked for. It is where gRPC's own guide says that they come from: the server is down (UNAVAILABLE), too slow
// (DEADLINE_EXCEEDED), or broken (INTERNAL, DATA_LOSS, and UNKNOWN, which is what an exception in a handler becomes).
var failingCodes = map[string]bool{
	"2": true, "4": true, "13": true, "14": true, "15": true,
	"unknown": true, "deadline_exceeded": true, "internal": true, "unavailable": true, "data_loss": true, "dataloss": true,
}

// knownCodes is all others. RESOURCE_EXHAUSTED is among them as 429 is no failure by default: the server is there, and has
// said so in time.
var knownCodes = map[string]bool{
	"0": true, "1": true, "3": true, "5": true, "6": true, "7": true, "8": true, "9": true, "10": true, "11": true, "12": true, "16": true,
	"canceled": true, "invalid_argument": true, "malformed": true, "not_found": true, "bad_route": true, "already_exists": true,
	"permission_denied": true, "resource_exhausted": true, "failed_precondition": true, "aborted": true, "out_of_range": true,
	"unimplemented": true, "unauthenticated": true,
}

// GRPC returns a classifier for gRPC, gRPC-Web and connect, unary calls and streams: it finds the call's status code in the
// trailers, the last bytes of the body or the headers, wherever the protocol has it, and says Failure of UNAVAILABLE,
// DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS, of codes that do not exist, and of a call that ended without a code.
// All others are left to the next classifier, by default a Success: they speak of the request, or, as RESOURCE_EXHAUSTED, of a
// server that has answered as a 429 would. A stream that its caller closes before its code has come is left to the next, too.
// Responses of other protocols are none of its business.
//
// Codes that come compressed by anything but gzip, or with more than 16 KiB of trailers in gRPC-Web and connect, are not seen.
func GRPC() Classifier {
	return func(c *Call) Outcome {
		resp := c.Response
		if resp == nil || c.Err != nil || c.InBody {
			return Undecided
		}
		switch kind := mediaType(resp); {
		case isOf(kind, "application/grpc"), isOf(kind, "application/grpc-web"), isOf(kind, "application/grpc-web-text"):
			if code := resp.Header.Get("Grpc-Status"); code != "" { // there is no message, and all is in the headers
				return ofCode(code)
			}
			if isOf(kind, "application/grpc") {
				return ofTrailers(c)
			}
			return ofLastFrame(c, 0x80, grpcWebCode, isOf(kind, "application/grpc-web-text"))
		case strings.HasPrefix(kind, "application/connect+"):
			return ofLastFrame(c, 0x02, connectCode, false)
		case kind == "application/json" && isConnect(c.Request):
			return ofErrorBody(c)
		}
		return Undecided
	}
}

// Twirp returns a classifier for Twirp. A status says most of it: what is 5xx fails by policy.Default. Of 408, which
// Twirp has for canceled and for deadline_exceeded, deadline_exceeded is a Failure, and a 501 that says unimplemented is none.
func Twirp() Classifier {
	return func(c *Call) Outcome {
		if c.Response == nil || c.Err != nil || c.InBody || mediaType(c.Response) != "application/json" {
			return Undecided
		}
		return ofErrorBody(c)
	}
}

func mediaType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// isOf reports whether kind is the protocol's, with or without the name of a codec.
func isOf(kind, protocol string) bool {
	rest, ok := strings.CutPrefix(kind, protocol)
	return ok && (rest == "" || rest[0] == '+')
}

func isConnect(req *http.Request) bool {
	return req != nil && (req.Header.Get("Connect-Protocol-Version") != "" ||
		req.URL != nil && strings.Contains("&"+req.URL.RawQuery, "&connect=v"))
}

func ofCode(code string) Outcome {
	if failingCodes[code] || !knownCodes[code] {
		return Failure
	}
	return Undecided
}

// ofNone is the outcome of a call that has ended without a code. A client reports an error then.
func ofNone(c *Call) Outcome {
	if c.ClosedEarly || c.Response.StatusCode != http.StatusOK || c.Request != nil && c.Request.Method == http.MethodHead {
		return Undecided
	}
	return Failure
}

func ofTrailers(c *Call) Outcome {
	if !c.AtEnd {
		c.AskAtEnd(0)
		return Undecided
	}
	if code := c.Response.Trailer.Get("Grpc-Status"); code != "" {
		return ofCode(code)
	}
	return ofNone(c)
}

// ofLastFrame looks for the frame that ends a stream: one byte of flags, four of length, and that many bytes up to the body's
// end. Closed early or not, if it is there it is the last.
func ofLastFrame(c *Call, flag byte, codeIn func([]byte) (code string, ok bool), text bool) Outcome {
	if !c.AtEnd {
		c.AskAtEnd(endOfStream)
		return Undecided
	}
	view, whole := c.Tail, c.Size == int64(len(c.Tail))
	if text {
		view = fromBase64(view, c.Size)
	}
	found := false
	for at := len(view) - 5; at >= 0; at-- {
		if view[at]&^1 != flag || binary.BigEndian.Uint32(view[at+1:]) != uint32(len(view)-at-5) {
			continue
		}
		found = true
		payload := view[at+5:]
		if view[at]&1 != 0 {
			payload = unzipped(payload)
		}
		if code, ok := codeIn(payload); ok {
			return ofCode(code)
		}
	}
	if found || !whole { // it is there, and cannot be read
		return Undecided
	}
	return ofNone(c)
}

// fromBase64 decodes the end of a text that was size bytes long. It comes in pieces, each with an end of its own.
func fromBase64(text []byte, size int64) (decoded []byte) {
	cut := size - int64(len(text))
	var piece [3]byte
	for text = text[min(int64(len(text)), -cut&3):]; len(text) >= 4; text = text[4:] {
		n, err := base64.StdEncoding.Decode(piece[:], text[:4])
		if err != nil {
			return nil
		}
		decoded = append(decoded, piece[:n]...)
	}
	return decoded
}

func grpcWebCode(trailers []byte) (string, bool) {
	for line := range strings.SplitSeq(string(trailers), "\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(name), "grpc-status") {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

func connectCode(end []byte) (string, bool) {
	var is struct{ Error *struct{ Code string } }
	switch err := json.Unmarshal(end, &is); {
	case err != nil:
		return "", false
	case is.Error == nil:
		return "0", true
	}
	return is.Error.Code, true
}

// ofErrorBody looks into the error of a unary call where its status does not tell: 408 is what two codes have, and 501 speaks of
// the request.
func ofErrorBody(c *Call) Outcome {
	status := c.Response.StatusCode
	if status != http.StatusRequestTimeout && status != http.StatusNotImplemented {
		return Undecided
	}
	if !c.AtEnd {
		c.AskAtEnd(endOfStream)
		return Success // until it has been read
	}
	var is struct{ Code string }
	if body, ok := wholeBody(c); ok && json.Unmarshal(body, &is) == nil && is.Code != "" {
		return ofCode(is.Code)
	}
	if status == http.StatusNotImplemented {
		return Failure // as any other
	}
	return Undecided
}

// wholeBody returns what the caller read of a body, if all of it is in view.
func wholeBody(c *Call) (body []byte, ok bool) {
	if c.Size != int64(len(c.Tail)) {
		return nil, false
	}
	if c.Response.Header.Get("Content-Encoding") == "gzip" {
		body = unzipped(c.Tail)
		return body, body != nil
	}
	return c.Tail, true
}

// mostUnzipped is how much of something compressed is looked at.
const mostUnzipped = 1 << 20

// unzipped returns nil for what is not gzip, or too much.
func unzipped(packed []byte) []byte {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(zip, mostUnzipped+1))
	if err != nil || len(text) > mostUnzipped {
		return nil
	}
	return text
}
