package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// Exit codes of every command but those that ask whether all is well; vragent's
// are the same.
const (
	ExitFailure     = 1 // the question was understood and cannot be answered
	ExitUsage       = 2 // the question was not understood
	ExitUnreachable = 4 // the controller does not answer
)

// Exit codes of status and ipam check, for scripts and probes.
const (
	ExitUnknown   = 1 // it cannot be told, whatever the reason
	ExitUnhealthy = 2
)

const exitText = "Exits with 0 when all is well, 1 when a command cannot do what it is asked, 2 when it is not\n" +
	"understood, 4 when the controller does not answer. status and ipam check: 0 healthy, 2 not healthy, 1 when\n" +
	"that cannot be told."

// unknown is the error of a command that cannot tell whether all is well.
func unknown(err error) error { return &coded{ExitUnknown, err} }

// coded is an error with an exit code of its own. One without a text has been
// shown already.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *coded) Unwrap() error { return e.err }

// ExitCode is how the program ends with that error.
func ExitCode(err error) int {
	var c *coded
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return c.code
	}
	return ExitFailure
}

// usage is the error for a question that was not understood.
func usage(format string, args ...any) error {
	return &coded{ExitUsage, fmt.Errorf(format, args...)}
}

// misused is called for flags that are not understood.
func misused(c *cli.Context, err error, _ bool) error {
	err = named(c, usage("%w", err))
	if c.Command != nil && (c.Command.Name == "status" || c.Command.Name == "check") {
		return unknown(err)
	}
	return err
}

// named puts what the user typed before an error: "vrcontroller status".
func named(c *cli.Context, err error) error {
	if err == nil || err.Error() == "" || strings.HasPrefix(err.Error(), c.App.Name) {
		return err
	}
	called := c.App.Name
	if c.Command != nil {
		called = cmp.Or(c.Command.HelpName, called)
	}
	if ExitCode(err) == ExitUsage {
		return &coded{ExitUsage, fmt.Errorf("%s: %w (see %s --help)", called, err, called)}
	}
	return &coded{ExitCode(err), fmt.Errorf("%s: %w", called, err)}
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
