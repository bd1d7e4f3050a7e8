// Package rules reads policies as they are written on a command line, and writes them as Go.
package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Share is the textbook with a share of failures in place of failures in a row, as most breakers have it.
type Share struct {
	Trip    policy.FailureShare
	Probe   policy.OpenTime
	Recover policy.Trial
}

// Rules makes it a policy.
func (s Share) Rules() policy.Rules {
	return policy.Rules{Trip: s.Trip, Probe: s.Probe, Recover: s.Recover}
}

// Slow is the same with a share of slow calls.
type Slow struct {
	Trip    policy.SlowShare
	Probe   policy.OpenTime
	Recover policy.Trial
}

// Rules makes it a policy.
func (s Slow) Rules() policy.Rules {
	return policy.Rules{Trip: s.Trip, Probe: s.Probe, Recover: s.Recover}
}

// kinds are the policies, by the word that they begin with.
var kinds = map[string]func() policy.Policy{
	"default":  func() policy.Policy { return policy.Adaptive{} },
	"adaptive": func() policy.Policy { return policy.Adaptive{} },
	"classic":  func() policy.Policy { return policy.Classic{} },
	"share":    func() policy.Policy { return Share{} },
	"slow":     func() policy.Policy { return Slow{} },
}

// shorts are words for fields by which they are better known.
var shorts = map[string]map[string]string{
	"adaptive": {"evidence": "trip.threshold", "hold": "hold.off", "throttle": "throttle.off"},
	"share":    {"openfor": "probe.for"},
	"slow":     {"openfor": "probe.for"},
}

// Parse reads a policy: "default", "classic failures=5 openfor=30s", "adaptive evidence=8", "share percent=50
// window=10s", "slow slower=2s", each with the fields of its Go type by their names, in small letters, where a name
// that two parts have stands behind that of its part and a dot (trip.worth). The error says what to write.
func Parse(text string) (policy.Policy, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, fmt.Errorf("the policy is empty; write such as 'classic failures=5 openfor=30s'")
	}
	kind := words[0]
	made, known := kinds[kind]
	if !known {
		return nil, fmt.Errorf("there is no policy %q; write default, adaptive, classic, share or slow", kind)
	}
	p := reflect.New(reflect.TypeOf(made())).Elem()
	fields, seen := fieldsOf(p, ""), map[string]bool{}
	for _, word := range words[1:] {
		name, value, given := strings.Cut(word, "=")
		name = strings.ToLower(name)
		if long, short := shorts[kind][name]; short {
			if name == "hold" || name == "throttle" { // which are on or off
				value, given = map[string]string{"off": "true", "on": "false"}[value], value == "off" || value == "on"
				if !given {
					return nil, fmt.Errorf("policy %s: write %s=off, or leave it out", kind, name)
				}
			}
			name = long
		}
		var found []string
		for full := range fields {
			if full == name || strings.HasSuffix(full, "."+name) {
				found = append(found, full)
			}
		}
		slices.Sort(found)
		switch {
		case kind == "default":
			return nil, fmt.Errorf("the default policy has no fields; write 'adaptive %s'", word)
		case !given || value == "":
			return nil, fmt.Errorf("policy %s: %q is no field with a value; write such as %s=…", kind, word, name)
		case slices.Contains(found, name):
		case len(found) == 0:
			return nil, fmt.Errorf("policy %s has no field %q; it has %s", kind, name, strings.Join(names(fields),
				", "))
		case len(found) > 1:
			return nil, fmt.Errorf("policy %s: %q is %s; write which", kind, name, strings.Join(found, " or "))
		default:
			name = found[0]
		}
		if err := set(fields[name], value); err != nil {
			return nil, fmt.Errorf("policy %s: %s: %w", kind, name, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("policy %s: %s is there twice", kind, name)
		}
		seen[name] = true
	}
	policy := p.Interface().(policy.Policy)
	return policy, check(kind, policy)
}

// check has the rules look at their values now, and not at the first trouble.
func check(kind string, p policy.Policy) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("policy %s: %v", kind, r)
		}
	}()
	r := p.Rules().Validated()
	r.Trip.NewTrip()
	r.Probe.NewProbe()
	r.Recover.NewRecover()
	if r.Limits.Timeout > 0 {
		return fmt.Errorf("policy %s: limits.timeout would have changed how calls ended, which no record knows", kind)
	}
	return nil
}

// fieldsOf returns the fields of a struct and of those in it, by their names in small letters.
func fieldsOf(v reflect.Value, before string) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name := before + strings.ToLower(v.Type().Field(i).Name)
		if v.Field(i).Kind() == reflect.Struct {
			for inner, field := range fieldsOf(v.Field(i), name+".") {
				fields[inner] = field
			}
			continue
		}
		fields[name] = v.Field(i)
	}
	return fields
}

func names(fields map[string]reflect.Value) []string {
	var all []string
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

var duration = reflect.TypeFor[time.Duration]()

func set(field reflect.Value, text string) error {
	switch {
	case field.Type() == duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no time; write such as 30s", text)
		}
		field.SetInt(int64(d))
	case field.Kind() == reflect.Int:
		n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		field.SetInt(int64(n))
	case field.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		field.SetFloat(f)
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(b)
	default:
		return fmt.Errorf("it cannot be set here")
	}
	return nil
}

// Code writes a policy as Go, for transport.WithPolicy.
func Code(p policy.Policy) string {
	switch p := p.(type) {
	case Share:
		return "policy.Rules{" + parts(reflect.ValueOf(p), true) + "}"
	case Slow:
		return "policy.Rules{" + parts(reflect.ValueOf(p), true) + "}"
	}
	return code(reflect.ValueOf(p))
}

func code(v reflect.Value) string { return v.Type().String() + "{" + parts(v, false) + "}" }

func parts(v reflect.Value, all bool) string {
	var set []string
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case field.IsZero() && !all:
		case field.Kind() == reflect.Struct:
			set = append(set, name+": "+code(field))
		case field.Type() == duration:
			set = append(set, name+": "+durationCode(time.Duration(field.Int())))
		default:
			set = append(set, fmt.Sprintf("%s: %v", name, field.Interface()))
		}
	}
	return strings.Join(set, ", ")
}

func durationCode(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Minute, "time.Minute"}, {time.Second, "time.Second"}, {time.Millisecond, "time.Millisecond"}} {
		if d%unit.of == 0 {
			if d == unit.of {
				return unit.name
			}
			return fmt.Sprintf("%d * %s", d/unit.of, unit.name)
		}
	}
	return strconv.FormatInt(int64(d), 10)
}
