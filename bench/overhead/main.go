package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
)

func main() {
	testing.Init() // testing.Benchmark reads its flags
	o, err := parse(os.Args[1:], flag.ExitOnError)
	if err == nil {
		err = o.run(os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

// run measures everything and writes the tables to out.
func (o *options) run(out, progress io.Writer) error {
	if err := flag.Set("test.benchtime", o.benchtime.String()); err != nil {
		return err
	}
	what := "medians"
	if o.least {
		what = "the least"
	}
	fmt.Fprintf(out, "%s, %s/%s, %d processors; %s of %d rounds of %v.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), what, o.rounds, o.benchtime)
	reportSubjects(out, o.subjects)
	if o.floors {
		o.reportFloors(out)
	}
	if o.paired {
		if err := o.reportPaired(out); err != nil {
			return err
		}
	}
	if o.tails {
		o.reportTails(out, progress)
	}
	for _, c := range o.cases {
		results, err := o.measure(c, progress)
		if err != nil {
			return err
		}
		report(out, c, results)
	}
	runtime.KeepAlive(ballast)
	runtime.KeepAlive(&sink)
	return nil
}
