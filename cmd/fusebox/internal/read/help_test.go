package read

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"testing"
)

var write = flag.Bool("write", false, "write what is compared with files: a page of docs, testdata/outages")

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func indented(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(b), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// oneByOne reads a byte at a time now and then, so that what is read in pieces is cut everywhere.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 7)]) }
