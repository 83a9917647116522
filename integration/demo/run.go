package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// What the manifests in conf/examples/demo say, where the demo needs it.
const (
	vip       = "10.96.0.10"
	webPort   = "8888"
	adminPort = "9999"
	emptyVIP  = "10.96.0.11"

	labName     = "demo"
	connections = 200
	least, most = 20, 60 // of the connections, for each backend
)

// pods are attached in this order.
var pods = []struct{ name, node string }{
	{"client", "node1"},
	{"web1", "node1"}, {"web2", "node1"},
	{"web3", "node2"}, {"web4", "node2"}, {"web5", "node2"},
}

// demo is the running demonstration.
type demo struct {
	*testbed.Lab
	self    string // this program
	build   string // folder of scripts: build/demo
	started time.Time
	daemons []*testbed.Daemon // servers and the held connection
	held    heldConnection
}

// heldConnection is open while the demo is explained, so that its flows are
// there to be seen.
type heldConnection struct{ client, backend string }

// run shows the demo and removes it.
func run(ctx context.Context) error {
	err := up(ctx)
	if err == nil {
		fmt.Println("\nThe demo is removed again. `make demo-up` leaves it running.")
	}
	return errors.Join(err, down())
}

// up builds the demo, explains it and leaves it running. When something fails,
// the logs are saved and everything is removed.
func up(ctx context.Context) error {
	d, err := newDemo()
	if err != nil {
		return err
	}
	if err := d.show(ctx); err != nil {
		kept := filepath.Join(filepath.Dir(d.build), "demo-log")
		_ = os.RemoveAll(kept)
		if copyErr := os.CopyFS(kept, os.DirFS(d.LogDir())); copyErr == nil {
			err = fmt.Errorf("%w\nThe logs of all processes are in %s", err, kept)
		}
		return errors.Join(err, down())
	}
	return nil
}

// down removes the demo, whoever started it.
func down() error {
	d, err := newDemo()
	if err != nil {
		return err
	}
	return errors.Join(d.Down(context.Background()), os.RemoveAll(d.build))
}

// newDemo names the demo without building it. The program lives in build/tools,
// the repository is two folders up.
func newDemo() (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	build := filepath.Dir(filepath.Dir(self))
	d := &demo{self: self, build: filepath.Join(build, "demo"), started: time.Now()}
	d.Lab = testbed.New(testbed.Config{
		Name:      labName,
		Bin:       filepath.Join(build, "bin"),
		Manifests: []string{filepath.Join(filepath.Dir(build), "conf/examples/demo")},
		Nodes:     []string{"node1", "node2"},
		Progress:  func(step string) { fmt.Printf("[%5.1fs] %s\n", time.Since(d.started).Seconds(), step) },
	})
	return d, nil
}

// show is the demonstration from the first step to the last word.
func (d *demo) show(ctx context.Context) error {
	if err := d.Up(ctx); err != nil {
		return err
	}
	if err := d.attachPods(ctx); err != nil {
		return err
	}
	d.Progress("wait until the client's node knows all five backends")
	if err := testbed.Until(ctx, 20*time.Second, d.membersComplete); err != nil {
		return err
	}
	if err := d.writePlaces(); err != nil {
		return err
	}
	d.Progress(fmt.Sprintf("make %d connections from the client to %s:%s", connections, vip, webPort))
	shares, err := d.load(ctx, vip+":"+webPort)
	if err != nil {
		return err
	}
	if err := d.holdConnection(ctx); err != nil {
		return err
	}
	if err := d.writePIDs(); err != nil {
		return err
	}
	d.Progress("done")
	return d.report(ctx, shares)
}

// attachPods runs the CNI plugin for every pod and starts the servers.
func (d *demo) attachPods(ctx context.Context) error {
	for _, p := range pods {
		d.Progress("attach " + p.name + " on " + p.node + " (CNI ADD)")
		pod, err := d.Attach(ctx, p.node, p.name)
		if err != nil {
			return err
		}
		if p.name != "client" {
			if err := d.launch("server-"+p.name, pod.Place, "serve", p.name, ":80", ":90"); err != nil {
				return err
			}
		}
	}
	return d.launch("server-outside", d.Outside, "serve", "outside", ":80")
}

func (d *demo) launch(name string, p *testbed.Place, args ...string) error {
	daemon, err := d.Launch(name, p, append([]string{d.self}, args...)...)
	if err == nil {
		d.daemons = append(d.daemons, daemon)
	}
	return err
}

// membersComplete says whether the client's node has all five backends.
func (d *demo) membersComplete() error {
	v, err := d.findVIP("node1")
	if err != nil {
		return err
	}
	if n := len(v.members(webListener)); n != 5 {
		return fmt.Errorf("%s:%s has %d of 5 backends on node1", vip, webPort, n)
	}
	if n := len(v.members(adminListener)); n != 2 {
		return fmt.Errorf("%s:%s has %d of 2 backends on node1", vip, adminPort, n)
	}
	return nil
}

// Listeners of the service, by protocol and port.
var (
	webListener   = table.Listener{Proto: 6, Port: 8888}
	adminListener = table.Listener{Proto: 6, Port: 9999}
)

// holdConnection keeps a connection open to a backend of the other node.
func (d *demo) holdConnection(ctx context.Context) error {
	d.Progress("keep one more connection open, to a backend on node2")
	if err := d.launch("connection", d.Pod("client").Place, "hold", vip+":"+webPort, "web3", "web4", "web5"); err != nil {
		return err
	}
	last := d.daemons[len(d.daemons)-1]
	return testbed.Until(ctx, 20*time.Second, func() error {
		text, err := os.ReadFile(last.Log)
		if err != nil {
			return err
		}
		fields := strings.Fields(string(text))
		if len(fields) < 2 {
			return errors.New("no connection yet")
		}
		d.held = heldConnection{client: fields[0], backend: fields[1]}
		return last.Running()
	})
}
