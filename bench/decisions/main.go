package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

func main() {
	o, err := parse(os.Args[1:], flag.ExitOnError)
	if err != nil {
		fmt.Fprintln(os.Stderr, "decisions:", err)
		os.Exit(2)
	}
	inTest(func(t *testing.T) int {
		if err := o.run(t, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "decisions:", err)
			return 1
		}
		return 0
	})
}

// play fills the draws, by a run that is logged or from a file.
func (o *options) play(t *testing.T, progress io.Writer) (err error) {
	if o.from != "" {
		err = o.draws.read(o.from)
	} else {
		o.draws.fill(t, progress)
		err = o.draws.log(o.looks, time.Now())
	}
	if err == nil && o.before != "" {
		err = o.draws.compareWith(o.before)
	}
	return err
}

func (o *options) run(t *testing.T, out, progress io.Writer) error {
	write := grid.text
	if o.markdown {
		write = grid.markdown
	}
	if o.draws != nil {
		if err := o.play(t, progress); err != nil {
			return err
		}
		if o.json {
			return o.draws.json(out)
		}
		o.draws.report(out, write)
		if o.out == "" {
			return nil
		}
		return o.draws.draw(o.out)
	}
	tb := &o.table
	tb.fill(t, progress)
	if !o.json {
		tb.report(out, write, o.detail)
	} else if err := tb.json(out); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	return tb.draw(o.out)
}
