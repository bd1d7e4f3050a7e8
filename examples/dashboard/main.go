// Dashboard shows three upstreams that misbehave, and what becomes of their circuits, on a page at
// http://127.0.0.1:8080/. Everything runs on loopback: catalog works but for a blip now and then, payments has outages
// that come and go, and search becomes slow and then answers nothing at all. Circuits can be overridden on the page.
//
//	go run ./examples/dashboard
//
// It runs until Ctrl-C, until its input ends (Ctrl-D), or for as long as -for says. Where the input has ended before it
// began, as with </dev/null or in the background, it says so and runs for five seconds; -for makes that longer. At its
// end it asks its own dashboard what happened, prints that, and fails if the dashboard does not answer.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/transport"
)

const atLeast = 5 * time.Second

func main() {
	addr := flag.String(
		"addr", "127.0.0.1:8080", "where to serve the dashboard; a free port is taken if this one is in use",
	)
	lasts := flag.Duration("for", 0, "how long to run; 0 means until Ctrl-C or the end of the input")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *lasts > 0 {
		ctx, stop = context.WithTimeout(ctx, *lasts)
	} else {
		ctx, stop = untilInputEnds(ctx, os.Stdout)
	}
	defer stop()
	if err := run(ctx, os.Stdout, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

// untilInputEnds ends the context with the input, but not before atLeast has passed.
func untilInputEnds(ctx context.Context, out io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	soonest := time.Now().Add(atLeast)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		if left := time.Until(soonest); left > 0 {
			fmt.Fprintf(
				out, "There is no input to wait for: it stops in %v. With -for 10m it runs for ten minutes.\n",
				left.Round(time.Second),
			)
			time.Sleep(left)
		}
		cancel()
	}()
	return ctx, cancel
}

func run(ctx context.Context, out io.Writer, addr string) error {
	upstreams, err := startUpstreams()
	if err != nil {
		return err
	}
	defer upstreams.close()
	breaker := transport.New(upstreams.base())

	board := dashboard.Handler(breaker,
		// Only this machine reaches the listener below, and no page of another name can pass for it.
		dashboard.AllowHosts("127.0.0.1", "localhost", "::1"),
		dashboard.AllowActions(func(*http.Request) bool { return true }),
		dashboard.WithActionLog(func(a dashboard.Action) {
			fmt.Fprintf(out, "%s: %s %s on %d circuits, from %s\n", a.Stage, a.Do, a.Pattern, a.Matched, a.Remote)
		}),
	)
	defer board.Close()
	listener, err := listen(out, addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: board, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) // until Close
	defer server.Close()
	url := "http://" + listener.Addr().String() + "/"
	fmt.Fprintf(out, "The dashboard is at %s (Ctrl-C to stop)\n", url)

	callers := callAll(ctx, breaker)
	<-ctx.Done()
	callers.Wait()
	return summary(out, url)
}

// listen takes any free port if the one that was asked for is in use.
func listen(out io.Writer, addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err == nil {
		return listener, nil
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return nil, err
	}
	fmt.Fprintf(out, "%v; taking a free port\n", err)
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// summary is what the dashboard says at the end.
func summary(out io.Writer, url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url + "api")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Circuits []struct {
			Circuit struct {
				Key, State  string
				Trips       int
				Refusals    int
				FailedCalls int `json:"failed_calls"`
			}
			Bars [][4]int
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s answers %s: %w", url+"api", resp.Status, err)
	}
	if len(answer.Circuits) == 0 {
		return fmt.Errorf("%s shows no circuits", url+"api")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\ncircuit\tstate\ttrips\tgood\tfailed\trefused")
	for _, c := range answer.Circuits {
		good := 0
		for _, bar := range c.Bars {
			good += bar[1]
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\n",
			c.Circuit.Key, c.Circuit.State, c.Circuit.Trips, good, c.Circuit.FailedCalls, c.Circuit.Refusals)
	}
	return table.Flush()
}
