// Package cli is the command line of vrcontroller: it runs the controller,
// makes certificates, checks manifests, and shows what a running controller
// knows or asks it to repair, over its REST API. It keeps no state and decides
// nothing.
package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/conf"
)

// Program is what main hands in.
type Program struct {
	Version string
	Run     func(context.Context, *conf.Controller) error
	Out     io.Writer
}

// App makes the command line.
func App(p Program) *cli.App {
	app := &cli.App{
		Name:                 "vrcontroller",
		Usage:                "turns Kubernetes objects into virtual networks, load balancers and routes",
		Description:          exitText,
		Version:              p.Version,
		HideHelpCommand:      true, // --help is enough
		Writer:               p.Out,
		EnableBashCompletion: true,
		OnUsageError:         misused,
		ExitErrHandler:       func(*cli.Context, error) {}, // main ends the program
		Action: func(c *cli.Context) error { // no command matches
			if c.Args().Present() {
				return named(c, usage("there is no command %q", c.Args().First()))
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			runCommand(p),
			certsCommand(p),
			routesCommand(p),
			statusCommand(p),
			ipamCommand(p),
			validateCommand(p),
			{
				Name:  "version",
				Usage: "print the version",
				Action: func(c *cli.Context) error {
					_, err := fmt.Fprintln(p.Out, "vrcontroller", p.Version)
					return err
				},
			},
			completionCommand(p),
		},
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true
		c.OnUsageError = misused
		action := c.Action
		c.Action = func(ctx *cli.Context) error { return named(ctx, action(ctx)) }
	}
	return app
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "configuration `FILE`", Value: conf.ControllerFile, EnvVars: []string{"VRCONTROLLER_CONFIG"}}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT`: table, json or yaml", Value: "table"}
}

func runCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "serve the agents and the REST API",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			config, err := conf.LoadController(c.String("config"))
			if err != nil {
				return err
			}
			return p.Run(c.Context, config)
		},
	}
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usage("%q is not expected here", c.Args().First())
	}
	return nil
}
