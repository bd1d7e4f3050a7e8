package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// drawsFile is what draws are as JSON.
type drawsFile struct {
	Set      string                        `json:"set"`
	Means    map[string]float64            `json:"means"`    // of subjects, over the families
	Families map[string]map[string]float64 `json:"families"` // by family, then by subject
	Draws    []drawEntry                   `json:"draws"`
}

type drawEntry struct {
	Family   string             `json:"family"`
	Seed     uint64             `json:"seed"`
	What     string             `json:"what"`
	Requests int                `json:"requests"`
	Regrets  map[string]float64 `json:"regrets"`
	Measures map[string]measure `json:"measures"`
}

// json writes every draw.
func (ds *draws) json(w io.Writer) error {
	all := drawsFile{Set: ds.set, Means: map[string]float64{}, Families: map[string]map[string]float64{}}
	for i, s := range ds.subjects {
		all.Means[s.name] = mean(ds.column(i)).Regret
	}
	for f, fam := range ds.families {
		all.Families[fam.name] = map[string]float64{}
		for i, s := range ds.subjects {
			all.Families[fam.name][s.name] = ds.family(f, i).Regret
		}
		for _, r := range ds.runs[f] {
			e := drawEntry{fam.name, r.seed, r.about, r.requests, map[string]float64{}, map[string]measure{}}
			for i, s := range ds.subjects {
				e.Regrets[s.name], e.Measures[s.name] = r.measures[i].Regret, r.measures[i]
			}
			all.Draws = append(all.Draws, e)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

// read fills the draws with what json wrote of those families and subjects that are chosen, so that a run that is
// made once can be looked at more than once.
func (ds *draws) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var all drawsFile
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	ds.set, ds.seeds = all.Set, nil
	ds.subjects = slices.DeleteFunc(ds.subjects, func(s subject) bool { _, ok := all.Means[s.name]; return !ok })
	ds.families = slices.DeleteFunc(ds.families, func(f family) bool { _, ok := all.Families[f.name]; return !ok })
	ds.runs = make([][]run, len(ds.families))
	for f, fam := range ds.families {
		for _, e := range all.Draws {
			if e.Family != fam.name {
				continue
			}
			sc := scenario{name: e.Family, about: e.What}
			r := run{draw: draw{family: e.Family, seed: e.Seed, scenario: sc}, requests: e.Requests}
			for _, s := range ds.subjects {
				r.measures = append(r.measures, e.Measures[s.name])
			}
			ds.runs[f] = append(ds.runs[f], r)
		}
		if len(ds.seeds) > 0 && len(ds.seeds) != len(ds.runs[f]) {
			return fmt.Errorf("%s: families have %d draws and %d", file, len(ds.seeds), len(ds.runs[f]))
		}
		ds.seeds = nil
		for _, r := range ds.runs[f] {
			ds.seeds = append(ds.seeds, r.seed)
		}
	}
	if len(ds.seeds) == 0 {
		return fmt.Errorf("%s has no draws of the families that are asked for", file)
	}
	return nil
}
