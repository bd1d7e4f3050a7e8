package contract

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const gibibyte = 1 << 30

// zeros is a body of so many, which keeps the largest heap seen on the way.
type zeros struct {
	left, sinceLook int
	peak            uint64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	if z.sinceLook += n; z.sinceLook >= 1<<24 {
		z.sinceLook = 0
		z.peak = max(z.peak, heap())
	}
	return n, nil
}

func (*zeros) Close() error { return nil }

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestAGibibyteIsStreamedWithoutGrowth(t *testing.T) {
	noLeaks(t)
	sent := make(chan *zeros, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			z := &zeros{left: n}
			io.CopyBuffer(struct{ io.Writer }{w}, z, make([]byte, 1<<18))
			sent <- z
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v %v", n, err, r.TransferEncoding)
	}))
	defer server.Close()
	base := server.Client().Transport.(*http.Transport)

	download := func(rt http.RoundTripper, size int) uint64 {
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, fmt.Sprint(server.URL, "?n=", size)))
		require.NoError(t, err)
		require.Equal(t, []string{"chunked"}, resp.TransferEncoding)
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.NoError(t, resp.Body.Close())
		return (<-sent).peak
	}
	upload := func(rt http.RoundTripper, size int) uint64 {
		req := newRequest(t, http.MethodPost, server.URL)
		z := &zeros{left: size}
		req.Body = z
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		said, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(size, " <nil> [chunked]"), string(said))
		require.NoError(t, resp.Body.Close())
		return z.peak
	}
	for name, transfer := range map[string]func(http.RoundTripper, int) uint64{"download": download, "upload": upload} {
		peak := func(w wrapper, size int) uint64 {
			runtime.GC()
			return transfer(w.wrap(base), size)
		}
		// Whatever the bare base takes, it takes for the first sixteenth.
		byBase, byWrapped := peak(bare, gibibyte/16), peak(wrappers[0], gibibyte)
		t.Logf("%s: heap at most %d KiB by the bare base, %d KiB by the wrapped", name, byBase>>10, byWrapped>>10)
		require.Positive(t, byBase)
		require.Less(t, byWrapped, byBase+4<<20, name)
	}
}
