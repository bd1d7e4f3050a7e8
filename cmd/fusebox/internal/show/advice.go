package show

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/rules"
	"github.com/fusebox-go/fusebox/policy"
)

// Advice is what policy to take, of those of a grid. It is chosen by the earlier part of the calls, and looked at with
// the later one, by which nothing was chosen.
type Advice struct {
	MaxPrice float64 // of all calls
	Split    int64   // where the later part begins, in nanoseconds since 1970; 0 if there are no two parts
	Tried    []Trial // all, by price of the earlier part
	Best     *Trial  // of Tried; nil if none is to be told
	Thin     string  // why the data is too thin to tell; empty if it is not
	Early    Part
	Late     Part
}

// Part is a part of the calls, without a breaker.
type Part struct{ Calls, Failures int64 }

// Trial is a policy that was tried.
type Trial struct {
	decide.Policy
	EarlyPrice, EarlyGain int64
	LatePrice, LateGain   int64
	Front                 bool // no other has more gain for no more price, by the earlier part
}

const (
	// enoughTroubles and enoughFailures are what an earlier part needs at least; a policy that is chosen by one outage
	// is chosen for that one.
	enoughTroubles = 3
	enoughFailures = 100
	// earlier is how much of the calls is chosen by, in percent.
	earlier = 60
)

// Advise finds out what to take of the outcomes of a grid.
func Advise(r *decide.Result, tried []decide.Outcome, maxPrice float64) *Advice {
	a := &Advice{MaxPrice: maxPrice}
	if r.Total.Calls == 0 {
		a.Thin = "there are no calls"
		return a
	}
	strip, split := r.Strips[0], 0
	of := func(column int) int64 {
		return int64(strip.Good[column]) + int64(strip.Failed[column]) + int64(strip.Ignored[column])
	}
	for calls := int64(0); split < decide.Columns && calls*100 < r.Total.Calls*earlier; split++ {
		calls += of(split)
	}
	for column := range decide.Columns {
		part := &a.Early
		if column >= split {
			part = &a.Late
		}
		part.Calls += of(column)
		part.Failures += int64(strip.Failed[column])
	}
	a.Split = r.Axis.From + int64(split)*r.Axis.Width
	for i := range tried {
		t := Trial{Policy: tried[i].Policy}
		lane := tried[i].Lanes[0]
		for column := range decide.Columns {
			price, gain := int64(lane.Price[column]), int64(lane.Gain[column])
			if column < split {
				t.EarlyPrice, t.EarlyGain = t.EarlyPrice+price, t.EarlyGain+gain
			} else {
				t.LatePrice, t.LateGain = t.LatePrice+price, t.LateGain+gain
			}
		}
		a.Tried = append(a.Tried, t)
	}
	slices.SortStableFunc(a.Tried, func(x, y Trial) int {
		if x.EarlyPrice != y.EarlyPrice {
			return int(max(-1, min(1, x.EarlyPrice-y.EarlyPrice)))
		}
		return int(max(-1, min(1, y.EarlyGain-x.EarlyGain)))
	})
	most := int64(-1)
	for i := range a.Tried {
		t := &a.Tried[i]
		if t.EarlyGain > most {
			most, t.Front = t.EarlyGain, true
		}
	}
	a.choose(r)
	return a
}

func (a *Advice) choose(r *decide.Result) {
	early, late := 0, 0
	for _, t := range r.Troubles {
		if t.From < a.Split {
			early++
		} else {
			late++
		}
	}
	switch {
	case early < enoughTroubles:
		a.Thin = fmt.Sprintf("the earlier part has %s, and %d are needed at least", counted(int64(early), "trouble"),
			enoughTroubles)
	case a.Early.Failures < enoughFailures:
		a.Thin = fmt.Sprintf("the earlier part has %s, and %d are needed at least", counted(a.Early.Failures,
			"failure"), enoughFailures)
	case late == 0:
		a.Thin = "the later part has no trouble, by which a choice could be checked"
	}
	for i := range a.Tried {
		t := &a.Tried[i]
		if t.Front && float64(t.EarlyPrice) <= a.MaxPrice*float64(a.Early.Calls) {
			a.Best = t
		}
	}
	if a.Best != nil && a.Best.EarlyGain == 0 {
		a.Best = nil
	}
}

