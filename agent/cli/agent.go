package cli

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
)

func statusCommand() *cli.Command {
	return verb(cli.Command{
		Name: "status", Usage: "health of the agent and the fast path",
		Description: "Exits with 0 when all is well, 3 when something is degraded or one of the two\nprocesses is down, 4 when neither answers.",
	}, func(q *question) error {
		s := &show.Status{}
		agent, agentErr := q.askAgent(rpc.Request{Status: &rpc.Empty{}})
		if agentErr != nil {
			s.AgentError = agentErr.Error()
		} else {
			s.Agent = agent.Status
		}
		fast, fastErr := q.askFastPath(control.Request{Status: &control.Empty{}})
		if fastErr != nil {
			s.FastPathError = fastErr.Error()
		} else {
			s.FastPath = fast.Status
		}
		s.OK = len(s.Problems()) == 0
		if err := q.print(s, func(w io.Writer) { show.WriteStatus(w, s, time.Now()) }); err != nil {
			return err
		}
		switch {
		case s.OK:
			return nil
		case agentErr != nil && fastErr != nil:
			return cli.Exit(fmt.Sprintf("%s: %v", path(q.Context), agentErr), ExitUnreachable)
		}
		return cli.Exit("", ExitDegraded)
	})
}

func vmiCommand() *cli.Command {
	return verb(cli.Command{
		Name: "vmi", Usage: "virtual machine interfaces: the pods' interfaces as the agent knows them",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.StringFlag{Name: "get", Usage: "only this one: its `UUID` or namespace/pod"},
		},
	}, func(q *question) error {
		r, err := q.askAgent(rpc.Request{VMIs: &rpc.Empty{}})
		if err != nil {
			return err
		}
		vmis := nonNil(r.VMIs)
		if want := q.String("get"); want != "" {
			vmis = only(vmis, func(v rpc.VMI) bool { return v.UUID == want || v.Namespace+"/"+v.Pod == want })
			if len(vmis) == 0 {
				return fmt.Errorf("there is no VMI %q", want)
			}
		}
		return q.print(vmis, func(w io.Writer) { show.WriteVMIs(w, vmis) })
	})
}

func blockCommand() *cli.Command {
	return verb(cli.Command{
		Name: "block", Usage: "address blocks leased to this node",
		Flags: []cli.Flag{habit("list", "l")},
	}, func(q *question) error {
		r, err := q.askAgent(rpc.Request{Blocks: &rpc.Empty{}})
		if err != nil {
			return err
		}
		blocks := nonNil(r.Blocks)
		return q.print(blocks, func(w io.Writer) { show.WriteBlocks(w, blocks) })
	})
}

func versionCommand() *cli.Command {
	return verb(cli.Command{
		Name: "version", Usage: "of this program and of the running processes",
	}, func(q *question) error {
		v := show.Versions{Client: programVersion(q.App.Version), Agent: "not running", FastPath: "not running"}
		if r, err := q.askAgent(rpc.Request{Status: &rpc.Empty{}}); err == nil && r.Status != nil {
			v.Agent = r.Status.Version
		}
		if r, err := q.askFastPath(control.Request{Status: &control.Empty{}}); err == nil && r.Status != nil {
			v.FastPath = r.Status.Version
		}
		return q.print(v, func(w io.Writer) { show.WriteVersions(w, v) })
	})
}

// programVersion is what the program was linked with, or what the Go tool
// recorded of the source.
func programVersion(linked string) string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
