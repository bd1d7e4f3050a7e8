package browsertest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var classic = transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: 4 * time.Second, Probes: 2})

func TestAnOperatorSeesAnOutageComeAndGo(t *testing.T) {
	w := newWorld(t, classic)
	payments, catalog := w.upstream("payments.test"), w.upstream("catalog.test")
	b := open(t, w.url)
	b.await(`document.querySelector("#none").textContent.startsWith("No circuit yet")`)
	w.get(payments.url, 5)
	w.get(catalog.url, 5)
	b.awaitState(payments.url, "closed")
	b.awaitState(catalog.url, "closed")

	payments.status.Store(http.StatusInternalServerError)
	w.get(payments.url, 3)
	status, refused := w.get(payments.url, 4)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.True(t, refused)
	b.awaitState(payments.url, "open")
	b.await(`document.querySelector("#verdict").textContent === "1 open" && document.title === "(1) Fusebox"`)
	text := eval[string](b, row(payments.url)+".innerText")
	assert.Contains(t, text, "open")
	assert.Contains(t, text, "refusals")
	assert.Contains(t, text, "status 500")
	assert.Equal(t, payments.url, eval[string](b, `document.querySelector("#circuits tbody tr").dataset.key`), "trouble goes first")
	left := func() float64 {
		return eval[float64](b, `parseFloat(`+row(payments.url)+`.innerText.match(/next probe in ([\d.]+) s/)?.[1] ?? "0")`)
	}
	first := left()
	assert.Positive(t, first, "a countdown")
	b.await(row(payments.url)+`.innerText.match(/next probe in ([\d.]+) s/)?.[1] < ??`, first)
	b.await(row(payments.url) + `.querySelector(".strip").getAttribute("aria-label") === "Last five minutes: 5 good, 3 failed, 4 refused"`)
	assert.NotEmpty(t, eval[string](b, row(payments.url)+`.querySelector(".strip .refused").getAttribute("d")`))

	b.click(`#circuits tr[data-key="http://payments.test"] .more`)
	b.await(row(payments.url) + `.nextSibling.innerText.includes("closed → open")`)
	details := eval[string](b, row(payments.url)+".nextSibling.innerText")
	assert.Contains(t, details, trace)
	assert.Contains(t, details, "tripped")

	b.await(row(payments.url) + `.innerText.includes("next probe is due")`)
	payments.status.Store(http.StatusOK)
	w.get(payments.url, 1)
	b.awaitState(payments.url, "half-open")
	assert.Contains(t, eval[string](b, row(payments.url)+".innerText"), "0 of 1 in flight")
	w.get(payments.url, 2)
	b.awaitState(payments.url, "closed")
	b.await(`document.querySelector("#verdict").textContent === "all closed, 1 failing lately" && document.title === "Fusebox"`)
	assert.Empty(t, b.complaints())
}

func TestDetailsSayWhichSettingsAreInForce(t *testing.T) {
	w := newWorld(t, transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		if k.Host == "own.test" {
			return transport.Settings{
				Policy: policy.Classic{}, Classifier: policy.DefaultClassifier, Refusal: transport.RPCUnavailable,
			}
		}
		return transport.Settings{}
	}))
	w.get(w.upstream("own.test").url, 1)
	w.get(w.upstream("plain.test").url, 1)
	b := open(t, w.url)
	says := func(host string, want ...string) {
		t.Helper()
		b.await(row("http://"+host)+`.nextSibling.querySelector(".settings dl").innerText.split(/\s*\n\s*/).join(" ") === ??`, strings.Join(want, " "))
	}
	for _, host := range []string{"own.test", "plain.test"} {
		b.awaitState("http://"+host, "closed")
		b.click(`#circuits tr[data-key="http://` + host + `"] .more`)
	}
	says("own.test", "policy policy.Classic, of this key", "classifier of this key, then of all keys", "refusal of this key")
	says("plain.test", "policy policy.Adaptive, of all keys", "classifier of all keys", "refusal of all keys")

	w.breaker.SetPolicy(policy.Classic{})
	w.breaker.SetSettingsFor(nil)
	for _, host := range []string{"own.test", "plain.test"} {
		says(host, "policy policy.Classic, of all keys", "classifier of all keys", "refusal of all keys")
	}
	assert.Empty(t, b.complaints())
}

