package transport

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// crowded is a Transport with as many circuits as it keeps by default, all in use.
func crowded(tb testing.TB) (t *Transport, call func(host int)) {
	status := http.StatusNoContent
	t = New(testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
	}), WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour}))
	call = func(host int) {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://host%d.example/", host), nil)
		if err != nil {
			tb.Fatal(err)
		}
		t.RoundTrip(req)
	}
	for range 2 {
		for host := range defaultMaxCircuits {
			call(host)
		}
	}
	status = http.StatusInternalServerError
	return t, call
}

// TestACircuitThatIsWellIsSmall is a guard of memory that does not depend on the machine: beyond 256 bytes, the next size is 288.
func TestACircuitThatIsWellIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(circuit{}), uintptr(256))
}

// TestATripWritesToNoOtherCircuit compares every byte of the others before and after the first one that opens, three together,
// and the look for others that are well.
func TestATripWritesToNoOtherCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, call := crowded(t)
		var told []LocalTrouble
		rt.Observe(Observer{OnLocalTrouble: func(l LocalTrouble) { told = append(told, l) }})
		time.Sleep(time.Second) // all canaries have rested
		synctest.Wait()
		all := rt.circuits.all()
		require.Len(t, all, defaultMaxCircuits)
		memory := func(c *circuit) []byte {
			return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c))
		}
		before := make([][]byte, len(all))
		for i, c := range all {
			before[i] = bytes.Clone(memory(c))
		}
		same := func(tripped int) {
			t.Helper()
			for i, c := range all {
				if same := bytes.Equal(before[i], memory(c)); same != (i >= tripped) {
					require.Fail(t, "a circuit's memory", "%v changed: %v; %d have tripped", c.key, !same, tripped)
				}
			}
		}
		same(0)
		for host := range localLeast {
			call(host)
			same(host + 1)
		}
		time.Sleep(2 * localLook)
		synctest.Wait()
		same(localLeast)
		require.Len(t, told, 1, "the look came")
		require.Equal(t, localLeast, told[0].Tripped)
		require.Zero(t, told[0].Well, "nobody was called since")
	})
}

func TestCircuitsThatComeAndGoDuringALookAreHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := New(testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody, Request: req}, nil
		}), WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour}))
		told := 0
		rt.Observe(Observer{OnLocalTrouble: func(LocalTrouble) { told++ }})
		call := func(host string) *circuit {
			req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
			require.NoError(t, err)
			rt.RoundTrip(req)
			return rt.circuits.get(Upstream(req))
		}
		looking := func() bool {
			rt.local.mu.Lock()
			defer rt.local.mu.Unlock()
			return rt.local.looking
		}
		together := company{call("a.test"): true, call("b.test"): true}
		rt.local.looking = true // from here on
		left := call("c.test")
		together[left] = true
		rt.SetState(left.key, policy.Closed)
		rt.local.saw(rt, rt.local.since, together, nil, true)
		require.Zero(t, told, "one of three has recovered")
		require.False(t, looking())

		rt.local.looking = true
		call("d.test")
		rt.local.saw(rt, rt.local.since, together, nil, true)
		require.True(t, looking(), "three have tripped, and that look was for two of them")
		time.Sleep(2 * localLook)
		synctest.Wait()
		require.Equal(t, 1, told)
	})
}

// BenchmarkAFirstTrip opens one circuit of 16,384, while none has opened for a time.
func BenchmarkAFirstTrip(b *testing.B) {
	t, call := crowded(b)
	host := 0
	for b.Loop() {
		b.StopTimer()
		t.local.mu.Lock()
		t.local.since = time.Time{}
		t.local.mu.Unlock()
		host = (host + 1) % defaultMaxCircuits
		if host == 0 {
			t.Reset("*")
		}
		b.StartTimer()
		call(host)
	}
}

// BenchmarkALook looks at 16,384 circuits, of which none is well.
func BenchmarkALook(b *testing.B) {
	t, call := crowded(b)
	for host := range localLeast {
		call(host)
	}
	together := make(company)
	for c := range t.local.tripped {
		together[c] = true
	}
	since := time.Now()
	for b.Loop() {
		if well, _ := together.others(&t.circuits, since); len(well) > 0 {
			b.Fatal("one is well")
		}
	}
}
