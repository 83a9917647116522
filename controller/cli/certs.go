package cli

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/controller/certs"
)

func certsCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:  "certs",
		Usage: "make the certificates of controller and nodes",
		Description: "Makes ca.crt and ca.key unless they are there, controller.crt for --controller-address, and\n" +
			"NODE.crt for each --node. Good certificates that are there stay; --renew replaces all but the\n" +
			"authority. A node needs ca.crt, NODE.crt and NODE.key; ca.key stays where it was made.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`DIRECTORY` of the files", Value: "."},
			&cli.StringSliceFlag{Name: "controller-address", Usage: "IP `ADDRESS` or name by which agents reach the controller (repeat, or separate by commas)"},
			&cli.StringSliceFlag{Name: "node", Usage: "`NAME` of a node (repeat, or separate by commas)"},
			&cli.BoolFlag{Name: "renew", Usage: "make new certificates even where good ones are"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			r := certs.Request{
				Dir:       c.String("dir"),
				Addresses: c.StringSlice("controller-address"),
				Nodes:     c.StringSlice("node"),
				Renew:     c.Bool("renew"),
			}
			if len(r.Addresses)+len(r.Nodes) == 0 {
				return usage("nothing to make: give --controller-address or --node")
			}
			done, err := certs.Make(r, time.Now())
			for _, d := range done {
				word := "kept"
				if d.Made {
					word = "made"
				}
				fmt.Fprintln(p.Out, word, d.File)
			}
			return err
		},
	}
}
