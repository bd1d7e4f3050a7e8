package read

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// input is a file as text: decompressed, and without a byte order mark.
type input struct {
	*bufio.Reader
	close func()
	size  int64 // as it is in the file; 0 if that is not known
}

// looked is how much of a file is looked at before it is read.
const looked = 256 << 10

// openInput opens a file, of which n counts what is read.
func openInput(name string, stdin io.Reader, n *atomic.Int64) (*input, error) {
	in := &input{close: func() {}}
	var raw io.Reader
	switch {
	case name == "-" && stdin == nil:
		raw = bytes.NewReader(nil)
	case name == "-":
		raw = stdin
	default:
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		in.close = func() { f.Close() }
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			in.size = info.Size()
		} else if err == nil && info.IsDir() {
			f.Close()
			return nil, fmt.Errorf("%s is a folder; name the files in it", name)
		}
		raw = f
	}
	text, closing, err := decompressed(&counted{raw, n})
	if err != nil {
		in.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if closing != nil {
		shut := in.close
		in.close = func() { closing(); shut() }
	}
	in.Reader = bufio.NewReaderSize(text, looked)
	if start, _ := in.Peek(3); string(start) == "\xef\xbb\xbf" {
		in.Discard(3)
	}
	return in, nil
}

func decompressed(raw io.Reader) (text io.Reader, closing func(), err error) {
	buffered := bufio.NewReaderSize(raw, 64<<10)
	magic, _ := buffered.Peek(6)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(32<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ")), bytes.HasPrefix(magic, []byte("BZh")):
		return nil, nil, errors.New("it is compressed by xz or bzip2, of which nothing is read; give it through a pipe")
	}
	return buffered, nil, nil
}

type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
