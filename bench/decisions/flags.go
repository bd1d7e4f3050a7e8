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

// workers is how many worlds are run at a time.
var workers = runtime.GOMAXPROCS(0)

type options struct {
	table    table
	draws    *draws // in place of the table
	looks    string
	from     string
	before   string
	out      string
	markdown bool
	json     bool
	detail   bool
}

// parse reads the command line.
func parse(args []string, handling flag.ErrorHandling) (*options, error) {
	fs := flag.NewFlagSet("decisions", handling)
	var (
		o        options
		ablation = fs.Bool("ablation", false, "run Fusebox, and Fusebox without each of its rules that can be off")
		subject  = fs.String("subject", "",
			"run only subjects whose name matches this regular expression (the oracle always runs)")
		scenario = fs.String("scenario", "", "run only scenarios whose name matches this regular expression")
		fleets   = fs.Bool("fleets", false, "run the scenarios of many clients, and two more of that kind")
		seeds    = fs.Int("seeds", heldOutSeeds,
			fmt.Sprintf("number of held-out `seeds`, from %d on", firstHeldOutSeed))
		seedList = fs.String("seed", "",
			fmt.Sprintf("comma-separated `seeds` instead; those from %d on are for tuning", firstTuningSeed))
		scaleList = fs.String("scale", "1", "comma-separated `factors` of every rate and capacity")
	)
	var (
		families = fs.Int("families", 0,
			"in place of the scripts: so many `draws` of each family of scenarios whose parameters are drawn at random")
		set = fs.String("set", "tune",
			"`set` of seeds of the draws: tune, look or final; a run of one of the last two is logged")
		one      = fs.String("family", "", "draw only of families whose name matches this `regular expression`")
		drawList = fs.String("draw", "", "comma-separated `seeds` of draws, of any set, in place of the set's first")
	)
	fs.StringVar(&o.from, "from", "", "`file` with what -json printed of draws, to be shown in place of a run")
	fs.StringVar(&o.before, "before", "",
		"`file` with what -json printed of an earlier run of the draws, to compare with")
	fs.StringVar(&o.looks, "looks", "decisions/looks.txt",
		"`file` in which looks at the sets other than that to tune on are logged")
	fs.IntVar(&workers, "workers", workers, "how many worlds are run at a `time`, no more than processors")
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
	all := subjects()
	if *ablation {
		all = ablations()
	}
	for i, s := range all {
		if i == 0 || name.MatchString(s.name) {
			o.table.subjects = append(o.table.subjects, s)
		}
	}
	if *families != 0 || *drawList != "" || o.from != "" {
		o.draws = &draws{set: *set, subjects: o.table.subjects}
		return &o, o.draws.choose(*families, *one, *drawList)
	}
	o.table.subjects = scripted(o.table.subjects)
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

// choose sets the families and the seeds.
func (ds *draws) choose(n int, family, seeds string) error {
	name, err := regexp.Compile(family)
	if err != nil {
		return err
	}
	for _, f := range families() {
		if name.MatchString(f.name) {
			ds.families = append(ds.families, f)
		}
	}
	base, known := sets[ds.set]
	switch {
	case len(ds.families) == 0:
		return fmt.Errorf("no family matches %q", family)
	case !known:
		return fmt.Errorf("no set of seeds is named %q; use tune, look or final", ds.set)
	case seeds != "":
		ds.set = "seeds " + seeds
		ds.seeds, err = list(seeds, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
		return err
	case n < 0:
		return fmt.Errorf("%d draws of each family; use a positive number", n)
	}
	for i := range n {
		ds.seeds = append(ds.seeds, base+uint64(i))
	}
	return nil
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
