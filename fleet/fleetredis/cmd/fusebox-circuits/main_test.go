package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestMain(m *testing.M) {
	if args := os.Getenv("FUSEBOX_CIRCUITS_TEST"); args != "" {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		return
	}
	os.Exit(m.Run())
}

// The library's log would come between the lines, several for each attempt.
func TestWhatIsWrongIsSaidInOneLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "FUSEBOX_CIRCUITS_TEST=-redis redis://"+l.Addr().String())
	text, err := c.CombinedOutput()
	require.Error(t, err)
	assert.Regexp(t, `\Afusebox-circuits: .*refused.*\n\z`, string(text))
}

// command runs the command, and returns what it printed.
func command(args ...string) (out, problems string, err error) {
	var o, p bytes.Buffer
	err = run(context.Background(), args, &o, &p)
	return o.String(), p.String(), err
}

func TestListShowsWhatIsThere(t *testing.T) {
	url := "redis://" + miniredis.RunT(t).Addr()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer client.Close()
	out, _, err := command("-redis", url)
	require.NoError(t, err)
	assert.Equal(t, "open now: 0\n\nlast changes: 0\n\nforced: 0\n", out)

	key := transport.Key{Scheme: "https", Host: "api.example.com"}
	options := fleetredis.Options{Namespace: "shop"}
	link := fleetredis.New(client, options).Join("one\x1b[31m", func(fleet.Message) {})
	defer link.Close()
	link.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute, Ago: 90 * time.Second})
	storage := fleetredis.NewStorage(client, options)
	defer storage.Close()
	require.NoError(t, storage.Save(transport.Record{Key: key, State: policy.Open, Since: time.Now(), Failures: 6}))
	out, _, err = command("-redis", url, "-namespace", "shop", "force", "-for", "5m", "https://*", "open")
	require.NoError(t, err)
	assert.Equal(t, "https://*: open for 5m0s, but nobody follows in this namespace just now (fleetredis.FollowOverrides)\n", out)
	require.Eventually(t, func() bool {
		out, _, err = command("-redis", url, "-namespace", "shop", "list")
		return err == nil && strings.Contains(out, "open now: 1\n") && strings.Contains(out, "last changes: 1\n")
	}, 20*time.Second, 10*time.Millisecond)
	assert.Regexp(t, `https://api\.example\.com +one\\x1b\[31m +1m3\ds\n`, out)
	assert.Regexp(t, `https://api\.example\.com +open +20\S+Z +\ds +- +6 +0\n`, out)
	assert.Regexp(t, `forced: 1\n.*\nhttps://\* +open +20\S+Z +(5m0s|4m\d\ds)\n`, out)

	// One record that somebody has made up does not take the others from -json.
	require.NoError(t, client.HSet(context.Background(), "fusebox:{shop}:v1:overrides", "x", `{"state":"open","at":9000000000000000,"until":9000000000000000}`).Err())
	_, _, err = command("-redis", url, "-namespace", "shop", "-json")
	require.NoError(t, err)
	_, _, err = command("-redis", url, "-namespace", "shop", "release", "x")
	require.NoError(t, err)
	out, _, err = command("-redis", url, "-namespace", "shop", "-json")
	require.NoError(t, err)
	var all struct {
		Open []struct {
			Key, Member string
			Since       time.Time
		}
		Records []struct {
			Key, State string
			Failures   int
		}
		Overrides []struct {
			Pattern, State string
			Until          time.Time
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	require.Len(t, all.Open, 1)
	assert.Equal(t, "https://api.example.com", all.Open[0].Key)
	assert.WithinDuration(t, time.Now().Add(-90*time.Second), all.Open[0].Since, 20*time.Second)
	require.Len(t, all.Records, 1)
	assert.Equal(t, "open", all.Records[0].State)
	require.Len(t, all.Overrides, 1)
	assert.WithinDuration(t, time.Now().Add(5*time.Minute), all.Overrides[0].Until, 20*time.Second)

	out, _, err = command("-redis", url, "-namespace", "shop", "release", "https://*")
	require.NoError(t, err)
	assert.Equal(t, "https://*: released\n", out)
	_, _, err = command("-redis", url, "-namespace", "shop", "release", "https://*")
	assert.ErrorContains(t, err, `nothing is forced by the pattern "https://*"`)
}

func TestBadInputIsSaidToBeBad(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // in the error, or in what is printed with errUsage
	}{
		{[]string{"dance"}, `there is no command "dance"`},
		{[]string{"list", "-json"}, "flags come before the command"},
		{[]string{"force"}, "there are 0 arguments"},
		{[]string{"force", "x", "open", "-for", "30m"}, "flags come before them"},
		{[]string{"force", "x", "half-open"}, `not "half-open"`},
		{[]string{"force", "x", "ajar"}, `not "ajar"`},
		{[]string{"force", "-for", "soon", "x", "open"}, "-for"},
		{[]string{"release"}, "release takes a pattern"},
		{[]string{"-nothing"}, "-nothing"},
		{[]string{"-namespace", "a}b"}, "braces"},
		{[]string{"-timeout", "-1s"}, "write a positive time"},
		{[]string{"-redis", "localhost:6379"}, "-redis"},
		{[]string{"-redis", "http://localhost"}, "-redis"},
		{[]string{"-redis", "redis://localhost/x"}, "-redis"},
		{[]string{"-redis", "redis://localhost?addr=a:1&x=y"}, "-redis"},
		{[]string{"-redis", "redis://localhost?master_name=m&x=y"}, "-redis"},
	} {
		_, problems, err := command(test.args...)
		if assert.Error(t, err, test.args) {
			assert.Contains(t, err.Error()+problems, test.want)
		}
	}
	_, problems, err := command("-redis", "redis://:hunter2@local host")
	require.Error(t, err)
	assert.NotContains(t, err.Error()+problems, "hunter2")
}

func TestHelpIsHelp(t *testing.T) {
	for _, args := range [][]string{{"-help"}, {"force", "-help"}} {
		_, problems, err := command(args...)
		require.ErrorIs(t, err, flag.ErrHelp)
		assert.Contains(t, problems, "-for")
	}
}

func TestARedisThatIsNotThereIsSaidSoInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	require.NoError(t, err)
	defer l.Close()
	start := time.Now()
	_, _, err = command("-redis", "redis://"+l.Addr().String(), "-timeout", "300ms")
	require.Error(t, err)
	assert.Less(t, time.Since(start), 5*time.Second)
}