func TestAnOperatorOverridesByClicks(t *testing.T) {
	w := newWorld(t, classic)
	one, two := w.upstream("one.test"), w.upstream("two.test")
	w.get(one.url, 1)
	w.get(two.url, 1)
	b := open(t, w.url)
	b.awaitState(one.url, "closed")
	const details = `#circuits tr[data-key="http://one.test"] + tr `

	b.click(`#circuits tr[data-key="http://one.test"] .more`)
	b.click(details + `[data-do=open]`)
	b.click(`#confirm-no`)
	assert.Empty(t, w.breaker.Overrides(), "not without confirmation")
	b.click(details + `[data-do=open]`)
	assert.Equal(t, one.url, eval[string](b, `document.querySelector("#confirm-pattern").textContent`))
	b.click(`#confirm-yes`)
	b.awaitState(one.url, "forced-open")
	_, refused := w.get(one.url, 1)
	assert.True(t, refused)
	b.await(`document.querySelector("#overrides").innerText.includes("http://one.test")`)
	b.click(details + `[data-do=release]`)
	b.click(`#confirm-yes`)
	b.awaitState(one.url, "open")
	w.get(one.url, 3)
	b.awaitState(one.url, "closed")

	b.click(`#by-pattern`)
	eval[chromedp.Void](b, `(() => { const e = document.querySelector("#pattern-text"); e.value = "http://*.test"; e.dispatchEvent(new Event("input")) })()`)
	assert.Contains(t, eval[string](b, `document.querySelector("#pattern-matches").textContent`), "matches 2 circuits")
	b.click(`#pattern-do input[value=closed]`)
	b.click(`#pattern-yes`)
	b.click(`#confirm-yes`)
	b.awaitState(one.url, "forced-closed")
	b.awaitState(two.url, "forced-closed")
	assert.Equal(t, "http://*.test", w.breaker.Overrides()[0].Pattern)
	b.click(`#overrides button`)
	b.click(`#confirm-yes`)
	b.awaitState(two.url, "closed")
	b.await(`document.querySelector("#recent ol").textContent.includes("by operator at 127.0.0.1")`)
	b.await(row(one.url) + `.nextSibling.querySelector("[data-do=reset]")`)
	b.click(details + `[data-do=reset]`)
	b.click(`#confirm-yes`)
	b.await(row(one.url) + `.nextSibling.innerText.includes("reset")`)
	assert.Empty(t, b.complaints())
}

func TestAnActionThatMatchesNothingIsShownAsAnError(t *testing.T) {
	w := newWorld(t, classic)
	one := w.upstream("one.test")
	w.get(one.url, 1)
	b := open(t, w.url)
	b.awaitState(one.url, "closed")
	act := func(what, pattern string) string {
		t.Helper()
		b.click(`#by-pattern`)
		eval[chromedp.Void](b, `(() => { const e = document.querySelector("#pattern-text"); e.value = ??; e.dispatchEvent(new Event("input")) })()`, pattern)
		b.click(`#pattern-do input[value=` + what + `]`)
		b.click(`#pattern-yes`)
		b.click(`#confirm-yes`)
		b.await(`document.querySelector("#confirm-error").textContent !== ""`)
		said := eval[string](b, `document.querySelector("#confirm-error").textContent`)
		b.click(`#confirm-no`)
		return said
	}
	assert.Equal(t, "Nothing was forced by this pattern, or it matches no circuit.", act("release", one.url))
	assert.Equal(t, "No circuit matches. It is in force for circuits that are made later.", act("open", "http://two.test"))
	assert.Empty(t, b.complaints())
}

// Force with one pattern and then with a wider one: what the row says, and what its button releases, is the latter.
func TestBackToAutomaticReleasesWhatForcesNow(t *testing.T) {
	w := newWorld(t, classic)
	one := w.upstream("one.test")
	w.get(one.url, 1)
	w.breaker.Force(one.url, policy.Open)
	b := open(t, w.url)
	b.awaitState(one.url, "forced-open")
	b.await(row(one.url) + `.innerText.includes("override of this circuit")`)
	w.breaker.Force("*", policy.Open)
	w.breaker.Release(one.url)
	b.await(row(one.url) + `.innerText.includes("override *")`)
	b.click(`#circuits tr[data-key="http://one.test"] .more`)
	b.click(`#circuits tr[data-key="http://one.test"] + tr [data-do=release]`)
	b.click(`#confirm-yes`)
	b.awaitState(one.url, "open")
}

