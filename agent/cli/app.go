package cli

import (
	"github.com/urfave/cli/v2"
)

// NewApp returns the program: its own commands (run, fastpath), then the verbs.
// What is not understood exits with ExitUsage and says so on standard error.
func NewApp(version string, programs ...*cli.Command) *cli.App {
	return &cli.App{
		Name: "vragent", Usage: "virtual router of a Kubernetes node", Version: version,
		Commands:        append(programs, Commands()...),
		HideHelpCommand: true,
		OnUsageError:    func(ctx *cli.Context, err error, _ bool) error { return usage(ctx, "%v", err) },
		// Runs when no command matches.
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return usage(ctx, "there is no command %q", ctx.Args().First())
			}
			return cli.ShowAppHelp(ctx)
		},
	}
}
