// Package browsertest looks at the dashboard with a real browser, Chromium, which must be on the PATH.
//
//	go test -C dashboard/browsertest .
//	go test -C dashboard/browsertest -run Screenshots -screenshots ../../docs -scene 5m -timeout 10m .
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const patience = time.Minute // with a busy machine

// browser is a tab of a Chromium of its own, with a fresh profile.
type browser struct {
	t       *testing.T
	ctx     context.Context
	console chan chromedp.ConsoleMessage
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	fmt.Fprintln(os.Stderr, "these tests need chromium, chromium-browser or google-chrome on the PATH; install one, such as by apt-get install chromium")
	os.Exit(1)
	return ""
}

// shared is the context of the browser; each test has a tab of its own. It is nil until the first test needs it.
var shared context.Context

func TestMain(m *testing.M) {
	profile, err := os.MkdirTemp("", "dashboard-browser-")
	if err != nil {
		panic(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium()), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"),
	)
	var quit context.CancelFunc
	shared, quit = chromedp.NewContext(allocator)
	code := 1
	if err := chromedp.Do(shared); err != nil {
		fmt.Fprintln(os.Stderr, "chromium does not start:", err)
	} else {
		code = m.Run()
		chromedp.Cancel(shared) // waits until it has ended
	}
	quit()
	stop()
	os.RemoveAll(profile)
	os.Exit(code)
}

func open(t *testing.T, url string) *browser {
	ctx, cancel := chromedp.NewContext(shared)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, console: make(chan chromedp.ConsoleMessage, 1000)}
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(1360, 900)))
	messages := chromedp.Console(ctx)
	go func() {
		for message, err := range messages {
			if err != nil {
				return
			}
			b.console <- message
		}
	}()
	b.do(chromedp.Navigate(url))
	return b
}

// complaints returns the errors and warnings in the console, violations of the Content-Security-Policy among them, since
// the last time.
func (b *browser) complaints() (all []string) {
	b.t.Helper()
	const mark = "that is all"
	eval[chromedp.Void](b, "void console.info(??)", mark)
	for {
		select {
		case m := <-b.console:
			switch m.Type {
			case chromedp.ConsoleWarning, chromedp.ConsoleError, chromedp.ConsoleException:
				all = append(all, m.String())
			case chromedp.ConsoleInfo:
				if m.Text == mark {
					return all
				}
			}
		case <-time.After(patience):
			require.FailNow(b.t, "the console does not answer")
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run(b, chromedp.Steps(actions...))
}

func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return result
}

// eval returns what an expression of JavaScript is, a promise awaited.
func eval[T any](b *browser, expression string, args ...any) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expand(expression, args), chromedp.EvalAwaitPromise))
}

// expand puts arguments as JSON in the places of question marks.
func expand(expression string, args []any) string {
	for _, arg := range args {
		text, _ := json.Marshal(arg)
		expression = strings.Replace(expression, "??", string(text), 1)
	}
	return expression
}

// await waits until an expression is true.
func (b *browser) await(expression string, args ...any) {
	b.t.Helper()
	expression = expand(expression, args)
	deadline := time.Now().Add(patience)
	for !eval[bool](b, "Boolean("+expression+")") {
		if time.Now().After(deadline) {
			require.FailNow(b.t, "never true: "+expression, "%s\n%v", eval[string](b, "document.body.innerText.slice(0, 3000)"), b.complaints())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// row is an expression for the row of a key.
func row(key string) string {
	return expand(`document.querySelector("#circuits tr[data-key=" + CSS.escape(??) + "]")`, []any{key})
}

func (b *browser) awaitState(key, kind string) {
	b.t.Helper()
	b.await(row(key)+"?.dataset.kind === ??", kind)
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (b *browser) press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.do(chromedp.KeyEvent(key))
	}
}

func (b *browser) prefer(scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(b.t, err)
}

func (b *browser) phone() {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2)))
}
