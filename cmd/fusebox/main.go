// Fusebox tells what circuit breakers would have done to calls of which there are records, such as a proxy's access
// log: what they would have refused, what that would have cost, and what it would have spared.
//
//	fusebox replay access.log.1 access.log
//	fusebox replay -policy 'classic failures=5 openfor=30s' -html replay.html access.log
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

const usage = `usage: fusebox replay [flags] FILES…

Fusebox has circuit breakers decide about calls of which there are records, and says what they would have refused, what
that would have cost, and what it would have spared. fusebox replay -h tells more.
`

// What the command exits with.
const (
	exitOK      = 0
	exitPrice   = 1 // a policy costs more than -max-price
	exitWrong   = 2 // a flag is wrong, or a file cannot be read
	exitStrange = 3 // more lines were not understood than -not-understood allows
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fusebox:", err)
	}
	os.Exit(code)
}

// run does what the arguments say, and returns what to exit with.
func run(ctx context.Context, args []string, in io.Reader, out, problems io.Writer) (code int, err error) {
	if len(args) == 0 {
		fmt.Fprint(problems, usage)
		return exitWrong, nil
	}
	switch args[0] {
	case "replay":
		code, err = replay(ctx, args[1:], in, out, problems)
	case "-h", "-help", "--help", "help":
		fmt.Fprint(out, usage)
	default:
		err = fmt.Errorf("there is no command %q; write fusebox replay FILES…", args[0])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK, nil
	case err != nil && code == exitOK:
		code = exitWrong
	}
	return code, err
}
