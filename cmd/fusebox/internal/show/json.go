package show

import (
	"encoding/json"
	"io"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/rules"
)

// document is the data of a replay. Names of fields are for good; there can be more of them.
type document struct {
	Read      readJSON      `json:"read"`
	Keys      []keyJSON     `json:"keys"`
	NoBreaker noBreakerJSON `json:"no_breaker"`
	Policies  []policyJSON  `json:"policies"`
	Troubles  []troubleJSON `json:"troubles"`
	// TroublesLeftOut is how many there were beyond those that are kept.
	TroublesLeftOut int         `json:"troubles_left_out"`
	Advice          *adviceJSON `json:"advice,omitempty"`
	Limits          []string    `json:"limits"`
}

type readJSON struct {
	Lines         int64      `json:"lines"`
	Calls         int64      `json:"calls"`
	Success       int64      `json:"success"`
	Failure       int64      `json:"failure"`
	Ignored       int64      `json:"ignored"`
	NotUnderstood int64      `json:"not_understood"`
	Others        int64      `json:"others"`
	LeftOut       int64      `json:"left_out"`
	From          string     `json:"from,omitempty"`
	To            string     `json:"to,omitempty"`
	Files         []fileJSON `json:"files"`
}

type fileJSON struct {
	Name          string   `json:"name"`
	Format        string   `json:"format"`
	Stamp         string   `json:"stamp"`
	Resolution    float64  `json:"resolution_seconds"`
	Took          bool     `json:"took"`
	Lines         int64    `json:"lines"`
	Calls         int64    `json:"calls"`
	Success       int64    `json:"success"`
	Failure       int64    `json:"failure"`
	Ignored       int64    `json:"ignored"`
	NotUnderstood int64    `json:"not_understood"`
	Strange       []string `json:"strange,omitempty"`
	CannotShow    []string `json:"cannot_show,omitempty"`
	Notes         []string `json:"notes,omitempty"`
}

type keyJSON struct {
	Key     string  `json:"key"`
	Calls   int64   `json:"calls"`
	Success int64   `json:"success"`
	Failure int64   `json:"failure"`
	Ignored int64   `json:"ignored"`
	Lost    float64 `json:"lost_seconds"`
}

type noBreakerJSON struct {
	Suffered int64   `json:"suffered"`
	Lost     float64 `json:"lost_seconds"`
}

type policyJSON struct {
	Policy          string              `json:"policy"`
	Code            string              `json:"code"`
	Opened          int64               `json:"opened"`
	Refused         int64               `json:"refused"`
	Price           int64               `json:"price"`
	Gain            int64               `json:"gain"`
	Suffered        int64               `json:"suffered"`
	Spared          float64             `json:"spared_seconds"`
	OpenFor         float64             `json:"open_seconds"`
	Seeds           int                 `json:"seeds"`
	Ranges          map[string][2]int64 `json:"ranges"`
	Keys            []policyKeyJSON     `json:"keys"`
	Troubles        []spanJSON          `json:"troubles"`
	TroublesLeftOut int                 `json:"troubles_left_out"`
}

type policyKeyJSON struct {
	Key     string  `json:"key"`
	Refused int64   `json:"refused"`
	Price   int64   `json:"price"`
	Gain    int64   `json:"gain"`
	Spared  float64 `json:"spared_seconds"`
}

// spanJSON is a time in which a circuit was not closed.
type spanJSON struct {
	Key    string  `json:"key"`
	Client int     `json:"client"`
	Opened string  `json:"opened_at"`
	Closed *string `json:"closed_at"` // null if it is not before the records end
	Cause  string  `json:"cause"`
	Why    string  `json:"why,omitempty"`
}

type troubleJSON struct {
	Key      string       `json:"key"`
	From     string       `json:"from"`
	To       string       `json:"to"`
	Over     bool         `json:"over"`
	Calls    int64        `json:"calls"`
	Failures int64        `json:"failures"`
	Causes   []causeJSON  `json:"causes"`
	Policies []answerJSON `json:"policies"`
}

type causeJSON struct {
	Cause string `json:"cause"`
	Calls int64  `json:"calls"`
}

type answerJSON struct {
	Policy      string   `json:"policy"`
	Opened      bool     `json:"opened"`
	Times       int      `json:"times"`
	AfterCalls  int64    `json:"after_calls"`
	After       float64  `json:"after_seconds"`
	ClosedAfter *float64 `json:"closed_seconds_after_end"` // null if it is not before the records end
}

