package main

import (
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// Seeds for whoever tunes a policy, and seeds to judge it by, which nobody tunes on. A run uses the latter unless told
// otherwise.
const (
	firstTuningSeed  = 1 // to 9
	firstHeldOutSeed = 301
	heldOutSeeds     = 5
)

func workers() int { return runtime.GOMAXPROCS(0) }

type options struct {
	table    table
	out      string
	markdown bool
	json     bool
	detail   bool
}

// parse reads the command line.
func parse(args []string, handling flag.ErrorHandling) (*options, error) {
	fs := flag.NewFlagSet("decisions", handling)
	var (
		o       options
		subject = fs.String("subject", "",
			"run only subjects whose name matches this regular expression (the oracle always runs)")
		scenario = fs.String("scenario", "", "run only scenarios whose name matches this regular expression")
		fleets   = fs.Bool("fleets", false, "run the scenarios of many clients, and two more of that kind")
		seeds    = fs.Int("seeds", heldOutSeeds,
			fmt.Sprintf("number of held-out `seeds`, from %d on", firstHeldOutSeed))
		seedList = fs.String("seed", "",
			fmt.Sprintf("comma-separated `seeds` instead; those from %d on are for tuning", firstTuningSeed))
		scaleList = fs.String("scale", "1", "comma-separated `factors` of every rate and capacity")
	)
	fs.StringVar(&o.out, "out", "decisions/out", "`folder` for the SVGs; empty: none")
	fs.BoolVar(&o.markdown, "md", false, "print Markdown")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.BoolVar(&o.detail, "detail", false, "print all measures of all scenarios")
	fuseboxFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}

	name, err := regexp.Compile(*subject)
	if err != nil {
		return nil, err
	}
	for i, s := range subjects() {
		if i == 0 || name.MatchString(s.name) {
			o.table.subjects = append(o.table.subjects, s)
		}
	}
	if name, err = regexp.Compile(*scenario); err != nil {
		return nil, err
	}
	for _, sc := range scenarios() {
		if name.MatchString(sc.name) && (sc.clients > 1 || !*fleets) && (*fleets || !sc.apart) {
			o.table.scenarios = append(o.table.scenarios, sc)
		}
	}
	if len(o.table.scenarios) == 0 {
		return nil, fmt.Errorf("no scenario matches %q", *scenario)
	}
	for n := range *seeds {
		o.table.seeds = append(o.table.seeds, firstHeldOutSeed+uint64(n))
	}
	if *seedList != "" {
		seed := func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
		if o.table.seeds, err = list(*seedList, seed); err != nil {
			return nil, err
		}
	}
	scale := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	if o.table.scales, err = list(*scaleList, scale); err != nil {
		return nil, err
	}
	for _, scale := range o.table.scales {
		if !(scale > 0) {
			return nil, fmt.Errorf("a scale of %v makes no traffic; use a positive one", scale)
		}
	}
	if len(o.table.seeds) == 0 {
		return nil, fmt.Errorf("no seeds: use -seeds with a positive number")
	}
	return &o, nil
}

func list[T any](s string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for part := range strings.SplitSeq(s, ",") {
		v, err := parse(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
