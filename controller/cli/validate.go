package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch"
)

func validateCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "read a directory of manifests and say what is wrong with them",
		ArgsUsage: "DIRECTORY",
		Description: "Exits with 1 when something is wrong, or nothing is there. Warnings, about what is not\n" +
			"implemented yet, change nothing.",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usage("give one directory: vrcontroller validate DIRECTORY")
			}
			file := c.String("config")
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) && !c.IsSet("config") {
				file = os.DevNull // an empty file: the defaults
			}
			config, err := conf.LoadController(file)
			if err != nil {
				return err
			}
			return validate(p, c.Args().First(), Plan(config))
		},
	}
}

// Plan is the part of the configuration that the plan depends on.
func Plan(c *conf.Controller) plan.Config {
	out := plan.Config{
		Cluster:        c.Cluster,
		PodSubnets:     c.Networks.PodSubnets,
		ServiceSubnets: c.Networks.ServiceSubnets,
		BlockBits4:     c.Networks.BlockSize4,
		BlockBits6:     c.Networks.BlockSize6,
		Quarantine:     c.Networks.BlockQuarantine.Duration,
		SharedServices: c.Networks.SharedServices,
		NodePorts:      c.NodePorts,
	}
	if p := c.Networks.PublicPool; p != nil {
		name := plan.FQName(*p)
		out.PublicPool = &name
	}
	return out
}

// validate plans the manifests for a cluster in which nobody has reported.
func validate(p Program, dir string, config plan.Config) error {
	switch files, err := watch.Manifests(dir); {
	case err != nil:
		return err
	case len(files) == 0:
		return fmt.Errorf("no manifests in %s", dir)
	}
	cluster, problems := watch.Read(dir)
	if cluster != nil {
		out := plan.Build(plan.Input{Config: config, Cluster: cluster})
		problems = append(problems, out.Model.Problems...)
		fmt.Fprintf(p.Out, "%s, %s, %s (%d with an interface), %s (%d with a load balancer), %s\n",
			count(len(cluster.Namespaces), "namespace"), count(len(cluster.Nodes), "node"),
			count(len(cluster.Pods), "pod"), len(out.Model.Interfaces),
			count(len(cluster.Services), "service"), len(out.Model.LoadBalancers), count(len(cluster.Slices), "endpoint slice"))
		for _, n := range out.Model.Notices {
			fmt.Fprintf(p.Out, "warning: %s: %s\n", n.Object, n.Sentence)
		}
	}
	for _, x := range problems {
		fmt.Fprintf(p.Out, "%s: %s\n", x.Object, x.Sentence)
	}
	if len(problems) > 0 {
		return fmt.Errorf("problems in %s: %d", dir, len(problems))
	}
	return nil
}
