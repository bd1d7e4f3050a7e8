package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/rules"
	"github.com/fusebox-go/fusebox/policy"
)

const replayUsage = `usage: fusebox replay [flags] FILES…

Replay reads records of calls, has circuits decide about each, and prints what came of it: for no breaker, the default
policy and those of -policy. FILES are in one order of time whatever their order here; - is standard input, and gzip and
zstd are unpacked. Relative names are of the folder in which the command was typed, also by go run -C.

It exits with
  0  all is well
  1  a policy costs more than -max-price: one of -policy, or the default if there is none
  2  a flag is wrong, or a file cannot be read or written
  3  more lines were not understood than -not-understood allows (what could be read is printed all the same)

Reading
  -format F           auto (the default), by the content; or one of
%s
  -key K              what circuits are told apart by: upstream (each attempt of a proxy at a server is a call),
                      backend, host, route, or route='GET /users/{id}' for that one alone; by default what the format
                      tells best
  -from T, -to T      calls that begin in that time alone: 2026-11-29T13:00:00Z or '2026-11-29 13:00'
  -where C            calls for which that holds: host=api.*, path!=/health, status=5*; can be given again
  -zone Z             zone of times that have none, and of those that are printed, such as Europe/Berlin (UTC)
  -window D           how long calls take at most; longer ones begin so long before their end (2m; 1h of HAR, traces)
  -fail S, -ignore S  statuses that are failures, or say nothing: 429,408; as policy.OnStatus
  -slow D             calls that take longer have failed: 5s; as policy.OnSlow
  -not-understood P   share of lines that may be strange (5%%); 100%% allows all
  -explain            show three lines of each reading, and what was read from them

Deciding
  -policy P           one more policy, with its fields by their Go names; can be given again:
                      'classic failures=5 openfor=30s', 'adaptive evidence=8 throttle=off',
                      'share percent=50 window=10s openfor=30s', 'slow slower=2s percent=50'
  -clients N          deal calls out to N circuits a key by who called, as N processes would have them (1)
  -timeout D          how long callers wait; by default what calls that timed out tell
  -seeds N            how many seeds of the jitter of waits to try (16)
  -suggest            try a grid of policies, and say which to take for -max-price (0.1%% if it is not given)

Printing
  -json FILE          write it all as data; - is standard output, to which nothing else goes then
  -html FILE          draw a page
  -svg FILE           draw a picture
  -max-price P        exit with 1 if more of all calls than that would have succeeded and been refused: 0.1%%
`

// options is what the flags say.
type options struct {
	read       read.Options
	decide     decide.Options
	asked      int  // policies of -policy
	defaultToo bool // it is one of those asked for
	suggest    bool
	strange    float64 // share of lines
	maxPrice   float64 // of calls; -1 if it is not given
	json       string
	html       string
	svg        string
	explain    bool
	files      []string
	from, to   string
}

// many is a flag that can be given again.
type many []string

func (m *many) String() string     { return strings.Join(*m, " ") }
func (m *many) Set(s string) error { *m = append(*m, s); return nil }

