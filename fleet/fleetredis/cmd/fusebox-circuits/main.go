// Fusebox-circuits shows which circuits are open in a fleet that shares a Redis, and forces circuits of all members
// that follow (fleetredis.FollowOverrides).
//
//	fusebox-circuits -redis redis://localhost:6379 -namespace shop
//	fusebox-circuits force -for 30m 'https://*.example.com*' open
//	fusebox-circuits release 'https://*.example.com*'
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/internal/visible"
	"github.com/fusebox-go/fusebox/policy"
)

const usage = `usage: fusebox-circuits [flags] [command]

  list                            what is open, by whom, what Storages have written, what is forced; the default
  force [-for time] pattern state have all members that follow keep circuits open or closed
  release pattern                 end that

A pattern is a key, as list shows it, in which each * stands for any text. Flags come before the command:

`

// errUsage says that what is wrong has been said already.
var errUsage = errors.New("usage")

// silence is a log of go-redis that nobody reads: what matters of it is in the error that the command ends with.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func main() {
	redis.SetLogger(silence{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "fusebox-circuits:", err)
		os.Exit(1)
	}
}

type tool struct {
	admin *fleetredis.Admin
	out   io.Writer
	json  bool
}

func run(ctx context.Context, args []string, out, problems io.Writer) error {
	flags := flag.NewFlagSet("fusebox-circuits", flag.ContinueOnError)
	flags.SetOutput(problems)
	flags.Usage = func() {
		fmt.Fprint(problems, usage)
		flags.PrintDefaults()
	}
	address := flags.String(
		"redis", "redis://localhost:6379",
		"`URL` of Redis or Valkey: redis, rediss (TLS) or unix; further nodes of a cluster as ?addr=host:port, "+
			"a master that\nSentinel knows as ?master_name=name. A URL in FUSEBOX_REDIS, "+
			"where a password is not seen by others, is the default",
	)
	if fromEnv := os.Getenv("FUSEBOX_REDIS"); fromEnv != "" {
		*address = fromEnv
	}
	namespace := flags.String("namespace", "default", "`name` of the fleet, as in fleetredis.Options")
	asJSON := flags.Bool("json", false, "list as JSON")
	timeout := flags.Duration("timeout", 5*time.Second, "how long Redis may take")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if strings.ContainsAny(*namespace, "{}") {
		return errors.New("-namespace must not contain braces")
	}
	if *timeout <= 0 {
		return fmt.Errorf("-timeout is %v; write a positive time", *timeout)
	}
	command, rest := "list", flags.Args()
	if len(rest) > 0 {
		command, rest = rest[0], rest[1:]
	}
	do, err := parse(command, rest, problems)
	if err != nil {
		return err
	}
	client, err := connect(*address, *timeout)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	return do(ctx, tool{fleetredis.NewAdmin(client, fleetredis.Options{Namespace: *namespace}), out, *asJSON})
}

