package main

import (
	"flag"
	"fmt"
	"regexp"
	"time"
)

type options struct {
	rounds    int
	benchtime time.Duration
	cases     []testCase
	subjects  []subject
	least     bool // of the rounds, in place of the median
	floors    bool
	tails     bool
	paired    bool
}

// parse reads the command line.
func parse(args []string, handling flag.ErrorHandling) (*options, error) {
	fs := flag.NewFlagSet("overhead", handling)
	var (
		o      options
		caseRE = fs.String("case", "",
			"run only cases whose name matches this `regexp` (floors, tails and paired are some)")
		subject = fs.String("subject", "", "run only subjects whose name matches this `regexp` (the base always runs)")
	)
	fs.IntVar(&o.rounds, "rounds", 5, "`number` of times that everything is measured")
	fs.DurationVar(&o.benchtime, "benchtime", 100*time.Millisecond, "`time` that one measurement takes")
	fs.BoolVar(&o.least, "least", false,
		"take the least of the rounds and not the median: for a machine that others use, with many short rounds")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if o.rounds < 1 {
		return nil, fmt.Errorf("-rounds %d measures nothing; use a positive number", o.rounds)
	}
	if o.benchtime <= 0 {
		return nil, fmt.Errorf("-benchtime %v measures nothing; use a positive time", o.benchtime)
	}
	name, err := regexp.Compile(*subject)
	if err != nil {
		return nil, err
	}
	for _, s := range subjects() {
		if name.MatchString(s.name) {
			o.subjects = append(o.subjects, s)
		}
	}
	if name, err = regexp.Compile(*caseRE); err != nil {
		return nil, err
	}
	for _, c := range cases() {
		if name.MatchString(c.name) {
			o.cases = append(o.cases, c)
		}
	}
	o.floors, o.tails, o.paired = name.MatchString("floors"), name.MatchString("tails"), name.MatchString("paired")
	if len(o.cases) == 0 && !o.floors && !o.tails && !o.paired {
		return nil, fmt.Errorf("no case matches %q", *caseRE)
	}
	if len(o.subjects) == 0 {
		return nil, fmt.Errorf("no subject matches %q", *subject)
	}
	return &o, nil
}