func parse(args []string, out io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("fusebox replay", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var policies, fail, ignore many
	var where many
	var zone, maxPrice, strange string
	var slow time.Duration
	flags.StringVar(&o.read.Format, "format", "", "")
	flags.StringVar(&o.read.Key, "key", "", "")
	flags.StringVar(&o.from, "from", "", "")
	flags.StringVar(&o.to, "to", "", "")
	flags.Var(&where, "where", "")
	flags.StringVar(&zone, "zone", "", "")
	flags.DurationVar(&o.read.Window, "window", 0, "")
	flags.Var(&fail, "fail", "")
	flags.Var(&ignore, "ignore", "")
	flags.DurationVar(&slow, "slow", 0, "")
	flags.StringVar(&strange, "not-understood", "5%", "")
	flags.BoolVar(&o.explain, "explain", false, "")
	flags.Var(&policies, "policy", "")
	flags.IntVar(&o.decide.Clients, "clients", 1, "")
	flags.DurationVar(&o.decide.Timeout, "timeout", 0, "")
	flags.IntVar(&o.decide.Seeds, "seeds", 16, "")
	flags.BoolVar(&o.suggest, "suggest", false, "")
	flags.StringVar(&o.json, "json", "", "")
	flags.StringVar(&o.html, "html", "", "")
	flags.StringVar(&o.svg, "svg", "", "")
	flags.StringVar(&maxPrice, "max-price", "", "")
	for len(args) > 0 { // flags may stand behind files
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintf(out, replayUsage, formats())
				return o, err
			}
			return o, fmt.Errorf("%w; fusebox replay -h tells the flags", err)
		}
		rest := flags.Args()
		if after := len(args) - len(rest); after > 0 && args[after-1] == "--" {
			o.files = append(o.files, rest...)
			break
		}
		if len(rest) > 0 {
			o.files = append(o.files, rest[0])
			rest = rest[1:]
		}
		args = rest
	}
	if len(o.files) == 0 {
		return o, errors.New("there is no file to read; write fusebox replay access.log, or - for standard input")
	}
	o.read.Where, o.read.Explain = where, o.explain
	if zone != "" {
		if o.read.Zone, err = time.LoadLocation(zone); err != nil {
			return o, fmt.Errorf("-zone: %w", err)
		}
	}
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"-from", o.from, &o.read.From}, {"-to", o.to, &o.read.To}} {
		if *bound.to, err = parseTime(bound.text, o.read.Zone); err != nil {
			return o, fmt.Errorf("%s: %w", bound.flag, err)
		}
	}
	if o.read.Judge, err = judge(fail, ignore, slow); err != nil {
		return o, err
	}
	if o.strange, err = parseShare(strange); err != nil {
		return o, fmt.Errorf("-not-understood: %w", err)
	}
	if o.maxPrice = -1; maxPrice != "" {
		if o.maxPrice, err = parseShare(maxPrice); err != nil {
			return o, fmt.Errorf("-max-price: %w", err)
		}
	}
	switch {
	case o.decide.Clients < 1 || o.decide.Clients > 10000:
		return o, fmt.Errorf("-clients is %d; write a number from 1 to 10000", o.decide.Clients)
	case o.decide.Seeds < 1 || o.decide.Seeds > 1000:
		return o, fmt.Errorf("-seeds is %d; write a number from 1 to 1000", o.decide.Seeds)
	case o.decide.Timeout < 0 || o.read.Window < 0 || slow < 0:
		return o, errors.New("-timeout, -window and -slow cannot be negative")
	case o.json == "-" && (o.html == "-" || o.svg == "-") || o.html == "-" && o.svg == "-":
		return o, errors.New("only one of -json, -html and -svg can be standard output")
	}
	o.decide.Policies = []decide.Policy{{Name: "default", Policy: policy.Adaptive{}}}
	for _, text := range policies {
		p, err := rules.Parse(text)
		if err != nil {
			return o, fmt.Errorf("-policy: %w", err)
		}
		name := strings.Join(strings.Fields(text), " ")
		if name == "default" {
			o.defaultToo = true
		}
		o.asked++
		if !slices.ContainsFunc(o.decide.Policies, func(had decide.Policy) bool { return had.Name == name }) {
			o.decide.Policies = append(o.decide.Policies, decide.Policy{Name: name, Policy: p})
		}
	}
	return o, nil
}

// formats lists the formats that there are.
func formats() string {
	var b strings.Builder
	line := strings.Repeat(" ", 22)
	for _, name := range read.Formats() {
		if len(line)+len(name) > 118 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = strings.Repeat(" ", 22)
		}
		line += name + "  "
	}
	return b.String() + strings.TrimRight(line, " ")
}

// parseTime reads a time of -from or -to; the zero time of an empty text.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if zone == nil {
		zone = time.UTC
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write such as 2026-11-29T13:00:00Z or '2026-11-29 13:00'", text)
}

// parseShare reads 0.1% or 0.001.
func parseShare(text string) (float64, error) {
	number, inPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if inPercent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("%q is no share; write such as 0.1%%", text)
	}
	return share, nil
}

// judge is the classifier of -fail, -ignore and -slow; nil if there are none.
func judge(fail, ignore []string, slow time.Duration) (policy.Classifier, error) {
	var all []policy.Classifier
	for _, of := range []struct {
		flag    string
		texts   []string
		outcome policy.Outcome
	}{{"-fail", fail, policy.Failure}, {"-ignore", ignore, policy.Ignored}} {
		var codes []int
		for _, text := range of.texts {
			for word := range strings.SplitSeq(text, ",") {
				code, err := strconv.Atoi(strings.TrimSpace(word))
				if err != nil || code < 100 || code > 999 {
					return nil, fmt.Errorf("%s: %q is no status; write such as 429,408", of.flag, word)
				}
				codes = append(codes, code)
			}
		}
		if len(codes) > 0 {
			all = append(all, policy.OnStatus(of.outcome, codes...))
		}
	}
	if slow > 0 {
		all = append(all, policy.OnSlow(slow))
	}
	if len(all) == 0 {
		return nil, nil
	}
	return policy.FirstOf(all...), nil
}
