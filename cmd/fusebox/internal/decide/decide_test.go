package decide

import (
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

const ms, sec = int64(time.Millisecond), int64(time.Second)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// calls are one every gap from epoch on, each of 10 ms, whose outcomes are by status.
func calls(n int, gap int64, status func(i int) int) []record.Call {
	all := make([]record.Call, n)
	for i := range all {
		all[i] = call(epoch+int64(i)*gap, 10*ms, status(i))
	}
	return all
}

func call(start, took int64, status int) (c record.Call) {
	cause := policy.Cause{Status: status}
	if status >= 500 {
		cause.Kind = policy.KindStatus
	}
	c.Start = start
	c.SetTook(time.Duration(took))
	c.SetCause(cause)
	c.SetOutcome(cause.Outcome())
	return c
}

// outage fails from one call to another.
func outage(from, to int) func(int) int {
	return func(i int) int {
		if i >= from && i < to {
			return 503
		}
		return 200
	}
}

func play(o Options, all []record.Call, batch int) *Result {
	r := New(o)
	for len(all) > 0 {
		n := min(batch, len(all))
		r.Calls(all[:n])
		all = all[n:]
	}
	return r.Finish()
}

var three = []Policy{
	{Name: "default", Policy: policy.Adaptive{}},
	{Name: "classic", Policy: policy.Classic{Failures: 3, OpenFor: 2 * time.Second}},
	{Name: "brief", Policy: policy.Adaptive{}, Brief: true},
}

func TestAnOutageIsATroubleAndOpensTheCircuit(t *testing.T) {
	r := play(Options{Policies: three}, calls(1000, 20*ms, outage(200, 500)), 64)
	if r.Total.Calls != 1000 || r.Total.Success != 700 || r.Total.Failure != 300 || r.Total.Lost != 3*time.Second {
		t.Errorf("it was %+v", r.Total)
	}
	if len(r.Troubles) != 1 {
		t.Fatalf("%d troubles", len(r.Troubles))
	}
	trouble := r.Troubles[0]
	if trouble.From != epoch+200*20*ms || trouble.To != epoch+499*20*ms+10*ms || trouble.First != 201 || !trouble.Over ||
		trouble.Failures != 300 || trouble.Calls != 300 || trouble.Causes[0] != (CauseCount{policy.Cause{Kind: policy.KindStatus, Status: 503}, 300}) {
		t.Errorf("the trouble is %+v", trouble)
	}
	for i, after := range []int64{6, 3} {
		o := &r.Outcomes[i]
		a := o.Answer(trouble)
		// The one that trips it has ended when the next one begins.
		if !a.Opened || a.After != after || a.At != epoch+(200+after-1)*20*ms+10*ms || a.Times != 1 || a.Closed < trouble.To {
			t.Errorf("%s: %+v", o.Name, a)
		}
		if o.Refused != o.Price+o.Gain || o.Suffered != 300-o.Gain || o.Spared != time.Duration(o.Gain*10*ms) || o.Opened != 1 {
			t.Errorf("%s: %+v", o.Name, o.Totals)
		}
		if o.Gain < 250 || o.Price == 0 || o.Price > 120 {
			t.Errorf("%s: gain %d, price %d", o.Name, o.Gain, o.Price)
		}
		open := time.Duration(a.Closed - a.At)
		if o.OpenFor != open {
			t.Errorf("%s: not closed for %v, not %v", o.Name, open, o.OpenFor)
		}
	}
	if r.Outcomes[0].Totals != r.Outcomes[2].Totals {
		t.Errorf("in brief it is %+v, not %+v", r.Outcomes[2].Totals, r.Outcomes[0].Totals)
	}
}

// A circuit that refuses a call hears nothing of it: what it would have come to makes no difference.
func TestACircuitNeverHearsOfACallThatItRefused(t *testing.T) {
	all := calls(1000, 20*ms, outage(200, 500))
	before := play(Options{Policies: three[1:2]}, all, 1000)
	refused := 0
	other := append([]record.Call(nil), all...)
	r := newRun(three[1], &Options{})
	r.axis = Axis{From: epoch, Width: firstWidth}
	for i := range all {
		had := r.Refused
		r.call(&all[i], fact{number: int64(i + 1)})
		if r.Refused > had { // turn it round
			refused++
			status := 503
			if all[i].Outcome() == policy.Failure {
				status = 200
			}
			other[i] = call(all[i].Start, 10*ms, status)
		}
	}
	after := play(Options{Policies: three[1:2]}, other, 1000)
	if a, b := before.Outcomes[0], after.Outcomes[0]; refused == 0 || a.Refused != b.Refused || a.Price != b.Gain ||
		!reflect.DeepEqual(a.Spans, b.Spans) {
		t.Errorf("%d refused: %+v and %+v", refused, a.Totals, b.Totals)
	}
}

func TestBatchesAndProcessorsMakeNoDifference(t *testing.T) {
	all := traffic(6000, 3*time.Millisecond, 7, 20)
	want := play(Options{Policies: three, Clients: 3}, all, len(all))
	for _, batch := range []int{1, 100, 8192} {
		for _, processors := range []int{1, 2} {
			before := runtime.GOMAXPROCS(processors)
			got := play(Options{Policies: three, Clients: 3}, all, batch)
			runtime.GOMAXPROCS(before)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("batches of %d by %d differ: %+v, not %+v", batch, processors, got.Outcomes[0].Totals, want.Outcomes[0].Totals)
			}
		}
	}
}

