package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
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

func (o *options) run(t *testing.T, out, progress io.Writer) error {
	tb := &o.table
	tb.fill(t, progress)
	switch {
	case o.json:
		if err := tb.json(out); err != nil {
			return err
		}
	case o.markdown:
		tb.report(out, grid.markdown, o.detail)
	default:
		tb.report(out, grid.text, o.detail)
	}
	if o.out == "" {
		return nil
	}
	return tb.draw(o.out)
}
