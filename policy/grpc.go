package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// endOfStream is how much of a body's end GRPC looks at: what comes there is headers, and all that programs take of
// such is 8 KiB by default.
const endOfStream = 16 << 10

// failingCodes is the codes that speak of the server and not of what it was asked for. It is where gRPC's own guide
// says that they come from: the server is down (unavailable), too slow (deadline_exceeded), or broken (internal,
// data_loss, and unknown, which is what an exception in a handler becomes). resource_exhausted is not among them as 429
// is no failure by default: the server is there, and has said so in time.
var failingCodes = []string{"unknown", "deadline_exceeded", "internal", "unavailable", "data_loss", "dataloss"}

// namesOfCodes has the name of each status code of gRPC, by its number and by the names that connect and Twirp have for
// it.
var namesOfCodes = func() map[string]string {
	names := make(map[string]string)
	for n, name := range []string{
		"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
		"permission_denied",
		"resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal",
		"unavailable", "data_loss",
		"unauthenticated",
		"dataloss", "malformed", "bad_route", // Twirp has these without a number
	} {
		if n > 0 {
			names[name] = name
		}
		if n <= 16 {
			names[strconv.Itoa(n)] = name
		}
	}
	return names
}()

// codes says what codes come to.
type codes struct {
	protocol string   // for the reason
	failing  []string // their names
}

// GRPC returns a classifier for gRPC, gRPC-Web and connect, unary calls and streams: it finds the call's status code in
// the trailers, the last bytes of the body or the headers, wherever the protocol has it, and says Failure of
// UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS, of codes that do not exist, and of a call that ended
// without a code. All others are left to the next classifier, by default a Success: they speak of the request, or, as
// RESOURCE_EXHAUSTED, of a server that has answered as a 429 would. GRPC("resource_exhausted") makes a failure of that,
// too; codes are written as connect has them, and one that is none panics. A stream that its caller closes before its
// code has come is left to the next, too. Responses of other protocols are none of its business.
//
// Of a failure the Cause has the code, and a server that says for how long it wants to be left alone is: by
// grpc-retry-pushback-ms or Retry-After among what comes with the code, or by a google.rpc.RetryInfo among its details;
// the longest of them.
//
// Codes that come compressed by anything but gzip, or with more than 16 KiB of trailers in gRPC-Web and connect, are
// not seen. A unary call of connect that is 5xx has failed by that, and its code and details are not looked for.
func GRPC(failing ...string) Classifier {
	for _, name := range failing {
		if name == "" || namesOfCodes[name] != name {
			panic(invalid("GRPC got the code %q; write one as connect has it, such as resource_exhausted", name))
		}
	}
	codes := &codes{"grpc", slices.Concat(failingCodes, failing)}
	return func(c *Call) Outcome {
		resp := c.Response
		if resp == nil || c.Err != nil || c.InBody {
			return Undecided
		}
		switch kind := mediaType(resp); {
		case isOf(kind, "application/grpc"), isOf(kind, "application/grpc-web"),
			isOf(kind, "application/grpc-web-text"):
			if code := resp.Header.Get("Grpc-Status"); code != "" { // there is no message, and all is in the headers
				return codes.of(c, code, resp.Header)
			}
			if isOf(kind, "application/grpc") {
				return codes.ofTrailers(c)
			}
			return codes.ofLastFrame(c, 0x80, grpcWebCode, isOf(kind, "application/grpc-web-text"))
		case strings.HasPrefix(kind, "application/connect+"):
			return codes.ofLastFrame(c, 0x02, connectCode, false)
		case kind == "application/json" && isConnect(c.Request):
			return codes.ofErrorBody(c)
		}
		return Undecided
	}
}