// Forks of a circuit are runs of their own: with the same chance they do the same.
func TestTheForksOfASeedDoWhatTheFirstRunDoes(t *testing.T) {
	all := traffic(10_000, 3*time.Millisecond, 3, 30)
	r := New(Options{Policies: three[:1], Seeds: 4})
	for _, config := range r.runs[0].configs {
		config.Random = func() float64 { return 0.4 }
	}
	r.Calls(all)
	run := r.runs[0]
	r.Finish()
	if run.forked == (Totals{}) {
		t.Fatal("there was no fork")
	}
	for seed := 1; seed < 4; seed++ {
		if run.seed(seed) != run.Totals {
			t.Errorf("seed %d: %+v, not %+v", seed, run.seed(seed), run.Totals)
		}
	}
}

func TestSeedsDifferByAsMuchAsRunsOfTheirOwnDo(t *testing.T) {
	all := calls(8000, 7*ms, func(i int) int { return outage(200, 250)(i % 300) })
	forked := play(Options{Policies: three[:1], Seeds: 16}, all, 8192).Outcomes[0]
	var own Range
	for seed := range 16 {
		r := New(Options{Policies: three[:1], Seeds: seed + 1})
		run := r.runs[0]
		run.configs = run.configs[seed:] // so that it is the first
		r.Calls(all)
		own.take(r.Finish().Outcomes[0].Refused, seed == 0)
	}
	width := max(own.Most-own.Least, forked.RefusedRange.Most-forked.RefusedRange.Least)
	if own.Least == own.Most || forked.RefusedRange.Least > own.Most || forked.RefusedRange.Most < own.Least || width > own.Least/5 {
		t.Errorf("runs of their own %v, forks %v", own, forked.RefusedRange)
	}
	t.Logf("runs of their own %v, forks %v", own, forked.RefusedRange)
}

func TestAStripHasEveryCallHoweverOftenItsColumnsAreJoined(t *testing.T) {
	for _, gap := range []int64{1000, 20 * ms, 100 * sec} {
		all := calls(5000, gap, outage(1000, 3000))
		for i := range all {
			all[i].Key = uint32(i % 2)
		}
		r := play(Options{Policies: three}, all, 777)
		good, failed := map[int]int64{}, map[int]int64{}
		for n, strip := range r.Strips {
			for column := range Columns {
				good[n] += int64(strip.Good[column])
				failed[n] += int64(strip.Failed[column])
			}
		}
		if good[0] != 3000 || failed[0] != 2000 || good[1] != 1500 || failed[2] != 1000 {
			t.Errorf("gap %d: %v good, %v failed", gap, good, failed)
		}
		if end := r.Axis.From + Columns*r.Axis.Width; end <= r.Last || r.Axis.Width > firstWidth && end-r.Last > end/2-r.Axis.From/2+r.Axis.Width {
			t.Errorf("gap %d: the axis ends at %d, the calls at %d", gap, end, r.Last)
		}
		for i := range r.Outcomes {
			o := &r.Outcomes[i]
			price, gain := int64(0), int64(0)
			for column := range Columns {
				price += int64(o.Lanes[0].Price[column])
				gain += int64(o.Lanes[0].Gain[column])
			}
			if price != o.Price || gain != o.Gain {
				t.Errorf("gap %d, %s: price %d of %d, gain %d of %d", gap, o.Name, price, o.Price, gain, o.Gain)
			}
		}
	}
}

