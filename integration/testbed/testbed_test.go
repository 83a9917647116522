package testbed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// newLab names a lab that this test removes.
func newLab(t *testing.T) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l := New(Config{Name: fmt.Sprintf("bed%d", os.Getpid()), Nodes: []string{"node1", "node2"}, MTU: 1600})
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestUnderlayJoinsEveryPlace(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	if err := l.buildNetwork(ctx); err != nil {
		t.Fatal(err)
	}
	n := l.Nodes["node1"]
	for _, to := range []string{"172.31.0.12", "172.31.0.1", OutsideAddress, OutsideSix} {
		// DF and the underlay's whole MTU: nothing on the way is smaller.
		size := l.MTU - 28
		if strings.Contains(to, ":") {
			size = l.MTU - 48
		}
		if _, err := n.Run(ctx, "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", fmt.Sprint(size), to); err != nil {
			t.Error(err)
		}
	}
	if out, err := l.Outside.Run(ctx, "ip", "-o", "addr"); err != nil || !strings.Contains(out, OutsideAddress) {
		t.Errorf("the outside host: %v\n%s", err, out)
	}
}

func TestDownEndsDaemonsAndRemovesNamespaces(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	if err := l.buildNetwork(ctx); err != nil {
		t.Fatal(err)
	}
	stubborn, err := l.Launch("stubborn", l.Outside, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := stubborn.Running(); err != nil {
		t.Fatal(err)
	}
	// A lab of the same name that knows nothing of this one.
	if err := New(Config{Name: l.Name}).Down(ctx); err != nil {
		t.Fatal(err)
	}
	if err := Until(ctx, time.Second, func() error {
		if stubborn.Running() == nil {
			return fmt.Errorf("%s still runs", stubborn.Name)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{l.Outside.Netns, l.RunDir, l.StateDir} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

func TestRestartedDaemonKeepsItsLog(t *testing.T) {
	l := newLab(t)
	if err := l.buildNetwork(context.Background()); err != nil {
		t.Fatal(err)
	}
	d, err := l.Launch("counter", l.Outside, "sh", "-c", "echo here; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	waitLog(t, d, "here\n")
	first := d.PID()
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if d.PID() == first {
		t.Error("the pid did not change")
	}
	waitLog(t, d, "here\nhere\n")
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
}

func waitLog(t *testing.T, d *Daemon, want string) {
	t.Helper()
	err := Until(context.Background(), 5*time.Second, func() error {
		text, err := os.ReadFile(d.Log)
		if err == nil && string(text) != want {
			err = fmt.Errorf("log: %q, want %q", text, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
