//go:build linux

package read

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// The calls of testdata/outages were made so, with -write -seconds 60; those of otelhttp by examples/otel/outages.
var seconds = flag.Int("seconds", 12, "for how long calls are made behind proxies")

// outages are what the proxies, and otelhttp, wrote of the same calls, and callers by its side.
var outages = []struct {
	name, format string
	where        []string
}{
	{"nginx.log", "", nil},
	{"nginx-msec.log", "nginx:$msec $status $request_time $upstream_addr $upstream_status $upstream_connect_time " +
		"$upstream_header_time $upstream_response_time", nil},
	{"haproxy.log", "", []string{"path=/*"}}, // and no connection without a request
	{"otel.json", "", nil},
}

func TestWhatWasWrittenOfOutagesIsWhatCallersMet(t *testing.T) {
	folder := filepath.Join("..", "..", "testdata", "outages")
	for _, log := range outages {
		agree(t, log.format, log.where, 1, filepath.Join(folder, log.name+".gz"), filepath.Join(folder, callersOf(log.name)+".gz"))
	}
}

// callersOf is where the callers of a log have written.
func callersOf(log string) string {
	switch log {
	case "haproxy.log":
		return "haproxy-callers.json"
	case "otel.json":
		return "otel-callers.json"
	}
	return "nginx-callers.json"
}

// agree compares what a log says with what callers met: every call, and the times of a share of them.
func agree(t *testing.T, format string, where []string, share float64, log, callers string) {
	t.Helper()
	got, report := readAll(t, Options{Format: format, Where: where}, log)
	want, _ := readAll(t, Options{Format: "json:start=start,ns=ns,status=status,error=error"}, callers)
	if len(got) != len(want) || len(want) < 100 {
		t.Errorf("%s has %d calls, of %d that were made", log, len(got), len(want))
		return
	}
	if n := report.Sum().NotUnderstood; n != 0 {
		t.Errorf("%d lines of %s are not understood: %+v", n, log, report.Files[0].Strange)
	}
	var starts, ends []time.Duration
	for i := range got {
		starts = append(starts, time.Duration(got[i].Start-want[i].Start).Abs())
	}
	endsOf := func(calls []record.Call) (all []int64) {
		for i := range calls {
			if calls[i].Outcome() == policy.Failure {
				all = append(all, calls[i].End())
			}
		}
		slices.Sort(all)
		return all
	}
	a, b := endsOf(got), endsOf(want)
	if len(a) != len(b) || len(b) < 20 {
		t.Errorf("%s has %d failures, of %d that callers met", log, len(a), len(b))
		return
	}
	for i := range a {
		ends = append(ends, time.Duration(a[i]-b[i]).Abs())
	}
	slices.Sort(starts)
	slices.Sort(ends)
	t.Logf("%s: %d calls, %d failures; starts are off by at most %v, the ends of failures by %v", filepath.Base(log), len(got),
		len(a), starts[len(starts)-1].Round(time.Millisecond), ends[len(ends)-1].Round(time.Millisecond))
	for of, off := range map[string][]time.Duration{"starts": starts, "ends of failures": ends} {
		if some := off[int(float64(len(off)-1)*share)]; some > 300*time.Millisecond {
			t.Errorf("of %v of the %s none should be off by more than 300 ms, and one is by %v", share, of, some)
		}
	}
}