func TestTheDefaultPolicyCountsRequestsToTheNextTry(t *testing.T) {
	w := newWorld(t)
	one := w.upstream("one.test")
	one.status.Store(http.StatusInternalServerError)
	b := open(t, w.url)
	quit := make(chan struct{})
	var caller sync.WaitGroup
	caller.Go(func() { callNowAndThen(w, one, 5*time.Millisecond, quit) })
	b.await(row(one.url) + `?.innerText.match(/next probe in [\d\u202f]+ requests\nabout \d+ s at this rate/)`)
	c, ok := w.breaker.Circuit(transport.Key{Scheme: "http", Host: "one.test"})
	require.True(t, ok)
	require.Positive(t, c.ProbeRequests)
	close(quit)
	caller.Wait()
	// The former is past soon, and a busy machine may not have shown it.
	b.await(row(one.url) + `.innerText.match(/next probe from \d\d:\d\d:\d\d on\nwith the first request; none comes now|next probe is due\nwith the next request/)`)
	assert.Empty(t, b.complaints())
}

func TestARowSaysThatTheCircuitWaitsForARequestThatCanBeLost(t *testing.T) {
	w := newWorld(t, transport.WithSafeProbes(), transport.WithPolicy(policy.Classic{OpenFor: 500 * time.Millisecond, Probes: 2, SafeWait: 4 * time.Second}))
	one := w.upstream("one.test")
	w.breaker.SetState(transport.Key{Scheme: "http", Host: "one.test"}, policy.Open)
	quit := make(chan struct{})
	var caller sync.WaitGroup
	caller.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
			resp, err := w.client.Post(one.url, "text/plain", strings.NewReader("payload"))
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		}
	})
	defer caller.Wait()
	defer close(quit)
	b := open(t, w.url)
	const words = `waits for a request that can be lost\nat most until \d\d:\d\d:\d\d`
	for _, state := range []string{"open", "half-open"} {
		b.awaitState(one.url, state)
		b.await(row(one.url) + `.innerText.match(/` + words + `/)`)
	}
	b.awaitState(one.url, "closed")
	assert.NotContains(t, eval[string](b, row(one.url)+".innerText"), "can be lost")
	assert.Empty(t, b.complaints())
}

func TestARowSaysThatCallsAreThrottledAndWhy(t *testing.T) {
	w := newWorld(t)
	one := w.upstream("one.test")
	w.get(one.url, 3)
	for n := range 300 { // of which twenty good answers tell how many there are without a limit
		one.status.Store(http.StatusTooManyRequests)
		if n%3 == 0 {
			one.status.Store(http.StatusOK)
		}
		if _, refused := w.get(one.url, 1); refused {
			break
		}
	}
	b := open(t, w.url)
	b.awaitState(one.url, "closed")
	b.await(row(one.url) + `.innerText.match(/throttled: \d+ of \d+ calls turned away, the last by 429 \(they weigh 8, bound 8\)/)`)
	b.await(row(one.url) + `.innerText.match(/\d+ in flight may go/)`)
	b.await(row(one.url) + `.innerText.match(/throttled since \d\d:\d\d:\d\d; all from \d\d:\d\d:\d\d on if it does not repeat/)`)
	b.click(`#circuits tr[data-key="http://one.test"] .more`)
	b.await(row(one.url) + `.nextSibling.querySelector(".changes").innerText.match(/throttled: 429; \d+ of \d+ calls turned away/)`)
	assert.Empty(t, b.complaints())
}

