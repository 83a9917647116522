package serve

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// echo answers with the container's name, or refuses.
type echo struct {
	mu       sync.Mutex
	refuse   *rpc.Error
	detached []string
}

func (e *echo) Answer(_ context.Context, q *rpc.Request) *rpc.Reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuse != nil {
		return &rpc.Reply{Error: e.refuse}
	}
	if q.Detach != nil {
		e.detached = append(e.detached, q.Detach.ContainerID+"/"+q.Detach.Ifname)
		return &rpc.Reply{}
	}
	return &rpc.Reply{Removed: []string{q.Attach.ContainerID}}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestServe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	s, err := Listen(dir, discard())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, rpc.SocketName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
	if _, err := Listen(dir, discard()); err == nil {
		t.Error("a second agent may listen")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, &echo{}) }()

	var clients sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		clients.Go(func() {
			c, err := wire.Dial(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for range 20 {
				var r rpc.Reply
				if err := c.Call(rpc.Request{Attach: &rpc.Attach{Attachment: rpc.Attachment{ContainerID: name}}}, &r); err != nil || r.Removed[0] != name {
					t.Errorf("%v %v", r, err)
				}
			}
		})
	}
	clients.Wait()
	idle, err := wire.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	garbage, err := wire.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	_ = garbage.Send("not a request")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end with a client connected")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket is left behind")
	}
}

func note(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, "detach", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpool(t *testing.T) {
	dir := t.TempDir()
	s := NewSpool(dir, discard())
	node := &echo{}
	s.Deliver(context.Background(), node) // no folder yet
	text, _ := json.Marshal(rpc.Detach{Attachment: rpc.Attachment{ContainerID: "c1", Ifname: "eth0"}})
	good := note(t, dir, "c1-eth0.json", string(text))
	bad := note(t, dir, "c2-eth0.json", `{"containerID":"c2"`)
	empty := note(t, dir, "c3-eth0.json", `{}`)
	draft := note(t, dir, ".detach-1.tmp", "half")

	node.refuse = &rpc.Error{Code: rpc.CodeTryAgain, Message: "not now"}
	s.Deliver(context.Background(), node)
	if _, err := os.Stat(good); err != nil {
		t.Error("a note that could not be carried out is gone")
	}
	node.refuse = nil
	s.Deliver(context.Background(), node)
	s.Deliver(context.Background(), node)
	if len(node.detached) != 1 || node.detached[0] != "c1/eth0" {
		t.Errorf("detached %v", node.detached)
	}
	for path, want := range map[string]bool{good: false, bad: false, bad + ".bad": true, empty + ".bad": true, draft: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSpoolRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := NewSpool(t.TempDir(), discard()).Run(ctx, &echo{}); err != nil {
		t.Error(err)
	}
}
