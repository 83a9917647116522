// Package verbs carries out the CNI commands: ADD, DEL, CHECK, GC and STATUS.
// A call keeps nothing: the kernel holds the interface (package veth), the agent
// holds addresses and identities. It decides no address, label or route itself.
package verbs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/plugin/veth"
)

// Funcs are the commands as CNI's skeleton calls them.
func Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:    func(args *skel.CmdArgs) error { return run("ADD", args, add) },
		Del:    func(args *skel.CmdArgs) error { return run("DEL", args, del) },
		Check:  func(args *skel.CmdArgs) error { return run("CHECK", args, check) },
		GC:     func(args *skel.CmdArgs) error { return run("GC", args, gc) },
		Status: func(args *skel.CmdArgs) error { return run("STATUS", args, status) },
	}
}

// call is one command with its surroundings.
type call struct {
	// Set once by run.
	args  *skel.CmdArgs
	conf  *conf.CNI
	owner veth.Owner
	log   *slog.Logger
	agent *agent
}

// run reads the configuration, opens the log and carries out a command. It is
// the program's outermost layer: here an error is both logged, for the node's
// operator, and returned, for the runtime.
func run(verb string, args *skel.CmdArgs, command func(*call) error) error {
	start := time.Now()
	config, err := conf.ParseCNI(args.StdinData)
	if err != nil {
		return asCNI(err)
	}
	logTo, closeLog := openLog(config.LogFile)
	defer closeLog()
	c := &call{
		args:  args,
		conf:  config,
		owner: veth.Owner{ContainerID: args.ContainerID, Ifname: args.IfName},
		log:   newLog(logTo, config.LogLevel).With("verb", verb, "container", args.ContainerID, "ifname", args.IfName),
		agent: newAgent(config.RunDir),
	}
	defer c.agent.close()
	if err := command(c); err != nil {
		c.log.Error(err.Error())
		return asCNI(err)
	}
	level := slog.LevelInfo
	if verb == "STATUS" || verb == "CHECK" { // asked every few seconds
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, "done", "took", time.Since(start).Round(time.Microsecond))
	return nil
}

// attachment is the call's identity in the agent's terms.
func (c *call) attachment() rpc.Attachment {
	return rpc.Attachment{ContainerID: c.owner.ContainerID, Ifname: c.owner.Ifname, Network: c.conf.Name}
}

// openLog opens the log file. Pods get their network without it, too.
func openLog(file string) (io.Writer, func()) {
	if file == "" {
		return io.Discard, func() {}
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		warn(fmt.Errorf("open log: %w", err))
		return io.Discard, func() {}
	}
	return f, func() { _ = f.Close() }
}

func newLog(to io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // checked by conf
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: l}))
}

// warn speaks on standard error, which runtimes keep but do not act on.
func warn(err error) { fmt.Fprintln(os.Stderr, "vrouter: warning:", err) }

// podArgs are the keys kubelet's runtime puts into CNI_ARGS.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE          types.UnmarshallableString //nolint:revive,staticcheck // the key's own name
	K8S_POD_NAME               types.UnmarshallableString //nolint:revive,staticcheck
	K8S_POD_UID                types.UnmarshallableString //nolint:revive,staticcheck
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString //nolint:revive,staticcheck
}

func parsePodArgs(args string) (*podArgs, error) {
	var p podArgs
	if err := types.LoadArgs(args, &p); err != nil {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: "+err.Error(), "")
	}
	if p.K8S_POD_NAMESPACE == "" || p.K8S_POD_NAME == "" {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables,
			"CNI_ARGS names no pod", "set K8S_POD_NAMESPACE and K8S_POD_NAME")
	}
	return &p, nil
}