// While a circuit is refused, and its row changes every second, what an operator has selected, scrolled and pressed stays.
func TestDetailsStayWhileTheyChange(t *testing.T) {
	w := newWorld(t, transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: 1500 * time.Millisecond}))
	one, two := w.upstream("one.test"), w.upstream("two.test")
	for _, u := range []*upstream{one, two} {
		u.status.Store(http.StatusInternalServerError)
	}
	quit := make(chan struct{})
	var callers sync.WaitGroup
	callers.Go(func() { callNowAndThen(w, one, 10*time.Millisecond, quit) })
	callers.Go(func() { callNowAndThen(w, two, 10*time.Millisecond, quit) })
	defer callers.Wait()
	defer close(quit)
	b := open(t, w.url)
	b.await(row(one.url) + `?.dataset.kind.match(/open/)`)
	b.click(`#circuits tr[data-key="http://one.test"] .more`)
	const details = `#circuits tr[data-key="http://one.test"] + tr `
	b.await(`document.querySelectorAll(??).length >= 12`, details+".changes li")
	eval[chromedp.Void](b, `(() => {
		getSelection().selectAllChildren(document.querySelector(??));
		window.changes = document.querySelector(??);
		window.changes.scrollTop = 60;
		window.last = window.changes.firstChild;
		window.button = document.querySelector(??);
		window.clicks = [];
		for (const type of ["pointerdown", "pointerup", "click"]) document.addEventListener(type, e => window.clicks.push(type + " " + (e.target.dataset.do || "")), true);
	})()`, details+".inner .mono", details+".changes", details+"[data-do=open]")
	refusals := func() int {
		return eval[int](b, `Number([...document.querySelectorAll(??)].find(e => e.textContent === "refusals").nextSibling.textContent.replace(/\D/g, ""))`, details+"dt")
	}
	before := refusals()
	b.await(`window.changes.firstChild !== window.last`) // twice at least, since it goes half-open and back
	b.await(`Number([...document.querySelectorAll(??)].find(e => e.textContent === "refusals").nextSibling.textContent.replace(/\D/g, "")) > ??`, details+"dt", before+100)
	assert.Equal(t, trace, eval[string](b, "getSelection().toString()"))
	assert.Positive(t, eval[int](b, "window.changes.isConnected && window.changes.scrollTop"))

	place := eval[[]float64](b, `(() => { window.button.scrollIntoView(); const r = window.button.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()`)
	now := refusals()
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMousePressed, place[0], place[1], chromedp.ButtonType(input.MouseButtonLeft), chromedp.ClickCount(1)))
	b.await(`Number([...document.querySelectorAll(??)].find(e => e.textContent === "refusals").nextSibling.textContent.replace(/\D/g, "")) > ??`, details+"dt", now+50)
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseReleased, place[0], place[1], chromedp.ButtonType(input.MouseButtonLeft), chromedp.ClickCount(1)))
	b.await(`document.querySelector("#confirm").open`)
	assert.Equal(t, []string{"pointerdown open", "pointerup open", "click open"}, eval[[]string](b, "window.clicks"))
	assert.Equal(t, one.url, eval[string](b, `document.querySelector("#confirm-pattern").textContent`))
	assert.Empty(t, b.complaints())
}

func TestTheVerdictSaysWhatThePageSays(t *testing.T) {
	w := newWorld(t, classic)
	shut, kept, well := w.upstream("shut.test"), w.upstream("kept.test"), w.upstream("well.test")
	for _, u := range []*upstream{shut, kept, well} {
		w.get(u.url, 1)
	}
	verdict := func(want, title string) {
		t.Helper()
		b := open(t, w.url)
		b.await(`document.querySelector("#verdict").textContent === ??`, want)
		assert.Equal(t, title, eval[string](b, "document.title"))
		numbers := eval[map[string]int](b, `Object.fromEntries([...document.querySelectorAll("#tally button")].map(e => [e.querySelector("span").textContent, Number(e.querySelector("strong").textContent)]))`)
		for part := range strings.SplitSeq(want, ", ") {
			var n int
			if number, label, _ := strings.Cut(part, " "); label != "closed" {
				_, err := fmt.Sscan(number, &n)
				require.NoError(t, err)
				assert.Equal(t, n, numbers[label], label)
			}
		}
		assert.Equal(t, numbers["all"], numbers["open"]+numbers["half-open"]+numbers["forced open"]+numbers["forced closed"]+numbers["closed"])
	}
	verdict("all closed", "Fusebox")
	w.breaker.Force(shut.url, policy.Open)
	_, refused := w.get(shut.url, 3)
	require.True(t, refused)
	verdict("1 forced open", "(1) Fusebox")
	w.breaker.Force(kept.url, policy.Closed)
	verdict("1 forced open, 1 forced closed", "(1) Fusebox")
	kept.status.Store(http.StatusInternalServerError)
	w.get(kept.url, 9)
	verdict("1 forced open, 1 forced closed, 1 failing lately", "(2) Fusebox")
	b := open(t, w.url)
	b.awaitState(kept.url, "forced-closed")
	assert.Contains(t, eval[string](b, row(kept.url)+".innerText"), "failures\n9 failed last minute")
	w.breaker.Release(shut.url)
	w.breaker.Release(kept.url)
	w.breaker.Reset("*")
	well.status.Store(http.StatusInternalServerError)
	w.get(well.url, 3)
	w.breaker.SetState(transport.Key{Scheme: "http", Host: "shut.test"}, policy.HalfOpen)
	b.await(`document.querySelector("#verdict").textContent === "1 open, 1 half-open, 1 not asked for, 1 failing lately"`)
}