// TestWhatNginxAndHAProxyWriteIsWhatTheirCallersMeet makes calls behind both, with outages of the upstream.
func TestWhatNginxAndHAProxyWriteIsWhatTheirCallersMeet(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	upstream := newFlaky(t)
	made := 0
	var wait sync.WaitGroup
	for _, p := range []struct {
		name  string
		start func(t *testing.T, path, folder, upstream string) string
	}{{"nginx", startNginx}, {"haproxy", startHAProxy}} {
		path := program(t, p.name)
		if path == "" {
			continue
		}
		made++
		address := p.start(t, path, folder, upstream.address)
		wait.Go(func() { callAll(t, "http://"+address, filepath.Join(folder, p.name+"-callers.json")) })
	}
	if made == 0 {
		return
	}
	upstream.play(time.Duration(*seconds) * time.Second)
	wait.Wait()
	stopAll(t)
	for _, log := range outages {
		path := filepath.Join(folder, log.name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if log.name == "haproxy.log" && made < 2 {
			continue
		}
		callers := filepath.Join(folder, callersOf(log.name))
		agree(t, log.format, log.where, 0.9, path, callers) // a machine that is busy hands some calls over late
		if *write {
			for _, file := range []string{path, callers} {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				to := filepath.Join("..", "..", "testdata", "outages", filepath.Base(file)+".gz")
				if err := os.WriteFile(to, gzippedWell(t, b), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// flaky is an upstream that answers in some milliseconds, and at times does not.
type flaky struct {
	address string
	hangs   atomic.Bool
	mu      sync.Mutex
	server  *http.Server
}

func newFlaky(t *testing.T) *flaky {
	f := &flaky{address: testkit.FreeAddress(t)}
	f.up()
	t.Cleanup(f.down)
	return f
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait := time.Duration(2+rand.IntN(30)) * time.Millisecond
	if f.hangs.Load() {
		wait = time.Minute
	}
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return
	}
	if rand.IntN(200) == 0 {
		w.WriteHeader(http.StatusInternalServerError)
	}
	io.WriteString(w, "ok")
}

func (f *flaky) up() {
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = &http.Server{Handler: f}
	go f.server.Serve(l)
}

func (f *flaky) down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server.Close()
}

// play has two outages: connections are refused, and then nothing is answered.
func (f *flaky) play(all time.Duration) {
	for i, act := range []func(){func() {}, f.down, f.up, func() { f.hangs.Store(true) }, func() { f.hangs.Store(false) }} {
		act()
		part := all * 3 / 20
		if i%2 == 0 {
			part = all * 7 / 30
		}
		<-time.After(part)
	}
}

// callAll makes 60 calls a second, and writes what came of each.
func callAll(t *testing.T, url, file string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500, DisableKeepAlives: true}}
	var mu sync.Mutex
	var out bytes.Buffer
	var calls sync.WaitGroup
	tick := time.NewTicker(time.Second / 60)
	defer tick.Stop()
	for range 60 * *seconds {
		<-tick.C
		calls.Go(func() {
			start := time.Now()
			status, failed := 0, ""
			resp, err := client.Get(url)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				status = resp.StatusCode
			}
			if err != nil {
				failed = err.Error()
			}
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&out, `{"start":%q,"ns":%d,"status":%d,"error":%q}`+"\n", start.UTC().Format(time.RFC3339Nano), took, status, failed)
		})
	}
	calls.Wait()
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Error(err)
	}
}

func program(t *testing.T, name string) string {
	for _, folder := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/local/sbin") {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	if os.Getenv("FUSEBOX_REQUIRE_PROXIES") != "" {
		t.Fatalf("there is no %s, and FUSEBOX_REQUIRE_PROXIES is set", name)
	}
	t.Logf("%s is left out: there is none on this machine", name)
	return ""
}

func startNginx(t *testing.T, path, folder, upstream string) string {
	address := testkit.FreeAddress(t)
	config := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
worker_processes 2;
events {}
http {
	log_format up '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
		'rt=$request_time ua="$upstream_addr" us="$upstream_status" uct="$upstream_connect_time" uht="$upstream_header_time" '
		'urt="$upstream_response_time"';
	log_format ms '%[4]s';
	access_log %[1]s/nginx.log up;
	access_log %[1]s/nginx-msec.log ms;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / { proxy_pass http://%[3]s; proxy_read_timeout 1s; proxy_connect_timeout 1s; }
	}
}
`, folder, address, upstream, outages[1].format[len("nginx:"):])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, address, exec.Command(path, "-p", folder, "-c", config))
	return address
}

func startHAProxy(t *testing.T, path, folder, upstream string) string {
	address := testkit.FreeAddress(t)
	config := filepath.Join(folder, "haproxy.cfg")
	log, err := os.Create(filepath.Join(folder, "haproxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	text := fmt.Sprintf(`global
	log stdout format raw local0 info
defaults
	mode http
	log global
	option httplog
	retries 0
	timeout connect 1s
	timeout client 10s
	timeout server 1s
frontend fe
	bind %s
	default_backend be
backend be
	server s1 %s
`, address, upstream)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, "-db", "-f", config)
	command.Stdout = log
	run(t, address, command)
	return address
}

var (
	stopsMu sync.Mutex
	stops   []func()
)

// stopAll ends the programs, so that they have written what they had to.
func stopAll(*testing.T) {
	stopsMu.Lock()
	defer stopsMu.Unlock()
	for _, stop := range stops {
		stop()
	}
	stops = nil
}

// run starts a program that ends with the test, and waits until it listens.
func run(t *testing.T, address string, command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { command.Wait(); close(ended) }()
	stop := sync.OnceFunc(func() {
		command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
		}
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	t.Cleanup(stop)
	stopsMu.Lock()
	stops = append(stops, stop)
	stopsMu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended", command.Path)
		case <-ctx.Done():
			t.Fatalf("%s does not listen", command.Path)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func gzippedWell(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
