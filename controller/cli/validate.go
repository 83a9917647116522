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
		Flags:     []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return errors.New("give one directory: vrcontroller validate DIRECTORY")
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
	return plan.Config{
		Cluster:        c.Cluster,
		PodSubnets:     c.Networks.PodSubnets,
		ServiceSubnets: c.Networks.ServiceSubnets,
		BlockBits4:     c.Networks.BlockSize4,
		BlockBits6:     c.Networks.BlockSize6,
	}
}

// validate plans the manifests for a cluster in which nobody has reported.
func validate(p Program, dir string, config plan.Config) error {
	cluster, problems := watch.Read(dir)
	if cluster != nil {
		out := plan.Build(plan.Input{Config: config, Cluster: cluster})
		problems = append(problems, out.Model.Problems...)
		fmt.Fprintf(p.Out, "%d namespaces, %d nodes, %d pods (%d with an interface), %d services (%d with a load balancer), %d endpoint slices\n",
			len(cluster.Namespaces), len(cluster.Nodes), len(cluster.Pods), len(out.Model.Interfaces),
			len(cluster.Services), len(out.Model.LoadBalancers), len(cluster.Slices))
	}
	for _, x := range problems {
		fmt.Fprintf(p.Out, "%s: %s\n", x.Object, x.Sentence)
	}
	if len(problems) > 0 {
		return fmt.Errorf("problems in %s: %d", dir, len(problems))
	}
	return nil
}
