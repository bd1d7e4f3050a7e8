package policy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/fusebox-go/fusebox/policy"
)

// anyError makes an error of a kind, and around it what net and net/http would wrap it in.
func anyError(kind, wrap uint8, text string) error {
	var err error
	switch kind % 16 {
	case 0:
		return nil
	case 1:
		err = errors.New(text)
	case 2:
		err = io.EOF
	case 3:
		err = io.ErrUnexpectedEOF
	case 4:
		err = context.Canceled
	case 5:
		err = context.DeadlineExceeded
	case 6:
		err = numbered(len(text))
	case 7:
		err = &net.DNSError{Err: text, IsTimeout: len(text)%2 == 0, IsNotFound: len(text)%3 == 0}
	case 8:
		err = tls.RecordHeaderError{Msg: text}
	case 9:
		err = tls.AlertError(len(text))
	case 10:
		err = x509.UnknownAuthorityError{}
	case 11:
		err = &fs.PathError{Op: text, Err: io.EOF}
	case 12:
		err = os.ErrDeadlineExceeded
	case 13:
		err = net.ErrClosed
	case 14:
		err = &net.OpError{Op: text, Err: errors.New(text)}
	case 15:
		err = errors.Join(errors.New(text), io.EOF)
	}
	switch wrap % 5 {
	case 1:
		return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
	case 2:
		return &net.OpError{Op: "proxyconnect", Err: err}
	case 3:
		return fmt.Errorf("%s: %w", text, err)
	case 4:
		return &url.Error{Op: "Get", Err: err}
	}
	return err
}

func FuzzDefaultClassifier(f *testing.F) {
	f.Add(200, "X-Name", "value", "GET", "http", "example.com", uint8(0), uint8(0), "", false, false)
	f.Add(503, "Retry-After", "1", "POST", "https", "", uint8(1), uint8(0), "Bad Request", true, false)
	f.Add(0, "", "\n", "b d", "", "\xff", uint8(7), uint8(1), "too many open files", false, true)
	f.Add(-1, "a b", "\x00", "", "gopher", "[::1]:80", uint8(14), uint8(2), "dial", false, true)
	f.Fuzz(func(t *testing.T, status int, name, value, method, scheme, host string, kind, wrap uint8, text string, inBody, canceled bool) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if canceled {
			cancel()
		}
		req := &http.Request{
			Method: method, URL: &url.URL{Scheme: scheme, Host: host, Path: text, Opaque: value}, Host: host,
			Header: http.Header{name: {value}}, Trailer: http.Header{value: {name}},
		}
		call := &policy.Call{Request: req.WithContext(ctx), Err: anyError(kind, wrap, text), InBody: inBody, BodyErr: anyError(wrap, kind, text)}
		if call.Err == nil || inBody {
			call.Response = &http.Response{StatusCode: status, Header: http.Header{name: {value}}, Body: http.NoBody}
		}
		cause := policy.CauseOf(call)
		_ = cause.String()
		outcome := policy.DefaultClassifier(call)
		switch {
		case outcome != policy.Success && outcome != policy.Failure && outcome != policy.Ignored:
			t.Errorf("outcome %v", outcome)
		case outcome != cause.Outcome():
			t.Errorf("outcome %v by Default and %v by %v", outcome, cause.Outcome(), cause)
		case call.Err != nil && outcome == policy.Success:
			t.Errorf("%v is a success", call.Err)
		case call.Err == nil && (outcome == policy.Failure) != (status >= 500):
			t.Errorf("status %d is a %v", status, outcome)
		case call.Err != nil && canceled && outcome != policy.Ignored:
			t.Errorf("the caller canceled, and %v is a %v", call.Err, outcome)
		}
	})
}