func TestWhatWasRestoredSaysSo(t *testing.T) {
	old := newWorld(t, classic)
	sick := old.upstream("sick.test")
	sick.status.Store(http.StatusInternalServerError)
	old.get(sick.url, 3)
	var saved strings.Builder
	require.NoError(t, old.breaker.SaveTo(&saved))
	w := newWorld(t, classic)
	_, err := w.breaker.RestoreFrom(strings.NewReader(strings.Replace(saved.String(), `"circuits":[`, `"circuits":[{"scheme":"http","host":"unknown.test","state":"open"},`, 1)), 0)
	require.NoError(t, err)
	b := open(t, w.url)
	b.awaitState(sick.url, "open")
	b.awaitState("http://unknown.test", "open")
	eval[chromedp.Void](b, `document.querySelectorAll(".more").forEach(m => m.click())`)
	b.await(row(sick.url) + `.nextSibling.innerText.includes("status 500")`)
	assert.Contains(t, eval[string](b, row(sick.url)+".innerText"), "status 500")
	assert.Contains(t, eval[string](b, row("http://unknown.test")+".nextSibling.innerText"), "None since it was restored.")
}

func TestWhatNobodyAsksForIsNotSaidToBeOut(t *testing.T) {
	old := newWorld(t, classic)
	before := old.upstream("before.test")
	before.status.Store(http.StatusInternalServerError)
	old.get(before.url, 3)
	var saved strings.Builder
	require.NoError(t, old.breaker.SaveTo(&saved))

	w := newWorld(t, transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Hour}))
	_, err := w.breaker.RestoreFrom(strings.NewReader(saved.String()), 0)
	require.NoError(t, err)
	w.upstream("before.test").status.Store(http.StatusInternalServerError)
	idle, sick := w.upstream("idle.test"), w.upstream("sick.test")
	for _, u := range []*upstream{idle, sick} {
		u.status.Store(http.StatusInternalServerError)
		w.get(u.url, 3)
	}
	b := open(t, w.url)
	b.awaitState(idle.url, "open")
	b.awaitState(before.url, "open")
	says := func(url string) string { return eval[string](b, row(url)+".innerText") }
	assert.Regexp(t, `not asked since \d\d:\d\d:\d\d`, says(before.url), "nobody has since it was restored")
	assert.Contains(t, says(before.url), "nobody asks")
	assert.NotContains(t, says(before.url), "out since")
	assert.Zero(t, eval[int](b, row(before.url)+`.querySelectorAll(".bad").length`))
	assert.Contains(t, says(idle.url), "out since")
	assert.Contains(t, says(idle.url), "refusals")
	assert.Equal(t, "3 open, 1 not asked for", eval[string](b, `document.querySelector("#verdict").textContent`))
	assert.Equal(t, "(2) Fusebox", eval[string](b, "document.title"))
	order := `[...document.querySelectorAll("#circuits tr[data-key]")].map(e => e.dataset.key)`
	assert.Equal(t, []string{idle.url, sick.url, before.url}, eval[[]string](b, order), "trouble goes first")

	require.Equal(t, 300, eval[int](b, "head.asked_seconds"))
	quit := make(chan struct{})
	var caller sync.WaitGroup
	caller.Go(func() { callNowAndThen(w, sick, 50*time.Millisecond, quit) })
	eval[chromedp.Void](b, "void (head.asked_seconds = 3)") // five minutes are long for a test
	b.await(row(idle.url) + `.innerText.match(/not asked since \d\d:\d\d:\d\d/)`)
	assert.Contains(t, says(sick.url), "out since", "it is asked for")
	b.await(`document.querySelector("#verdict").textContent === "3 open, 2 not asked for" && document.title === "(1) Fusebox"`)
	b.await(order+`.join() === ??`, strings.Join([]string{sick.url, before.url, idle.url}, ","))
	b.click(`#tally [data-state=unasked]`)
	b.await(order+`.join() === ??`, strings.Join([]string{before.url, idle.url}, ","))
	caller.Go(func() { callNowAndThen(w, before, 50*time.Millisecond, quit) })
	b.await(order+`.join() === ??`, idle.url)
	b.click(`#tally [data-state=all]`)
	b.await(row(before.url) + `?.innerText.includes("out since")`)
	close(quit)
	caller.Wait()
	b.await(`document.title === "Fusebox"`)
	assert.Empty(t, b.complaints())
}

