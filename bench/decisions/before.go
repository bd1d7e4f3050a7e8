package main

import "fmt"

// before is the name of the subject that Fusebox is in an earlier run.
const before = "before"

// compareWith adds Fusebox as it was in an earlier run of the same draws, which -json printed, as one more subject.
func (ds *draws) compareWith(file string) error {
	was := &draws{families: families(), subjects: []subject{{name: "fusebox"}}}
	if err := was.read(file); err != nil {
		return err
	}
	earlier := map[string]measure{}
	for _, runs := range was.runs {
		for _, r := range runs {
			earlier[fmt.Sprint(r.family, r.seed)] = r.measures[0]
		}
	}
	for _, runs := range ds.runs {
		for i, r := range runs {
			m, ok := earlier[fmt.Sprint(r.family, r.seed)]
			if !ok {
				return fmt.Errorf("%s has no run of fusebox in draw %d of %s", file, r.seed, r.family)
			}
			runs[i].measures = append(r.measures, m)
		}
	}
	ds.subjects = append(ds.subjects, subject{name: before, about: "Fusebox in " + file, role: roleOwn})
	return nil
}

// changes returns what Fusebox's regret was, is and has changed by, with the interval of the change. What lies on both
// sides of 0 is no change that other draws would show.
func (ds *draws) changes(own, was int) grid {
	g := grid{{"family", before, "now", "change", "of 90 %"}}
	for f, fam := range ds.families {
		then, now := ds.family(f, was).Regret, ds.family(f, own).Regret
		g.add(fam.name, fmt.Sprintf("%.2f", then), fmt.Sprintf("%.2f", now), fmt.Sprintf("%+.2f", now-then),
			spread(ds.runs[f:f+1], own, was, less).String())
	}
	then, now := mean(ds.column(was)).Regret, mean(ds.column(own)).Regret
	g.add("mean", fmt.Sprintf("%.2f", then), fmt.Sprintf("%.2f", now), fmt.Sprintf("%+.2f", now-then),
		ds.spread(own, was, less).String())
	return g
}