// Twirp returns a classifier for Twirp. A status says most of it: what is 5xx fails by policy.DefaultClassifier. Of
// 408, which Twirp has for canceled and for deadline_exceeded, deadline_exceeded is a Failure, and a 501 that says
// unimplemented is none.
func Twirp() Classifier {
	codes := &codes{"twirp", failingCodes}
	return func(c *Call) Outcome {
		if c.Response == nil || c.Err != nil || c.InBody || mediaType(c.Response) != "application/json" {
			return Undecided
		}
		return codes.ofErrorBody(c)
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

// of is the outcome of a code that came with these headers, whatever has become of them on their way.
func (codes *codes) of(c *Call, code string, with http.Header) Outcome {
	name, known := namesOfCodes[code]
	switch {
	case !known: // its text can be anything
		c.Reason = "no such " + codes.protocol + " code"
	case !slices.Contains(codes.failing, name):
		return Undecided
	default:
		c.Reason = codes.protocol + " code " + name
	}
	c.RetryAfter = delayOf(c, with)
	return Failure
}

// ofNone is the outcome of a call that has ended without a code. A client reports an error then.
func (codes *codes) ofNone(c *Call) Outcome {
	if c.ClosedEarly || c.Response.StatusCode != http.StatusOK ||
		c.Request != nil && c.Request.Method == http.MethodHead {
		return Undecided
	}
	c.Reason = "no " + codes.protocol + " code"
	return Failure
}

func (codes *codes) ofTrailers(c *Call) Outcome {
	if !c.AtEnd {
		c.AskAtEnd(0)
		return Undecided
	}
	if code := c.Response.Trailer.Get("Grpc-Status"); code != "" {
		return codes.of(c, code, c.Response.Trailer)
	}
	return codes.ofNone(c)
}

// ofLastFrame looks for the frame that ends a stream: one byte of flags, four of length, and that many bytes up to the
// body's end. Closed early or not, if it is there it is the last.
func (codes *codes) ofLastFrame(
	c *Call, flag byte, codeIn func([]byte) (code string, with http.Header), text bool,
) Outcome {
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
		if code, with := codeIn(payload); with != nil {
			return codes.of(c, code, with)
		}
	}
	if found || !whole { // it is there, and cannot be read
		return Undecided
	}
	return codes.ofNone(c)
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

// grpcWebCode returns no headers if there is no code.
func grpcWebCode(trailers []byte) (code string, with http.Header) {
	with = make(http.Header)
	for line := range strings.SplitSeq(string(trailers), "\n") {
		name, value, _ := strings.Cut(line, ":")
		with.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if len(with["Grpc-Status"]) == 0 {
		return "", nil
	}
	return with.Get("Grpc-Status"), with
}

// connectError is an error as connect has it, and Twirp but for the details.
type connectError struct {
	Code    string
	Details []struct{ Type, Value string }
}

// connectCode returns no headers if the end of the stream cannot be read.
func connectCode(end []byte) (code string, with http.Header) {
	var is struct {
		Error    *connectError
		Metadata map[string][]string
	}
	if json.Unmarshal(end, &is) != nil {
		return "", nil
	}
	with = make(http.Header)
	for name, values := range is.Metadata {
		for _, value := range values {
			with.Add(name, value)
		}
	}
	if is.Error == nil {
		return "0", with
	}
	return is.Error.Code, is.Error.detailed(with)
}

// detailed adds what gRPC has among its headers, and connect among its details.
func (e *connectError) detailed(with http.Header) http.Header {
	for _, detail := range e.Details {
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(detail.Value, "="))
		if err == nil && detail.Type == retryInfo {
			with.Add(retryInfoHeader, string(value))
		}
	}
	return with
}

// ofErrorBody looks into the error of a unary call where its status does not tell: 408 is what two codes have, 501
// speaks of the request, and what else is below 500 can be a code that is a failure all the same.
func (codes *codes) ofErrorBody(c *Call) Outcome {
	status := c.Response.StatusCode
	if status < 400 || status >= 500 && status != http.StatusNotImplemented {
		return Undecided
	}
	if !c.AtEnd {
		c.AskAtEnd(endOfStream)
		if status == http.StatusNotImplemented {
			return Success // until it has been read
		}
		return Undecided
	}
	var is connectError
	if body, ok := wholeBody(c); ok && json.Unmarshal(body, &is) == nil && namesOfCodes[is.Code] != "" {
		return codes.of(c, is.Code, is.detailed(make(http.Header)))
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
