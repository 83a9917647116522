package apitest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// program is one process of a Server.
type program struct {
	cmd    *exec.Cmd
	log    string // path
	killed bool
}

// start runs a program until the test ends, or its process does.
func start(t testing.TB, dir, path string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(path, args...), log: filepath.Join(dir, filepath.Base(path)+".log")}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that dies takes it along
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends the process, once.
func (p *program) kill() {
	if !p.killed {
		p.killed = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // says that it was killed
	}
}

// up waits until the process serves; an error says that it died or is too slow.
func (p *program) up(serves func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		err := serves(ctx)
		if err == nil {
			return nil
		}
		if p.dead() {
			return errors.New("ended before it served")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startLimit, err)
		case <-time.After(lookAgain):
		}
	}
}

func (p *program) await(t testing.TB, serves func(context.Context) error) {
	t.Helper()
	if err := p.up(serves); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(p.cmd.Path), err, p.tail())
	}
}

// dead looks without reaping: Wait does that.
func (p *program) dead() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return true
	}
	for i := len(stat) - 1; i > 1; i-- {
		if stat[i] == ')' { // the state follows the name: "… (etcd) Z …"
			return i+2 < len(stat) && (stat[i+2] == 'Z' || stat[i+2] == 'X')
		}
	}
	return false
}

// tail is the end of the log.
func (p *program) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
