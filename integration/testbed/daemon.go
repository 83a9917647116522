package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Daemon is a process of the lab: a controller, an agent, a server in a pod. It
// outlives the process that started it.
type Daemon struct {
	// Set once by Launch.
	Name  string
	Log   string // file its output goes to
	place *Place
	argv  []string

	// Replaced by every start.
	cmd  *exec.Cmd
	gone chan struct{} // closed when it ended
}

// Launch starts a daemon in a place; its output goes to a log file of its name.
func (l *Lab) Launch(name string, p *Place, argv ...string) (*Daemon, error) {
	if err := os.MkdirAll(l.LogDir(), 0o755); err != nil {
		return nil, err
	}
	d := &Daemon{Name: name, Log: filepath.Join(l.LogDir(), name+".log"), place: p, argv: argv}
	return d, d.Start()
}

// Start starts the daemon again after it has ended.
func (d *Daemon) Start() error {
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = d.place.Command(context.Background(), d.argv...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for us, not for them
	if err := d.place.Start(d.cmd); err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	d.gone = make(chan struct{})
	// Reaps the child; ends with it.
	go func(c *exec.Cmd, gone chan struct{}) {
		_ = c.Wait()
		close(gone)
	}(d.cmd, d.gone)
	return nil
}

// PID is that of the last start.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Signal sends a signal: SIGSTOP, SIGCONT.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// Kill ends the daemon without warning (SIGKILL) and waits until it is gone.
func (d *Daemon) Kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", d.Name, err)
	}
	<-d.gone
	return nil
}

// Stop asks the daemon to end (SIGTERM) and waits.
func (d *Daemon) Stop() error {
	if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", d.Name, err)
	}
	select {
	case <-d.gone:
		return nil
	case <-time.After(10 * time.Second):
		return errors.Join(fmt.Errorf("stop %s: still there 10 s after SIGTERM", d.Name), d.Kill())
	}
}

// Running says why the daemon is not running, or nil.
func (d *Daemon) Running() error {
	select {
	case <-d.gone:
		text, _ := os.ReadFile(d.Log)
		return fmt.Errorf("%s has ended (%v); its log ends:\n%s", d.Name, d.cmd.ProcessState, lastLines(string(text), 15))
	default:
		return nil
	}
}

// stopAllIn ends every process that lives in one of the namespaces: it can only
// have been started for the lab. SIGTERM first, SIGKILL for those that stay.
func stopAllIn(ctx context.Context, spaces []string) error {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		pids, err := livingIn(spaces)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, s)
			_ = syscall.Kill(pid, syscall.SIGCONT) // a stopped process cannot end
		}
		err = Until(context.WithoutCancel(ctx), 3*time.Second, func() error {
			if pids, err = livingIn(spaces); err != nil || len(pids) == 0 {
				return err
			}
			return fmt.Errorf("processes %v are still there", pids)
		})
		if err != nil && s == syscall.SIGKILL {
			return err
		}
	}
	return nil
}

// StopAll ends every process that lives in the places.
func StopAll(ctx context.Context, places ...*Place) error {
	var spaces []string
	for _, p := range places {
		spaces = append(spaces, p.Netns)
	}
	return stopAllIn(ctx, spaces)
}

// livingIn lists the processes of the namespaces, our own excepted.
func livingIn(spaces []string) ([]int, error) {
	var inodes []uint64
	for _, s := range spaces {
		if i, err := inode(s); err == nil {
			inodes = append(inodes, i)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || isZombie(pid) {
			continue
		}
		if i, err := inode(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && slices.Contains(inodes, i) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := strings.Cut(string(stat), ") ") // the name may hold anything
	return err != nil || !ok || strings.HasPrefix(after, "Z")
}

// unmountBelow takes away the file systems (bpffs) mounted below dir, deepest
// first.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			points = append(points, fields[1])
		}
	}
	slices.Sort(points)
	slices.Reverse(points)
	var errs []error
	for _, p := range points {
		if err := syscall.Unmount(p, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}
