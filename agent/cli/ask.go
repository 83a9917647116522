package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// patience bounds the wait for one reply. A healthy process answers in
// milliseconds; one that is stopped never does.
const patience = 5 * time.Second

// unreachable is the error for a process that does not answer.
type unreachable struct {
	who, socket string
	cause       error
	fix         string
}

func (e *unreachable) Error() string {
	if strings.Contains(e.cause.Error(), e.socket) {
		return fmt.Sprintf("the %s does not answer: %v (%s)", e.who, e.cause, e.fix)
	}
	return fmt.Sprintf("the %s does not answer on %s: %v (%s)", e.who, e.socket, e.cause, e.fix)
}

// ExitCode makes urfave/cli exit with 4.
func (e *unreachable) ExitCode() int { return ExitUnreachable }

func (e *unreachable) Unwrap() error { return e.cause }

// askFastPath puts one question to the fast path and returns its one reply.
func (q *question) askFastPath(req control.Request) (*control.Reply, error) {
	var last *control.Reply
	err := q.streamFastPath(req, func(r *control.Reply) (more bool) { last = r; return false })
	return last, err
}

// streamFastPath puts one question to the fast path and hands every reply to
// visit until it has had enough.
func (q *question) streamFastPath(req control.Request, visit func(*control.Reply) (more bool)) error {
	socket := q.fastpathSocket()
	silent := func(err error) error { return silence("fast path", "vragent fastpath", socket, err) }
	c, err := wire.Dial(socket)
	if err != nil {
		return silent(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Send(req); err != nil {
		return silent(err)
	}
	for {
		var r control.Reply
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := c.Receive(&r); err != nil {
			return silent(err)
		}
		if r.Error != "" {
			return errors.New(r.Error)
		}
		if !visit(&r) {
			return nil
		}
	}
}

// askAgent puts one question to the agent.
func (q *question) askAgent(req rpc.Request) (*rpc.Reply, error) {
	socket := q.agentSocket()
	silent := func(err error) error { return silence("agent", "vragent run", socket, err) }
	c, err := wire.Dial(socket)
	if err != nil {
		return nil, silent(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var r rpc.Reply
	if err := c.Call(req, &r); err != nil {
		return nil, silent(err)
	}
	if r.Error != nil {
		return nil, r.Error
	}
	return &r, nil
}

// silence says why a process does not answer and what to do about it.
func silence(who, program, socket string, cause error) error {
	e := &unreachable{who: who, socket: socket, cause: cause}
	switch {
	case errors.Is(cause, fs.ErrPermission):
		e.fix = "run as root"
	case errors.Is(cause, fs.ErrNotExist), errors.Is(cause, syscall.ECONNREFUSED):
		e.fix = "is " + program + " running on this node? If its runDir is not the default, say --run-dir DIR"
	case errors.Is(cause, os.ErrDeadlineExceeded):
		e.fix = "the process is there and stopped or stuck: look at it with ps and its log"
	default:
		e.fix = "look at the log of " + program
	}
	return e
}

// tables reads and indexes the tables of the fast path.
func (q *question) tables() (*show.Tables, error) {
	r, err := q.askFastPath(control.Request{Tables: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	if r.Tables == nil {
		return nil, errors.New("the fast path answered without tables")
	}
	return show.NewTables(r.Tables), nil
}
