package show

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "999": count(999), "1,000": count(1000), "-12,345,678": count(-12345678),
		"–": share(0, 0), "0 %": share(0, 5), "0.001 %": share(1, 100_000), "0.50 %": share(1, 200), "33.3 %": share(1, 3),
		"100.0 %": share(3, 3),
		"0 s":     long(0), "250 ms": long(250 * time.Millisecond), "1 s": long(time.Second), "999 ms": long(999400 * time.Microsecond), "1.5 s": long(1500 * time.Millisecond),
		"90 s": long(90 * time.Second), "2 min 5 s": long(125 * time.Second), "3 h 25 min": long(3*time.Hour + 25*time.Minute),
		"4 d 1 h": long(97 * time.Hour), "-2.5 s": long(-2500 * time.Millisecond),
		"1 call": counted(1, "call"), "1,234 calls": counted(1234, "call"), "3,600 s": seconds(time.Hour), "1.2 s": seconds(1234 * time.Millisecond),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := long(time.Second - time.Microsecond); got != "1 s" {
		t.Errorf("%q, want 1 s", got)
	}
}

// facts are of n calls, of which each tenth failed, and all in the middle.
func facts(n int) *Facts {
	r := decide.New(decide.Options{Policies: []decide.Policy{
		{Name: "default", Policy: policy.Adaptive{}},
		{Name: "classic", Policy: policy.Classic{Failures: 3, OpenFor: time.Second}},
	}})
	calls := make([]record.Call, n)
	for i := range calls {
		cause := policy.Cause{Status: 200}
		if i%10 == 0 || i > n/3 && i < n/2 {
			cause = policy.Cause{Kind: policy.KindStatus, Status: 503}
		}
		calls[i].Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano() + int64(i)*100e6
		calls[i].SetTook(20 * time.Millisecond)
		calls[i].SetCause(cause)
		calls[i].SetOutcome(cause.Outcome())
	}
	r.Calls(calls)
	return &Facts{Result: r.Finish(), Name: func(uint32) string { return "shop" }, Clients: 1}
}

func TestAPictureHasAllCallsHoweverManyColumnsItHas(t *testing.T) {
	for _, n := range []int{1, 10, 500, 20_000} {
		f := facts(n)
		p := f.picture(1, "shop")
		good, failed, refused := int64(0), int64(0), int64(0)
		for i := range p.good {
			good, failed = good+p.good[i], failed+p.failed[i]
			refused += p.lanes[1].price[i] + p.lanes[1].gain[i] + p.lanes[1].neither[i]
		}
		o := f.Result.Outcomes[1]
		if good != f.Result.Total.Success || failed != f.Result.Total.Failure || refused != o.Refused || n > 100 && refused == 0 {
			t.Errorf("of %d: %d good, %d failed, %d refused of %d", n, good, failed, refused, o.Refused)
		}
		if len(p.good) > mostDrawn {
			t.Errorf("%d columns", len(p.good))
		}
		if end := p.from + p.width*int64(len(p.good)); end <= f.Result.Last {
			t.Errorf("of %d: it ends at %d, and the calls at %d", n, end, f.Result.Last)
		}
		at, text := f.ticks(&p, 6)
		if len(at) > 8 || len(at) != len(text) {
			t.Errorf("%v", text)
		}
	}
}

func TestPicturesAreWellFormed(t *testing.T) {
	for _, n := range []int{0, 1, 5000} {
		f := facts(n)
		f.Advice = Advise(f.Result, f.Result.Outcomes, 0.1)
		var svg, page bytes.Buffer
		if err := f.SVG(&svg); err != nil {
			t.Fatal(err)
		}
		if err := f.HTML(&page); err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(&svg); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("of %d: %v", n, err)
			}
		}
		if text := page.String(); strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "%!") {
			t.Errorf("of %d: a number that is none", n)
		}
		var a, b bytes.Buffer
		if f.JSON(&a) != nil || f.JSON(&b) != nil || a.String() != b.String() {
			t.Error("the data differs from one time to the next")
		}
	}
}

// The best is the one with the most gain of those that cost no more than asked for, by the earlier part alone.
func TestAdviceChoosesByTheEarlierPartAlone(t *testing.T) {
	f := facts(5000)
	trial := func(name string, early, late [2]uint32) decide.Outcome {
		lane := new(decide.Lane)
		lane.Price[0], lane.Gain[0] = early[0], early[1]
		lane.Price[decide.Columns-1], lane.Gain[decide.Columns-1] = late[0], late[1]
		return decide.Outcome{Policy: decide.Policy{Name: name, Policy: policy.Adaptive{}}, Lanes: []*decide.Lane{lane}}
	}
	for range 2 { // so that there is enough to tell by
		f.Result.Troubles = append(f.Result.Troubles, f.Result.Troubles[0])
	}
	last := *f.Result.Troubles[0]
	last.From = f.Result.Last
	f.Result.Troubles = append(f.Result.Troubles, &last)
	a := Advise(f.Result, []decide.Outcome{
		trial("dear", [2]uint32{100, 900}, [2]uint32{0, 999}),
		trial("worse", [2]uint32{4, 300}, [2]uint32{0, 999}),
		trial("best", [2]uint32{3, 500}, [2]uint32{50, 1}),
		trial("cheap", [2]uint32{0, 100}, [2]uint32{0, 999}),
	}, 0.002)
	if a.Thin != "" || a.Best == nil || a.Best.Name != "best" {
		t.Fatalf("%+v", a)
	}
	var front []string
	for _, t := range a.Tried {
		if t.Front {
			front = append(front, t.Name)
		}
	}
	if strings.Join(front, " ") != "cheap best dear" {
		t.Error(front)
	}
	var b strings.Builder
	a.text(&b)
	if !strings.Contains(b.String(), "In the later part its price was higher than that") {
		t.Error(b.String())
	}
}
