package recorder

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Magic is what a file of records begins with. After it come entries: a byte 0 and the three parts of a key, each with
// its length before it, which gives the key the next number of this file from 0; or a call, by a byte of flags, the
// number of its key, by how many nanoseconds it ended later than the one before (the first, than 1970), how many it
// took, and as the flags say two bytes of cause and a status. Numbers are varints of encoding/binary.
const Magic = "fusebox calls 1\n"

// The flags of a call, beside its outcome in the lowest two bits.
const (
	flagRefused = 1 << (2 + iota)
	flagShadow
	flagCause
	flagStatus // other than 200
)

const (
	mostKeyPart = 4096 // bytes, of what is read
	// mostKeys is how many keys a file has. Calls of further ones are of the key "(others)".
	mostKeys = 16384
	// mostEntry is how long an entry can be, with its key.
	mostEntry = 3*(mostKeyPart+2) + 64
)

// Call is one call as it was recorded.
type Call struct {
	Key      policy.Key
	KeyIndex int       // of the key in its file, from 0
	Start    time.Time // in UTC
	Took     time.Duration
	Outcome  policy.Outcome // Ignored if it was refused
	Cause    policy.Cause   // without its Reason
	Refused  bool           // the circuit refused it, and the upstream never met it
	Shadow   bool           // the circuit would have refused it, and was in shadow
}

func appendKey(b []byte, k policy.Key) []byte {
	b = append(b, 0)
	for _, part := range []string{k.Scheme, k.Host, k.Detail} {
		part = part[:min(len(part), mostKeyPart)]
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	return b
}

// appendCall appends a call that ended at end, after one that did at before.
func appendCall(b []byte, key uint32, before, end int64, took time.Duration, outcome policy.Outcome,
	cause policy.Cause, flags byte) []byte {
	flags |= byte(outcome) & 3
	if cause.Kind != policy.KindNone || cause.Phase != policy.PhaseNone || cause.Deadline != policy.DeadlineNone {
		flags |= flagCause
	}
	if cause.Status != 200 {
		flags |= flagStatus
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(key))
	b = binary.AppendVarint(b, end-before)
	b = binary.AppendUvarint(b, uint64(max(0, took)))
	if flags&flagCause != 0 {
		b = append(b, byte(cause.Kind), byte(cause.Phase)<<4|byte(cause.Deadline))
	}
	if flags&flagStatus != 0 {
		b = binary.AppendUvarint(b, uint64(max(0, cause.Status)))
	}
	return b
}

// Reader reads a file of records.
type Reader struct {
	in   *bufio.Reader
	keys []policy.Key
	end  int64 // of the last call
}

// NewReader begins to read a file. It fails if that is none of records.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	begin := make([]byte, len(Magic))
	if _, err := io.ReadFull(in, begin); err != nil || string(begin) != Magic {
		return nil, errors.New("recorder: this is no file of recorded calls")
	}
	return &Reader{in: in}, nil
}

// Next reads the next call into c, in order of their ends. It returns io.EOF after the last one, io.ErrUnexpectedEOF
// if the file ends within one, as that of a process that was killed can, and another error if what is there is no
// call.
func (r *Reader) Next(c *Call) error {
	for {
		flags, err := r.in.ReadByte()
		if err != nil {
			return err
		}
		if flags != 0 {
			return r.call(c, flags)
		}
		if err := r.key(); err != nil {
			return err
		}
	}
}

func (r *Reader) key() error {
	var parts [3]string
	for i := range parts {
		n, err := r.number()
		if err != nil {
			return err
		}
		if n > mostKeyPart || len(r.keys) > mostKeys {
			return errors.New("recorder: a key that no recorder writes")
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(r.in, text); err != nil {
			return io.ErrUnexpectedEOF
		}
		parts[i] = string(text)
	}
	r.keys = append(r.keys, policy.Key{Scheme: parts[0], Host: parts[1], Detail: parts[2]})
	return nil
}

func (r *Reader) call(c *Call, flags byte) error {
	key, err := r.number()
	if err != nil {
		return err
	}
	later, err := binary.ReadVarint(r.in)
	if err != nil {
		return cut(err)
	}
	took, err := r.number()
	if err != nil {
		return err
	}
	if key >= uint64(len(r.keys)) || took > 1<<62 || flags&3 == 0 {
		return fmt.Errorf("recorder: a call of key %d of %d that took %d ns", key, len(r.keys), took)
	}
	r.end += later
	*c = Call{
		Key: r.keys[key], KeyIndex: int(key), Start: time.Unix(0, r.end-int64(took)).UTC(), Took: time.Duration(took),
		Outcome: policy.Outcome(flags & 3), Refused: flags&flagRefused != 0, Shadow: flags&flagShadow != 0,
	}
	if flags&flagCause != 0 {
		var cause [2]byte
		if _, err := io.ReadFull(r.in, cause[:]); err != nil {
			return io.ErrUnexpectedEOF
		}
		c.Cause = policy.Cause{
			Kind: policy.Kind(cause[0]), Phase: policy.Phase(cause[1] >> 4), Deadline: policy.Deadline(cause[1] & 15),
		}
	}
	c.Cause.Status = 200
	if flags&flagStatus != 0 {
		status, err := r.number()
		if err != nil {
			return err
		}
		c.Cause.Status = int(min(status, 1<<15))
	}
	return nil
}

func (r *Reader) number() (uint64, error) {
	n, err := binary.ReadUvarint(r.in)
	return n, cut(err)
}

// cut is what an error within an entry is.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