func TestKeyboardAlone(t *testing.T) {
	w := newWorld(t, classic)
	one := w.upstream("one.test")
	w.get(one.url, 1)
	b := open(t, w.url)
	b.awaitState(one.url, "closed")
	b.press("/")
	b.await(`document.activeElement.id === "filter"`)
	tabTo := func(what string) {
		t.Helper()
		for range 30 {
			if eval[bool](b, "document.activeElement.matches(??)", what) {
				assert.NotEqual(t, "none", eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"), "focus is seen on "+what)
				return
			}
			b.press(kb.Tab)
		}
		require.FailNow(t, "no way by Tab to "+what)
	}
	tabTo(".more")
	b.press(kb.Enter)
	b.await(`document.activeElement.getAttribute("aria-expanded") === "true"`)
	tabTo("[data-do=open]")
	b.press(kb.Enter)
	b.await(`document.activeElement.id === "confirm-no"`)
	b.press(kb.Escape)
	b.await(`!document.querySelector("#confirm").open && document.activeElement.matches("[data-do=open]")`)
	require.Empty(t, w.breaker.Overrides())
	b.press(kb.Enter)
	b.await(`document.activeElement.id === "confirm-no"`)
	tabTo("#confirm-yes")
	b.press(kb.Enter)
	b.awaitState(one.url, "forced-open")
	b.await(`document.activeElement.matches("[data-do]")`)
	tabTo("[data-do=release]")
	b.press(kb.Enter)
	b.await(`document.activeElement.id === "confirm-no"`)
	tabTo("#confirm-yes")
	b.press(kb.Enter)
	b.awaitState(one.url, "open")
	assert.Empty(t, b.complaints())
}

// contrast is a function that returns the texts whose contrast with what is behind them is less than WCAG's AA.
const contrast = `(() => {
	const rgb = s => s.match(/[\d.]+/g).map(Number);
	const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
	const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
	const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.99) return c; } return [255, 255, 255]; };
	const bad = [], seen = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let n = 0;
	while (seen.nextNode()) {
		const e = seen.currentNode.parentElement, style = getComputedStyle(e);
		if (!seen.currentNode.textContent.trim() || !e.checkVisibility() || e.closest(":disabled, .quiet, thead, #said, .skip")) continue;
		n++;
		const [a, b] = [light(rgb(style.color)), light(behind(e))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) bad.push(ratio.toFixed(2) + " " + seen.currentNode.textContent);
	}
	return n < 20 ? ["looked at " + n + " texts only"] : bad;
})()`

func TestReadableOnAPhoneInLightAndDark(t *testing.T) {
	w := newWorld(t, classic)
	well, sick, shut := w.upstream("well.test"), w.upstream("a-rather-long-name-of-an-upstream.with-many.labels.example.test"), w.upstream("shut.test")
	for _, u := range []*upstream{well, sick, shut} {
		w.get(u.url, 2)
	}
	sick.status.Store(http.StatusBadGateway)
	w.get(sick.url, 5)
	w.breaker.Force(shut.url, policy.Open)
	b := open(t, w.url)
	b.awaitState(sick.url, "open")
	b.awaitState(shut.url, "forced-open")
	eval[chromedp.Void](b, `document.querySelectorAll(".more").forEach(m => m.click())`)
	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		assert.Empty(t, eval[[]string](b, contrast), scheme)
	}
	background := eval[string](b, "getComputedStyle(document.documentElement).backgroundColor")
	assert.Equal(t, "rgb(15, 18, 23)", background, "dark")
	b.phone()
	b.await(`innerWidth === 390`)
	assert.Empty(t, eval[[]string](b, contrast))
	assert.LessOrEqual(t, eval[int](b, "document.documentElement.scrollWidth"), 390, "nothing to scroll sideways")
	assert.Empty(t, eval[[]string](b, `[...document.querySelectorAll("button, select, input[type=search]")].filter(e => e.checkVisibility())
		.filter(e => e.getBoundingClientRect().height < 40 || e.getBoundingClientRect().width < 40).map(e => e.outerHTML)`), "large enough for a finger")
	assert.Contains(t, eval[string](b, row(sick.url)+".innerText"), sick.url)
	assert.Empty(t, b.complaints())
}

