package verbs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// answerTime bounds the agent's answer to anything it need not wait for.
const answerTime = 10 * time.Second

// agent is the connection to vragent, made when it is first needed.
type agent struct {
	// Set once by newAgent.
	path string
	// Nil while there is no connection.
	conn *wire.Conn
}

func newAgent(runDir string) *agent {
	return &agent{path: filepath.Join(runDir, rpc.SocketName)}
}

// unreachable says that nobody answered; what the agent did is not known.
type unreachable struct {
	path  string
	cause error
}

func (e *unreachable) Error() string {
	switch {
	case errors.Is(e.cause, fs.ErrNotExist):
		return fmt.Sprintf("vragent is not running on this node (socket %s: there is none)", e.path)
	case errors.Is(e.cause, syscall.ECONNREFUSED):
		return fmt.Sprintf("vragent is not running on this node (socket %s: nobody listens)", e.path)
	}
	return fmt.Sprintf("vragent does not answer on %s: %v", e.path, e.cause)
}

func (e *unreachable) Unwrap() error { return e.cause }

// call asks and waits. Errors are *unreachable, or the agent's own *rpc.Error.
func (a *agent) call(request *rpc.Request, within time.Duration) (*rpc.Reply, error) {
	if a.conn == nil {
		conn, err := wire.Dial(a.path)
		if err != nil {
			return nil, &unreachable{a.path, err}
		}
		a.conn = conn
	}
	var reply rpc.Reply
	err := a.conn.SetDeadline(time.Now().Add(within))
	if err == nil {
		err = a.conn.Call(request, &reply)
	}
	if err != nil {
		a.close() // a late answer must not be taken for the next one's
		return nil, &unreachable{a.path, err}
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return &reply, nil
}

func (a *agent) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}