// parse returns what a command does. What is wrong with it is found before Redis is asked.
func parse(command string, args []string, problems io.Writer) (func(context.Context, tool) error, error) {
	switch command {
	case "list":
		if len(args) > 0 {
			return nil, fmt.Errorf("list takes no arguments, and there is %q; flags come before the command", args[0])
		}
		return func(ctx context.Context, t tool) error { return t.list(ctx) }, nil
	case "force":
		flags := flag.NewFlagSet("fusebox-circuits force", flag.ContinueOnError)
		flags.SetOutput(problems)
		hold := flags.Duration("for", time.Hour, "how long it holds if nobody releases it")
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if flags.NArg() != 2 {
			return nil, fmt.Errorf("force takes a pattern and a state, open or closed, and there are %d arguments; "+
				"flags come before them, as in force -for 30m x open", flags.NArg())
		}
		var state policy.State
		if err := state.UnmarshalText([]byte(flags.Arg(1))); err != nil || state == policy.HalfOpen {
			return nil, fmt.Errorf("circuits can be forced open or closed, and not %q", flags.Arg(1))
		}
		return func(ctx context.Context, t tool) error {
			followers, err := t.admin.Force(ctx, flags.Arg(0), state, *hold)
			if err != nil {
				return err
			}
			who := fmt.Sprintf("of %d that follow", followers)
			if followers == 0 {
				who = "but nobody follows in this namespace just now (fleetredis.FollowOverrides)"
			}
			_, err = fmt.Fprintf(t.out, "%s: %v for %v, %s\n", visible.Text(flags.Arg(0)), state, *hold, who)
			return err
		}, nil
	case "release":
		if len(args) != 1 {
			return nil, fmt.Errorf("release takes a pattern, and there are %d arguments", len(args))
		}
		return func(ctx context.Context, t tool) error {
			known, err := t.admin.Release(ctx, args[0])
			if err == nil && !known {
				err = fmt.Errorf("nothing is forced by the pattern %q; list shows what is", args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(t.out, "%s: released\n", visible.Text(args[0]))
			return err
		}, nil
	}
	return nil, fmt.Errorf("there is no command %q; -help shows those that there are", command)
}

func connect(address string, timeout time.Duration) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil {
		// without the URL, which may have a password
		return nil, errors.New("-redis is no URL; write one such as redis://localhost:6379")
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, fmt.Errorf("-redis: %w", err)
		}
		o.ContextTimeoutEnabled, o.DialTimeout = true, timeout
		return redis.NewFailoverClient(o), nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, fmt.Errorf("-redis: %w", err)
		}
		o.ContextTimeoutEnabled, o.DialTimeout = true, timeout
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("-redis: %w", err)
	}
	o.ContextTimeoutEnabled, o.DialTimeout = true, timeout
	return redis.NewClient(o), nil
}

// listing is what list shows, and its JSON.
type listing struct {
	Open      []openCircuit       `json:"open"`
	Records   []fleetredis.Record `json:"records"`
	Overrides []override          `json:"overrides"`
}

type openCircuit struct {
	fleetredis.OpenCircuit
	Since time.Time `json:"since"`
}

type override struct {
	fleetredis.Override
	Until time.Time `json:"until"`
}

func (t tool) list(ctx context.Context) error {
	now := time.Now()
	open, err := t.admin.Open(ctx)
	if err != nil {
		return err
	}
	records, err := t.admin.Records(ctx)
	if err != nil {
		return err
	}
	overrides, err := t.admin.Overrides(ctx)
	if err != nil {
		return err
	}
	l := listing{Open: []openCircuit{}, Records: append([]fleetredis.Record{}, records...), Overrides: []override{}}
	for _, o := range open {
		l.Open = append(l.Open, openCircuit{o, now.Add(-o.For)})
	}
	for _, o := range overrides {
		l.Overrides = append(l.Overrides, override{o, now.Add(o.Left)})
	}
	if t.json {
		encoder := json.NewEncoder(t.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(l)
	}
	return l.print(t.out, now)
}

func (l listing) print(out io.Writer, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "open now: %d\n", len(l.Open))
	if len(l.Open) > 0 {
		fmt.Fprintln(table, "circuit\tmember\tin trouble for")
	}
	for _, o := range l.Open {
		fmt.Fprintf(table, "%v\t%s\t%v\n", o.Key, printable(o.Member), o.For.Round(time.Second))
	}
	fmt.Fprintf(table, "\nlast changes: %d\n", len(l.Records))
	if len(l.Records) > 0 {
		fmt.Fprintln(table, "circuit\tstate\tsince\tago\tnext probe\tfailures\tsuccesses")
	}
	for _, r := range l.Records {
		fmt.Fprintf(
			table, "%v\t%v\t%s\t%v\t%s\t%d\t%d\n", r.Key, r.State, clock(r.Since), now.Sub(r.Since).Round(time.Second),
			clock(r.NextProbe), r.Failures, r.Successes,
		)
	}
	fmt.Fprintf(table, "\nforced: %d\n", len(l.Overrides))
	if len(l.Overrides) > 0 {
		fmt.Fprintln(table, "pattern\tstate\tsince\tends in")
	}
	for _, o := range l.Overrides {
		fmt.Fprintf(table, "%s\t%v\t%s\t%v\n", printable(o.Pattern), o.State, clock(o.At), o.Left.Round(time.Second))
	}
	return table.Flush()
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// printable escapes what could confuse a terminal: whoever can write to Redis is not to write to it.
func printable(s string) string {
	quoted := fmt.Sprintf("%q", s)
	return visible.Text(quoted[1 : len(quoted)-1]) // and what prints and cannot be seen
}