// utc writes a time as RFC 3339 has it, to the nanosecond and in UTC.
func utc(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// JSON writes what came of it as data.
func (f *Facts) JSON(w io.Writer) error {
	r, sum := f.Result, f.Report.Sum()
	d := document{
		Read: readJSON{
			Lines: sum.Lines, Calls: sum.Calls, Success: sum.Success, Failure: sum.Failure, Ignored: sum.Ignored,
			NotUnderstood: sum.NotUnderstood, Others: sum.Others, LeftOut: sum.Left, Files: []fileJSON{},
		},
		NoBreaker: noBreakerJSON{r.Total.Failure, r.Total.Lost.Seconds()},
		Keys:      []keyJSON{}, Policies: []policyJSON{}, Troubles: []troubleJSON{},
		TroublesLeftOut: r.TroublesLeft, Limits: f.Limits(),
	}
	if r.Total.Calls > 0 {
		d.Read.From, d.Read.To = utc(r.First), utc(r.Last)
	}
	for i := range f.Report.Files {
		file := &f.Report.Files[i]
		j := fileJSON{
			Name: file.Name, Format: file.Format, Stamp: "start", Resolution: file.Stamp.Resolution.Seconds(),
			Took: file.Stamp.Took, Lines: file.Lines, Calls: file.Calls, Success: file.Success, Failure: file.Failure,
			Ignored: file.Ignored, NotUnderstood: file.NotUnderstood, CannotShow: file.CannotShow, Notes: file.Notes,
		}
		if file.Stamp.End {
			j.Stamp = "end"
		}
		for _, line := range file.Strange {
			j.Strange = append(j.Strange, line.Text)
		}
		d.Read.Files = append(d.Read.Files, j)
	}
	for key := range r.Keys {
		if k := &r.Keys[key]; k.Calls > 0 {
			name := f.Name(uint32(key))
			d.Keys = append(d.Keys, keyJSON{name, k.Calls, k.Success, k.Failure, k.Ignored, k.Lost.Seconds()})
		}
	}
	for i := range r.Outcomes {
		d.Policies = append(d.Policies, f.policy(&r.Outcomes[i]))
	}
	for _, t := range r.Troubles {
		d.Troubles = append(d.Troubles, f.trouble(t))
	}
	if f.Advice != nil {
		d.Advice = f.Advice.json()
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(d)
}

func (f *Facts) policy(o *decide.Outcome) policyJSON {
	ends := func(r decide.Range) [2]int64 { return [2]int64{r.Least, r.Most} }
	j := policyJSON{
		Policy: o.Name, Code: rules.Code(o.Policy.Policy), Opened: o.Opened, Refused: o.Refused, Price: o.Price,
		Gain: o.Gain, Suffered: o.Suffered, Spared: o.Spared.Seconds(), OpenFor: o.OpenFor.Seconds(), Seeds: o.Seeds,
		Ranges: map[string][2]int64{
			"opened": ends(o.OpenedRange), "refused": ends(o.RefusedRange), "price": ends(o.PriceRange),
			"gain": ends(o.GainRange), "spared_nanoseconds": ends(o.SparedRange),
		},
		Keys: []policyKeyJSON{}, Troubles: []spanJSON{}, TroublesLeftOut: o.SpansLeft,
	}
	for key := range o.Keys {
		if t := &o.Keys[key]; t.Refused > 0 {
			name := f.Name(uint32(key))
			j.Keys = append(j.Keys, policyKeyJSON{name, t.Refused, t.Price, t.Gain, t.Spared.Seconds()})
		}
	}
	for i := range o.Spans {
		s := &o.Spans[i]
		span := spanJSON{Key: f.Name(s.Key), Client: s.Client, Opened: utc(s.Opened), Cause: s.Cause.String(),
			Why: s.Why}
		if s.Closed != 0 {
			closed := utc(s.Closed)
			span.Closed = &closed
		}
		j.Troubles = append(j.Troubles, span)
	}
	return j
}

func (f *Facts) trouble(t *decide.Trouble) troubleJSON {
	j := troubleJSON{
		Key: f.Name(t.Key), From: utc(t.From), To: utc(t.To), Over: t.Over, Calls: t.Calls, Failures: t.Failures,
		Causes: []causeJSON{}, Policies: []answerJSON{},
	}
	for _, c := range t.Causes {
		j.Causes = append(j.Causes, causeJSON{c.Cause.String(), c.Calls})
	}
	for i := range f.Result.Outcomes {
		o := &f.Result.Outcomes[i]
		a := o.Answer(t)
		answer := answerJSON{Policy: o.Name, Opened: a.Opened, Times: a.Times}
		if a.Opened {
			answer.AfterCalls, answer.After = a.After, time.Duration(a.At-t.From).Seconds()
			if a.Closed != 0 {
				after := time.Duration(a.Closed - t.To).Seconds()
				answer.ClosedAfter = &after
			}
		}
		j.Policies = append(j.Policies, answer)
	}
	return j
}