func TestThreeThousandHosts(t *testing.T) {
	const hosts = 3000
	w := newWorld(t, classic)
	for i := range hosts {
		w.breaker.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("host-%04d.test", i)}, policy.Closed)
	}
	w.breaker.SetState(transport.Key{Scheme: "http", Host: "host-2999.test"}, policy.Open)
	b := open(t, w.url)
	began := time.Now()
	b.await(`document.querySelector("#tally [data-state=all] strong")?.textContent.replace(/\D/g, "") === "3000"`)
	t.Logf("everything was there after %v", time.Since(began))
	b.awaitState("http://host-2999.test", "open")
	assert.Equal(t, "http://host-2999.test", eval[string](b, `document.querySelector("#circuits tbody tr").dataset.key`))
	assert.LessOrEqual(t, eval[int](b, `document.querySelectorAll("#circuits > tbody > tr").length`), 100)

	took := func(change string) float64 { // in milliseconds, from the change to the next frame after its rendering
		return eval[float64](b, `new Promise(done => { const t = performance.now(); `+change+`;
			requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - t))) })`)
	}
	filter := took(`const f = document.querySelector("#filter"); f.value = "HOST-123"; f.dispatchEvent(new Event("input"))`)
	assert.Contains(t, eval[string](b, `document.querySelector("#circuits tbody").innerText`), "http://host-1234.test")
	assert.Equal(t, 20, eval[int](b, `document.querySelectorAll("#circuits > tbody > tr").length`))
	none := took(`const f = document.querySelector("#filter"); f.value = ""; f.dispatchEvent(new Event("input"))`)
	order := took(`const s = document.querySelector("#sort"); s.value = "name"; s.dispatchEvent(new Event("change"))`)
	assert.Equal(t, "http://host-0000.test", eval[string](b, `document.querySelector("#circuits tbody tr").dataset.key`))
	b.click("#on")
	b.await(`document.querySelector("#circuits tbody tr").dataset.key === "http://host-0050.test"`)
	b.click(`#tally [data-state=open]`)
	b.await(`document.querySelectorAll("#circuits > tbody > tr:not(.details)").length === 1`)
	t.Logf("filter %.0f ms, no filter %.0f ms, sort %.0f ms", filter, none, order)
	for _, ms := range []float64{filter, none, order} {
		assert.Less(t, ms, 1000.0)
	}
	assert.Empty(t, b.complaints())
}

func TestWhatAnAttackerNamesIsText(t *testing.T) {
	w := newWorld(t, transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}),
		transport.WithKey(func(r *http.Request) transport.Key {
			k := transport.Upstream(r)
			k.Detail = r.Header.Get("Tenant")
			return k
		}))
	u := w.upstream("u.test")
	u.status.Store(http.StatusInternalServerError)
	evil := `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`
	req, err := http.NewRequest(http.MethodGet, u.url, nil)
	require.NoError(t, err)
	req.Header.Set("Tenant", evil)
	req.Header.Set("Traceparent", "00-<b>not-hex</b>-00f067aa0ba902b7-01")
	resp, err := w.client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	key := u.url + " " + evil
	w.breaker.Force(key, policy.Open)
	b := open(t, w.url)
	b.awaitState(key, "forced-open")
	eval[chromedp.Void](b, `document.querySelector(".more").click()`)
	b.await(`document.querySelector(".detail [data-do=release]")`)
	b.click(".detail [data-do=release]")
	assert.Equal(t, key, eval[string](b, `document.querySelector("#confirm-pattern").textContent`))
	assert.Equal(t, key, eval[string](b, `document.querySelector("#overrides code").textContent`))
	assert.Equal(t, key, eval[string](b, `document.querySelector(".name").textContent`))
	assert.Zero(t, eval[int](b, `document.querySelectorAll("img, main script, b").length`))
	assert.True(t, eval[bool](b, "window.pwned === undefined"))
	assert.Empty(t, b.complaints())

	// And if it had become markup, the policy would have stopped it.
	eval[chromedp.Void](b, `document.querySelector("main").insertAdjacentHTML("beforeend", '<img src=x onerror="window.pwned=1">')`)
	b.await(`document.querySelector("main img").complete`)
	assert.True(t, eval[bool](b, "window.pwned === undefined"))
	assert.Contains(t, strings.Join(b.complaints(), "\n"), "Content Security Policy")
}

