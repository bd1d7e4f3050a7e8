package read

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/fusebox-go/fusebox/policy"
)

// byKey is how many calls there are by key and outcome, as "key: S F I".
func byKey(t *testing.T, o Options, files ...string) map[string]string {
	t.Helper()
	o.Explain = false
	calls, keys := readKeys(t, o, files...)
	counts := map[string]*[4]int{}
	for i := range calls {
		name := keys.Name(calls[i].Key)
		if counts[name] == nil {
			counts[name] = new([4]int)
		}
		counts[name][calls[i].Outcome()]++
	}
	out := map[string]string{}
	for name, n := range counts {
		out[name] = fmt.Sprintf("%d %d %d", n[policy.Success], n[policy.Failure], n[policy.Ignored])
	}
	return out
}

func TestByUpstreamEachAttemptOfNginxIsACall(t *testing.T) {
	want := map[string]string{
		"127.0.0.1:18100": "19 9 3", "127.0.0.1:18101": "16 2 0", "127.0.0.1:18102": "0 8 0", "127.0.0.1:18103": "0 5 1",
		"127.0.0.1:18104": "0 1 1", "127.0.0.1:18105": "0 1 0",
	}
	for _, file := range []string{"nginx-upstream.log", "nginx-json.log", "nginx-ingress.log"} {
		got := byKey(t, Options{Key: "upstream"}, logFile(file))
		delete(got, "(all)") // what nginx answered by itself
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
}

func TestAnAttemptBeginsWhenTheOneBeforeHasEnded(t *testing.T) {
	line := `a - - [29/Nov/2026:02:27:14 +0000] "GET /three/ok HTTP/1.1" 200 8 "-" "-" rt=1.003 ` +
		`ua="127.0.0.1:18102, 127.0.0.1:18103, 127.0.0.1:18101" us="502, 504, 200" uct="-, 0.000, 0.001" ` +
		`uht="-, -, 0.001" urt="0.001, 1.001, 0.001" msec=1795919234.500` + "\n"
	calls, keys := readKeys(t, Options{Key: "upstream", Stdin: strings.NewReader(line)}, "-")
	var got []string
	for i := range calls {
		c := &calls[i]
		got = append(got, fmt.Sprintf("%s %d %v %v", keys.Name(c.Key), c.Start/1e6-1795919233000, c.Took(), c.Cause()))
	}
	want := []string{
		"127.0.0.1:18102 497 1ms connect: refused",
		"127.0.0.1:18103 498 1.001s headers: timeout (transport)",
		"127.0.0.1:18101 1499 1ms ok",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHAProxysCallsAreToldApartByServer(t *testing.T) {
	want := map[string]string{
		"bad/bad": "17 12 0", "two/good": "5 0 0", "redisp/good": "4 0 0", "retryon/good": "0 4 0", "retryon/bad": "0 2 0",
		"refused/dead": "0 2 0", "silent/silent": "0 2 0", "hole/hole": "0 2 0", "queue/bad": "2 0 0",
	}
	got := byKey(t, Options{Key: "upstream"}, logFile("haproxy-httplog.log"))
	delete(got, "(all)")
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// Of the group's the outage is one, whether a server was asked or not.
	if got := byKey(t, Options{}, logFile("haproxy-httplog.log"))["none"]; got != "0 2 0" {
		t.Errorf("none: %q", got)
	}
}

func TestKeysAreWhatIsAskedFor(t *testing.T) {
	for _, test := range []struct {
		key, file, name, want string
	}{
		{"", "nginx-ingress.log", "two", "5 2 0"},
		{"", "nginx-upstream.log", "none", "0 3 0"},
		{"", "traefik.log", "svc@file", "10 12 10"},
		{"host", "caddy-2.11.log", "127.0.0.1:18230", "18 13 10"},
		{"upstream", "squid-native.log", "127.0.0.1:18102", "0 3 0"},
		{"upstream", "otlp.json", "127.0.0.1:18104", "0 1 0"},
		{"upstream", "otel-stdouttrace.json", "127.0.0.1:18104", "0 1 0"},
		{"upstream", "otlp.json", "nosuch.invalid", "0 1 0"},
		{"upstream", "playwright-h1.har", "127.0.0.1:18102", "0 2 0"},
		{"route", "nginx-upstream.log", "GET /status/{id}", "1 2 0"},
		{"route=GET /slow/{ms}", "nginx-upstream.log", "GET /slow/{ms}", "1 0 1"},
		{"route=/ok", "nginx-upstream.log", "/ok", "3 0 0"},
		{"backend", "haproxy-tcplog.log", "tsil", "0 2 0"},
	} {
		if got := byKey(t, Options{Key: test.key}, logFile(test.file))[test.name]; got != test.want {
			t.Errorf("-key %q of %s: %s is %q, want %q", test.key, test.file, test.name, got, test.want)
		}
	}
}

func TestConditionsAndTimesLeaveCallsOut(t *testing.T) {
	for _, test := range []struct {
		where []string
		calls int64
	}{
		{nil, 62},
		{[]string{"status=5*"}, 21},
		{[]string{"path=/two/*"}, 7},
		{[]string{"path=/two/*", "method!=POST"}, 6},
		{[]string{"upstream=127.0.0.1:18104"}, 2},
		{[]string{"client=127.0.0.1"}, 62},
		{[]string{"key!=*"}, 0},
	} {
		_, report := readAll(t, Options{Where: test.where}, logFile("nginx-upstream.log"))
		if sum := report.Sum(); sum.Calls != test.calls || sum.Left != 62-test.calls {
			t.Errorf("%q: %d calls, %d left out", test.where, sum.Calls, sum.Left)
		}
	}
	from, to := at("2026-11-29T03:10:10Z"), at("2026-11-29T03:10:11Z")
	calls, report := readAll(t, Options{From: from, To: to}, logFile("haproxy-httplog.log"))
	if len(calls) != 7 || report.Sum().Left != 52 {
		t.Errorf("%d calls, %d left out", len(calls), report.Sum().Left)
	}
}

func TestOptionsThatCannotBeMeantAreErrors(t *testing.T) {
	for _, o := range []Options{
		{Key: "server"}, {Key: "host=a"}, {Where: []string{"status"}}, {Where: []string{"name=1"}}, {Format: "iis"},
		{Format: "json"}, {Format: "json:start=a"}, {Format: "json:status=a"}, {Format: "json:start=a,what=b"},
		{Format: "nginx:$status"}, {Format: "nginx:$time_local"}, {Format: "nginx:$time_local$status"},
		{Format: "apache:%t %{%A}t %>s"}, {Format: "squid:a"},
	} {
		if s, err := Open(t.Context(), o, logFile("nginx-upstream.log")); err == nil {
			s.Close()
			t.Errorf("%+v is no error", o)
		}
	}
	for _, files := range [][]string{{}, {"no such file"}, {"."}, {"logs_test.go"}} {
		if s, err := Open(t.Context(), Options{}, files...); err == nil {
			s.Close()
			t.Errorf("%q is no error", files)
		}
	}
}