// Grid is the policies that are tried.
func Grid() []decide.Policy {
	var grid []decide.Policy
	add := func(name string) {
		p, err := rules.Parse(name)
		if err != nil {
			panic(err) // of a name below
		}
		grid = append(grid, decide.Policy{Name: name, Policy: p, Brief: true})
	}
	for _, evidence := range []int{3, 4, 6, 8, 12, 20, 40} {
		for _, spacing := range []float64{0.5, 1, 2} {
			add(fmt.Sprintf("adaptive evidence=%d spacing=%g", evidence, spacing))
		}
	}
	add("adaptive hold=off")
	for _, failures := range []int{3, 5, 10, 20, 50} {
		for _, open := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second} {
			add(fmt.Sprintf("classic failures=%d openfor=%v", failures, open))
		}
	}
	return grid
}

func (a *Advice) text(b *strings.Builder) {
	fmt.Fprintf(b, "What to take, of %d policies tried, chosen by the first %s, checked by the %s after that\n",
		len(a.Tried), counted(a.Early.Calls, "call"), count(a.Late.Calls))
	var g grid
	g.add("the front: no other gains more for the price", "price", "gain", "price later", "gain later")
	for i := range a.Tried {
		t := &a.Tried[i]
		if !t.Front {
			continue
		}
		mark := "  "
		if t == a.Best && a.Thin == "" {
			mark = "> "
		}
		g.add(mark+t.Name, share(t.EarlyPrice, a.Early.Calls), share(t.EarlyGain, a.Early.Failures),
			share(t.LatePrice, a.Late.Calls), share(t.LateGain, a.Late.Failures))
	}
	b.WriteString(g.String())
	b.WriteString("Price is of all calls, gain of all that failed.\n\n")
	switch {
	case a.Thin != "":
		b.WriteString(wrapped("",
			"Too thin to tell: "+a.Thin+". Take the default, transport.New(nil), and look again with more."))
	case a.Best == nil:
		b.WriteString(wrapped("", "None of them gains anything for a price of "+percent(a.MaxPrice)+" or less."))
	default:
		fmt.Fprintf(b, "For a price of %s at most:\n\n\t%s\n\n", percent(a.MaxPrice), a.Code())
		if float64(a.Best.LatePrice) > a.MaxPrice*float64(a.Late.Calls) {
			b.WriteString(wrapped("",
				"In the later part its price was higher than that: what was chosen by is not what came."))
		}
	}
	b.WriteString("\n")
}

// Code is the best policy as Go.
func (a *Advice) Code() string {
	if a.Best.Policy.Policy == (policy.Adaptive{}) {
		return "transport.New(nil)"
	}
	return "transport.New(nil, transport.WithPolicy(" + rules.Code(a.Best.Policy.Policy) + "))"
}

func percent(share float64) string { return fmt.Sprintf("%g %%", share*100) }

type adviceJSON struct {
	MaxPrice float64     `json:"max_price"`
	Split    string      `json:"split_at,omitempty"`
	Thin     string      `json:"too_thin,omitempty"`
	Take     string      `json:"take,omitempty"`
	Code     string      `json:"code,omitempty"`
	Early    partJSON    `json:"chosen_by"`
	Late     partJSON    `json:"checked_by"`
	Tried    []trialJSON `json:"tried"`
}

type partJSON struct {
	Calls    int64 `json:"calls"`
	Failures int64 `json:"failure"`
}

type trialJSON struct {
	Policy     string `json:"policy"`
	Front      bool   `json:"front"`
	EarlyPrice int64  `json:"price"`
	EarlyGain  int64  `json:"gain"`
	LatePrice  int64  `json:"later_price"`
	LateGain   int64  `json:"later_gain"`
}

func (a *Advice) json() *adviceJSON {
	j := &adviceJSON{
		MaxPrice: a.MaxPrice, Thin: a.Thin, Early: partJSON(a.Early), Late: partJSON(a.Late), Tried: []trialJSON{},
	}
	if a.Split != 0 {
		j.Split = utc(a.Split)
	}
	if a.Best != nil && a.Thin == "" {
		j.Take, j.Code = a.Best.Name, a.Code()
	}
	for _, t := range a.Tried {
		j.Tried = append(j.Tried, trialJSON{t.Name, t.Front, t.EarlyPrice, t.EarlyGain, t.LatePrice, t.LateGain})
	}
	return j
}
