package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/link/fabric"
	"github.com/vragent/vragent/fastpath/link/steer"
)

// stopTime bounds how long a fast path may take to end.
const stopTime = 5 * time.Second

// Uninstall takes away what an agent made: its fast path, the pinned programs,
// the punt link, the host's interface with its routes, and the firewall chains.
// Pods' interfaces and the ledger stay, for they belong to the pods; the
// interfaces are set down, and keep their marks: addresses that processes still
// have must not be given to others, whoever is installed next.
func Uninstall(a *conf.Agent, log *slog.Logger) error {
	if c, err := wire.Dial(filepath.Join(a.RunDir, rpc.SocketName)); err == nil {
		defer c.Close()
		return fmt.Errorf("uninstall: the agent runs (process %d): end it first", c.Peer())
	}
	if err := stopFastPath(a.RunDir); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	pods, err := kernel.MutePods()
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	err = errors.Join(
		kernel.NewHaste(a.RunDir).Close(),
		fabric.Remove(filepath.Join(a.RunDir, "bpf")),
		steer.Remove(filepath.Join(a.RunDir, "bpf")),
		store.Remove(filepath.Join(a.RunDir, "flows")),
		kernel.RemovePunt(),
		kernel.RemoveHost(a.Host.Interface),
		kernel.RemoveRules(),
		kernel.RestoreForwarding(a.RunDir),
		removeRunDir(a.RunDir),
	)
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	log.Info("uninstalled; the ledger stays", "ledger", a.StateDir, "pods without network", pods)
	return nil
}

// removeRunDir removes our files from the run directory, and itself if nothing of
// somebody else's is in it. Notes of the plugin that nobody has read stay.
func removeRunDir(dir string) error {
	for _, name := range []string{"fastpath.lock", "detach", ""} {
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EBUSY) {
			return err
		}
	}
	return nil
}

// stopFastPath ends the fast path and waits until its socket is dead.
func stopFastPath(runDir string) error {
	path := filepath.Join(runDir, control.SocketName)
	c, err := wire.Dial(path)
	if err != nil {
		return nil // none runs
	}
	pid := c.Peer()
	_ = c.Close()
	if pid == 0 {
		return errors.New("the fast path runs in another place of process numbers: end it there")
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the fast path, process %d: %w", pid, err)
	}
	for deadline := time.Now().Add(stopTime); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := wire.Dial(path); err != nil {
			return nil
		} else {
			_ = c.Close()
		}
	}
	return fmt.Errorf("the fast path, process %d, has not ended within %v", pid, stopTime)
}