func TestCircuitsAreBoundedAndTroubleIsNotWhatIsForgotten(t *testing.T) {
	const keys = 2 * defaultCircuits
	var all []record.Call
	for i := range 10 { // one in trouble
		all = append(all, call(epoch+int64(i)*ms, ms, 503))
	}
	for i := range keys {
		c := call(epoch+sec+int64(i)*ms/10, ms, 200)
		c.Key = uint32(1 + i)
		all = append(all, c)
	}
	last := call(epoch+3600*sec/2, ms, 503)
	all = append(all, last)
	r := New(Options{Policies: three[1:2]})
	r.Calls(all)
	run := r.runs[0]
	if len(run.circuits.ring) != defaultCircuits {
		t.Errorf("%d circuits", len(run.circuits.ring))
	}
	if run.circuits.byKey[0] == nil || run.circuits.byKey[0][0] == nil {
		t.Error("the one in trouble is forgotten")
	}
	if result := r.Finish(); len(result.Strips) > mostStrips+1 || result.Outcomes[0].Passed != 0 {
		t.Errorf("%d strips, %d calls passed", len(result.Strips), result.Outcomes[0].Passed)
	}
}

func TestCallsAreDealtOutByClients(t *testing.T) {
	all := calls(1000, 20*ms, outage(200, 500))
	for i := range all {
		all[i].Client = uint16(i % 4)
	}
	r := play(Options{Policies: three[1:2], Clients: 4}, all, 1000)
	if o := r.Outcomes[0]; o.Opened != 4 || o.Spans[0].Client == o.Spans[1].Client {
		t.Errorf("opened %d times", o.Opened)
	}
}

// Calls that nobody answers, of callers who wait for 10 s: it is held long before the first of them fails.
func TestSilenceIsHeld(t *testing.T) {
	var all []record.Call
	for i := range 3000 {
		c := call(epoch+int64(i)*20*ms, 20*ms, 200)
		if i >= 1000 && i < 2000 {
			c.SetTook(10 * time.Second)
			c.SetOutcome(policy.Failure)
			c.SetCause(policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout})
		}
		all = append(all, c)
	}
	r := play(Options{Policies: append(three[:1:1], Policy{Name: "hold off", Policy: policy.Adaptive{Hold: policy.Hold{Off: true}}})}, all, 512)
	held, not := r.Outcomes[0], r.Outcomes[1]
	if held.Gain < 700 || held.Gain < not.Gain+200 || held.Price > 100 {
		t.Errorf("with a hold %+v, without %+v", held.Totals, not.Totals)
	}
}

// Which circuit had refused a call when it was made, nobody knows what would have become of it.
func TestACallThatWasRefusedWhenItWasMadeIsNeitherPriceNorGain(t *testing.T) {
	all := calls(400, 20*ms, outage(100, 300))
	for i := 150; i < 250; i++ {
		all[i].SetOutcome(policy.Ignored)
		all[i].SetRefused()
	}
	r := play(Options{Policies: three[1:2]}, all, 100)
	if o := r.Outcomes[0]; o.Refused <= o.Price+o.Gain+50 || o.Gain > 100 {
		t.Errorf("%+v", o.Totals)
	}
}

func TestTheKeysThatMatterAreThoseThatFail(t *testing.T) {
	var all []record.Call
	for i := range 1000 {
		c := call(epoch+int64(i)*ms, ms, 200)
		if c.Key = uint32(i % 10); c.Key == 7 && i > 500 {
			c = call(c.Start, ms, 500)
			c.Key = 7
		}
		all = append(all, c)
	}
	r := play(Options{Policies: three}, all, 100)
	if top := r.Matter(3); fmt.Sprint(top) != "[7 0 1]" {
		t.Errorf("%v", top)
	}
}
