package recorder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/recorder"
	"github.com/fusebox-go/fusebox/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base answers as a test says.
type base func(*http.Request) (*http.Response, error)

func (b base) RoundTrip(req *http.Request) (*http.Response, error) { return b(req) }

func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}
}

func readAll(t testing.TB, path string) (calls []recorder.Call) {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	r, err := recorder.NewReader(file)
	require.NoError(t, err)
	for {
		var c recorder.Call
		err := r.Next(&c)
		if err == io.EOF {
			return calls
		}
		require.NoError(t, err)
		calls = append(calls, c)
	}
}

func call(breaker *transport.Transport, url string) {
	req, _ := http.NewRequest("GET", url, nil)
	if resp, err := breaker.RoundTrip(req); err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func TestWhatIsRecordedIsWhatObserversHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "calls")
		r, err := recorder.Open(path, recorder.Options{})
		require.NoError(t, err)
		answers := []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(200), nil },
			func() (*http.Response, error) { return answer(404), nil },
			func() (*http.Response, error) { return answer(503), nil },
			func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
			func() (*http.Response, error) { time.Sleep(7 * time.Second); return nil, os.ErrDeadlineExceeded },
		}
		n := 0
		var heard []recorder.Call
		hear := transport.Observer{
			OnOutcome: func(e transport.CallEnd) {
				heard = append(heard, recorder.Call{
					Key: e.Key, Start: e.Started.UTC().Round(0), Took: time.Since(e.Started), Outcome: e.Outcome, Cause: e.Cause,
				})
			},
			OnRefuse: func(_ *http.Request, e *transport.RefusedError) {
				heard = append(heard, recorder.Call{
					Key: e.Key, Start: time.Now().UTC().Round(0), Outcome: policy.Ignored, Refused: true,
				})
			},
		}
		breaker := transport.New(base(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Duration(n) * time.Millisecond)
			return answers[n/20%len(answers)]()
		}), transport.WithObserver(r.Observer()), transport.WithObserver(hear),
			transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: 5 * time.Second}))
		for n = range 200 {
			call(breaker, fmt.Sprintf("https://host%d.example/", n%3))
			time.Sleep(time.Second)
		}
		require.NoError(t, r.Close())
		call(breaker, "https://late.example/")
		require.EqualValues(t, 1, r.Lost(), "what ends after Close")
		heard = heard[:len(heard)-1]
		refused := 0
		calls := readAll(t, path)
		require.Len(t, calls, 200)
		for i := range calls {
			c := calls[i]
			c.KeyIndex = 0
			if c.Refused {
				refused++
				c.Cause.Status = 0
			}
			require.Equal(t, heard[i], c)
		}
		require.NotZero(t, refused)
		require.Error(t, r.Close())
	})
}

func TestFilesAreRotatedAndBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "calls")
	r, err := recorder.Open(path, recorder.Options{MaxBytes: 100 << 10, MaxFiles: 3})
	require.NoError(t, err)
	breaker := transport.New(base(func(*http.Request) (*http.Response, error) { return answer(200), nil }), transport.WithObserver(r.Observer()))
	const calls = 100_000
	for range calls {
		call(breaker, "https://host.example/")
	}
	require.NoError(t, r.Close())
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	require.Len(t, files, 3)
	kept := 0
	var last time.Time
	for _, name := range []string{".2", ".1", ""} {
		file, err := os.Stat(path + name)
		require.NoError(t, err)
		require.Less(t, file.Size(), int64(200<<10))
		for _, c := range readAll(t, path+name) { // each file by itself
			require.Equal(t, "https://host.example", c.Key.String())
			require.False(t, c.Start.Add(c.Took).Before(last))
			last = c.Start.Add(c.Took)
			kept++
		}
	}
	require.Greater(t, kept, 10_000)
	require.Less(t, kept, calls)

	r, err = recorder.Open(path, recorder.Options{MaxFiles: 3}) // the next process
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NotEmpty(t, readAll(t, path+".1"))
}

func TestCallsOfManyGoroutinesAreAllRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls")
	r, err := recorder.Open(path, recorder.Options{})
	require.NoError(t, err)
	breaker := transport.New(base(func(*http.Request) (*http.Response, error) { return answer(200), nil }), transport.WithObserver(r.Observer()))
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for range 5000 {
				call(breaker, fmt.Sprintf("https://host%d.example/", g))
			}
		})
	}
	all.Wait()
	require.NoError(t, r.Close())
	byKey := map[string]int{}
	for _, c := range readAll(t, path) {
		byKey[c.Key.Host]++
	}
	require.EqualValues(t, 40_000, uint64(len(readAll(t, path)))+r.Lost())
	require.Len(t, byKey, 8)
}

func TestADiskThatFailsCostsCallsAndTellsOfIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "calls")
	var mu sync.Mutex
	var told []error
	r, err := recorder.Open(path, recorder.Options{MaxBytes: 1, OnError: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err)
	}})
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir)) // what follows the first file cannot be made
	breaker := transport.New(base(func(*http.Request) (*http.Response, error) { return answer(200), nil }), transport.WithObserver(r.Observer()))
	for range 50_000 {
		call(breaker, "https://host.example/")
	}
	require.NoError(t, r.Close())
	require.NotZero(t, r.Lost())
	require.NotEmpty(t, told)
	require.True(t, errors.Is(told[0], os.ErrNotExist), told[0])
	_, err = recorder.Open(path, recorder.Options{})
	require.Error(t, err)
}

func TestAFileThatIsCutIsReadUpToThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls")
	r, err := recorder.Open(path, recorder.Options{})
	require.NoError(t, err)
	breaker := transport.New(base(func(*http.Request) (*http.Response, error) { return answer(503), nil }), transport.WithObserver(r.Observer()))
	for range 5 {
		call(breaker, "https://host.example/")
	}
	require.NoError(t, r.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for n := range len(whole) {
		require.NoError(t, os.WriteFile(path, whole[:n], 0o600))
		file, err := os.Open(path)
		require.NoError(t, err)
		reader, err := recorder.NewReader(file)
		if n < len(recorder.Magic) {
			require.Error(t, err)
			file.Close()
			continue
		}
		var c recorder.Call
		read := 0
		for err = reader.Next(&c); err == nil; err = reader.Next(&c) {
			read++
		}
		require.Less(t, read, 5)
		require.True(t, err == io.EOF || err == io.ErrUnexpectedEOF, err)
		file.Close()
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(recorder.Magic + "\x00\x05https\x04host\x00\x01\x00\x80\x80\x01\x05"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := recorder.NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		var c recorder.Call
		for n := 0; r.Next(&c) == nil; n++ {
			require.Less(t, n, len(b))
			require.NotEqual(t, policy.Undecided, c.Outcome)
		}
	})
}

// What a call costs because it is recorded, beside what a Transport that is observed costs itself. The disk is given time,
// since calls that are lost cost less.
func BenchmarkRecord(b *testing.B) {
	const calls = 8000
	for _, callers := range []int{1, 2} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			ends := make([]transport.CallEnd, 100)
			for i := range ends {
				ends[i] = transport.CallEnd{
					Key: transport.Key{Scheme: "https", Host: fmt.Sprintf("host%d.example", i)}, Started: time.Now(),
					Outcome: policy.Success, Cause: policy.Cause{Status: 200},
				}
			}
			path := filepath.Join(b.TempDir(), "calls")
			recorded := 0
			for b.Loop() {
				b.StopTimer()
				r, err := recorder.Open(path, recorder.Options{MaxFiles: 1})
				require.NoError(b, err)
				observer := r.Observer()
				var all sync.WaitGroup
				b.StartTimer()
				for range callers {
					all.Go(func() {
						for i := range calls / callers {
							observer.OnOutcome(ends[i%len(ends)])
						}
					})
				}
				all.Wait()
				b.StopTimer()
				require.NoError(b, r.Close())
				require.Zero(b, r.Lost())
				recorded += calls
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(recorded), "ns/call")
		})
	}
}