// No name turns the direction of what is read after it, or hides a part of itself.
func TestWhatIsHiddenInANameIsSeen(t *testing.T) {
	const hidden = "\u202egnp\u2066\u200b\u3164"
	w := newWorld(t, classic, transport.WithTraceID(func(*http.Request) string { return hidden }),
		transport.WithKey(func(r *http.Request) transport.Key {
			return transport.Key{Scheme: "http", Host: r.URL.Host, Detail: hidden}
		}))
	u := w.upstream("u.test")
	u.status.Store(http.StatusInternalServerError)
	w.get(u.url, 1)
	w.breaker.Force("http://u.test "+hidden+"*", policy.Open)
	b := open(t, w.url)
	key := transport.Key{Scheme: "http", Host: "u.test", Detail: hidden}.String()
	b.awaitState(key, "forced-open")
	eval[chromedp.Void](b, `document.querySelector(".more").click()`)
	b.click(`#by-pattern`)
	for _, pattern := range []string{key, "*" + hidden} { // as it is read, and as it is
		eval[chromedp.Void](b, `(() => { const e = document.querySelector("#pattern-text"); e.value = ??; e.dispatchEvent(new Event("input")) })()`, pattern)
		assert.Contains(t, eval[string](b, `document.querySelector("#pattern-matches").textContent`), "It matches 1 circuit now: "+key)
	}
	b.click(`#pattern-do input[value=closed]`)
	b.click(`#pattern-yes`)
	assert.Equal(t, `*\\u202egnp\\u2066\\u200b\\u3164`, eval[string](b, `document.querySelector("#confirm-pattern").textContent`))
	b.click(`#confirm-yes`)
	b.awaitState(key, "forced-closed")
	b.await(`document.querySelector("#recent ol").textContent.includes("\\u202egnp")`)
	assert.Zero(t, eval[int](b, `document.documentElement.outerHTML.match(/[\p{Bidi_Control}\p{Cf}\u3164]/gu)?.length ?? 0`))
	assert.Empty(t, b.complaints())
}

func TestTheStreamComesBack(t *testing.T) {
	w := newWorld(t, classic)
	one := w.upstream("one.test")
	w.get(one.url, 1)
	b := open(t, w.url)
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.awaitState(one.url, "closed")
	b.click(`#circuits tr[data-key="http://one.test"] .more`)
	eval[chromedp.Void](b, `(() => {
		window.states = []; new MutationObserver(() => window.states.push(document.querySelector("#live").className)).observe(document.querySelector("#live"), { attributes: true });
		document.querySelector(".detail [data-do=closed]").focus();
		window.focused = document.activeElement;
	})()`)
	w.server.CloseClientConnections()
	b.await(`window.states.includes("lost")`)
	two := w.upstream("two.test")
	w.get(two.url, 1)
	b.await(`document.querySelector("#live").className === "live"`)
	b.awaitState(two.url, "closed")
	assert.Equal(t, 2, eval[int](b, `document.querySelectorAll("#circuits > tbody > tr:not(.details)").length`))
	assert.True(t, eval[bool](b, `document.activeElement === window.focused && window.focused.dataset.do === "closed"`), "the focus is where it was")
}

// Where there can be no stream, the page says why in the server's words, and looks every few seconds.
func TestWithoutAStreamThePageLooks(t *testing.T) {
	w := newWorld(t, classic)
	one := w.upstream("one.test")
	w.get(one.url, 1)
	through := func(with func(http.Handler) http.Handler) { w.through.Store(&with) }
	through(func(h http.Handler) http.Handler { return http.TimeoutHandler(h, 5*time.Second, "too slow") })
	b := open(t, w.url)
	b.await(`document.querySelector("#live").textContent.includes("looks every 5 s, since there is no stream: the server cannot stream")`)
	b.awaitState(one.url, "closed")
	one.status.Store(http.StatusInternalServerError)
	w.get(one.url, 3)
	b.awaitState(one.url, "open")

	var all []io.Closer
	w.through.Store(nil)
	for range 64 {
		resp, err := w.server.Client().Get(w.url + "events")
		require.NoError(t, err)
		all = append(all, resp.Body)
	}
	b = open(t, w.url)
	b.await(`document.querySelector("#live").textContent.includes("64 watch already")`)
	b.awaitState(one.url, "open")

	through(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/api") {
				rw.Header().Set("Retry-After", "7")
				http.Error(rw, "64 are being answered already", http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(rw, r)
		})
	})
	b.await(`document.querySelector("#live").className === "lost" && document.querySelector("#live").textContent === "64 are being answered already; trying again"`)
	told := time.Now()
	w.through.Store(nil)
	b.await(`document.querySelector("#live").className === "polled"`)
	assert.Greater(t, time.Since(told), 6*time.Second, "it waits as long as it was told to")
	for _, body := range all {
		body.Close()
	}

	w.board.Close()
	b.await(`document.querySelector("#live").textContent === "the dashboard is closed; trying again"`)
}
