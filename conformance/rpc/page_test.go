package rpc

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const page = "../../docs/rpc.md"

var write = flag.Bool("write", false, "write docs/rpc.md and do not compare it")

const head = `# What every code of every protocol comes to

Each cell is calls that were really made, on loopback, by connect's client to a server of grpc-go or of connect, in each of the forms: unary, a stream
of no message and one of three. It has the outcome under ` + "`policy.GRPC()`" + `, and after "was" that under ` + "`policy.DefaultClassifier`" + `, where that is another, of the unary form first. The page is
written by ` + "`cd conformance && go test ./rpc -run TestPage -write`" + ` and by no hand; without ` + "`-write`" + ` the test compares it with what it sees.

`

func TestPageHasWhatWasSeen(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	mod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	var versions []string
	for _, name := range []string{"connectrpc.com/connect", "google.golang.org/grpc"} {
		version := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(name) + ` (\S+)`).FindStringSubmatch(string(mod))
		require.NotNil(t, version, name)
		versions = append(versions, name+" "+version[1])
	}
	fmt.Fprintf(&b, "With %s.\n\n| code |", strings.Join(versions, ", "))
	urls := make([]string, len(protocols))
	for n, p := range protocols {
		urls[n] = p.url(t)
		fmt.Fprintf(&b, " %s |", p.name)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(protocols)+1) + "\n")
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		fmt.Fprintf(&b, "| %d %s |", code, code)
		for n, p := range protocols {
			with := outcomesOf(t, p, urls[n], code, transport.WithClassifier(policy.GRPC()))
			require.Len(t, with, 1, "the forms differ")
			b.WriteString(" " + with[0])
			if without := outcomesOf(t, p, urls[n], code); len(without) != 1 || without[0] != with[0] {
				b.WriteString(", was " + strings.Join(without, " or "))
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	if *write {
		require.NoError(t, os.WriteFile(page, []byte(b.String()), 0o644))
		return
	}
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, string(written), b.String(), "look at each difference, then: go test ./rpc -run TestPage -write")
}

// outcomesOf returns what outcomes the forms of a call have, each once.
func outcomesOf(t *testing.T, p protocol, url string, code codes.Code, opts ...transport.Option) (outcomes []string) {
	c := newCaller(p.base(t), url, p.opts, append(opts, transport.WithPolicy(policy.Classic{Failures: 100}))...)
	require.Equal(t, code, c.unary(code))
	for _, messages := range []int{0, 3} {
		got, err := c.stream(code, messages, messages+1)
		require.NoError(t, err)
		require.Equal(t, code, got)
	}
	require.Len(t, c.ends, 3)
	for _, end := range c.ends {
		if text := end.Outcome.String(); len(outcomes) == 0 || outcomes[len(outcomes)-1] != text {
			outcomes = append(outcomes, text)
		}
	}
	return outcomes
}
