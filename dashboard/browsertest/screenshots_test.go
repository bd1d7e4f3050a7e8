package browsertest

import (
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var (
	screenshots = flag.String("screenshots", "", "the directory for dashboard.png, dashboard-phone.png and incident.png; empty for one that is thrown away")
	scene       = flag.Duration("scene", 4*time.Second, "how long upstreams misbehave before the screenshots are taken")
)

// TestScreenshots takes the screenshots of the documentation: real circuits of real upstreams after a while.
func TestScreenshots(t *testing.T) {
	dir := *screenshots
	if dir == "" {
		dir = t.TempDir()
	}
	w := newWorld(t, transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		if k.Host == "search.example" { // stays half-open for long
			return transport.Settings{Policy: policy.Classic{Failures: 5, OpenFor: time.Second, Probes: 4, Successes: 1 << 20}}
		}
		return transport.Settings{}
	}))
	hosts := map[string]time.Duration{ // from call to call
		"auth.example": 30 * time.Millisecond, "catalog.example": 20 * time.Millisecond, "images.example": 45 * time.Millisecond,
		"inventory.example": 90 * time.Millisecond, "legacy-crm.example": 150 * time.Millisecond, "payments.example": 40 * time.Millisecond,
		"search.example": 50 * time.Millisecond, "shipping.example": 80 * time.Millisecond,
	}
	quit := make(chan struct{})
	var callers sync.WaitGroup
	upstreams := make(map[string]*upstream)
	for host, every := range hosts {
		u := w.upstream(host)
		u.takes.Store(int64(5 * time.Millisecond))
		upstreams[host] = u
		callers.Go(func() { callNowAndThen(w, u, every, quit) })
	}
	defer callers.Wait()
	defer close(quit)
	w.breaker.SetShadow(func(k transport.Key) bool { return k.Host == "shipping.example" })

	until := time.Now().Add(*scene)
	part := func(share float64) { time.Sleep(time.Until(until.Add(-time.Duration((1 - share) * float64(*scene))))) }
	part(0.3)
	upstreams["shipping.example"].status.Store(http.StatusBadGateway)
	part(0.4)
	upstreams["shipping.example"].status.Store(http.StatusOK)
	w.breaker.Force("http://legacy-crm.example", policy.Open)
	part(0.55)
	upstreams["search.example"].status.Store(http.StatusServiceUnavailable)
	part(0.7)
	upstreams["payments.example"].status.Store(http.StatusInternalServerError)
	part(0.85)
	upstreams["search.example"].takes.Store(int64(100 * time.Millisecond))
	upstreams["search.example"].status.Store(http.StatusOK)
	part(1)

	b := open(t, w.url)
	b.awaitState("http://payments.example", "open")
	b.awaitState("http://search.example", "half-open")
	b.awaitState("http://legacy-crm.example", "forced-open")
	b.do(chromedp.EmulateViewport(1280, 900))
	b.click(`#circuits tr[data-key="http://payments.example"] .more`)
	b.prefer("light")
	b.await(`document.querySelector(".detail .acts")`)
	b.do(chromedp.EmulateViewport(1280, eval[int64](b, `document.querySelector("footer").offsetTop`), chromedp.EmulateScale(1.2)))
	b.await(row("http://payments.example") + `.innerText.match(/next probe in \d+ requests/)`)
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 1, 1))
	eval[chromedp.Void](b, "document.activeElement.blur()")
	shoot(b, filepath.Join(dir, "dashboard.png"))
	b.click(`#circuits tr[data-key="http://payments.example"] .more`)
	eval[chromedp.Void](b, "document.activeElement.blur()")
	b.prefer("dark")
	b.phone()
	b.await(`innerWidth === 390`)
	shoot(b, filepath.Join(dir, "dashboard-phone.png"))
	assert.Empty(t, b.complaints())
}

// TestScreenshotOfAnIncident plays the incident whose log is in docs/operations.md, in real time if the picture is kept.
func TestScreenshotOfAnIncident(t *testing.T) {
	dir, incident := *screenshots, &testkit.Incident{Speed: 1}
	if dir == "" {
		dir, incident.Speed = t.TempDir(), 10
	}
	w := &world{t: t}
	w.look(transport.New(incident, transport.WithPolicy(incident.Rules()),
		transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests))))
	require.NoError(t, incident.Play(w.breaker))
	for end := time.Now().Add(20 * time.Second); w.breaker.Circuits()[0].State != policy.Closed; time.Sleep(10 * time.Millisecond) {
		require.NoError(t, incident.Call(w.breaker))
		require.True(t, time.Now().Before(end), "it does not recover")
	}

	const key = "https://pay.example"
	b := open(t, w.url)
	b.awaitState(key, "closed")
	b.do(chromedp.EmulateViewport(1280, 900))
	b.prefer("light")
	b.click(`#circuits tr[data-key="` + key + `"] .more`)
	b.await(`document.querySelector(".detail .acts")`)
	details := eval[string](b, row(key)+".nextSibling.innerText")
	for _, what := range []string{
		"failures weigh 6 (bound 6)", "calls slower than", "judged so (status 429)", "recovered", "policy.Rules",
	} {
		assert.Contains(t, details, what)
	}
	eval[chromedp.Void](b, `document.querySelector(".changes").style.maxHeight = "none"`) // all of them
	eval[chromedp.Void](b, `
		for (const e of document.querySelectorAll("header, #tally, #tools")) e.style.display = "none";
		document.querySelector("main").style.paddingTop = "16px";
	`)
	b.do(chromedp.EmulateViewport(1280, eval[int64](b, `document.querySelector("footer").offsetTop`), chromedp.EmulateScale(1.2)))
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 1, 1))
	eval[chromedp.Void](b, "document.activeElement.blur()")
	shoot(b, filepath.Join(dir, "incident.png"))
	assert.Empty(t, b.complaints())
}

func callNowAndThen(w *world, u *upstream, every time.Duration, quit chan struct{}) {
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		calls.Go(func() {
			if rand.IntN(3) == 0 { // traffic is never even
				return
			}
			req, _ := http.NewRequest(http.MethodGet, u.url, nil)
			req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
			if resp, err := w.client.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}

func shoot(b *browser, name string) {
	b.t.Helper()
	png := run(b, chromedp.CaptureScreenshot())
	require.NoError(b.t, os.WriteFile(name, png, 0o644))
	assert.Less(b.t, len(png), 300<<10, "bytes of "+name)
	assert.Greater(b.t, len(png), 10<<10, "bytes of "+name)
}
