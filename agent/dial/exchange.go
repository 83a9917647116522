package dial

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// exchange is a connection to the fast path with somebody always listening, so
// that its death is noticed at once. One goroutine asks.
type exchange struct {
	// Set once by newExchange.
	conn    *wire.Conn
	answers chan answer
	closed  chan struct{}
	reader  sync.WaitGroup
}

type answer struct {
	reply control.Reply
	fds   []int
	err   error
}

func newExchange(c *wire.Conn) *exchange {
	x := &exchange{conn: c, answers: make(chan answer), closed: make(chan struct{})}
	x.Run()
	return x
}

// Run listens in the background until close, which waits for it.
func (x *exchange) Run() {
	x.reader.Add(1)
	go func() {
		defer x.reader.Done()
		for {
			var a answer
			a.fds, a.err = x.conn.Receive(&a.reply)
			select {
			case x.answers <- a:
			case <-x.closed:
				closeAll(a.fds)
				return
			}
			if a.err != nil {
				return
			}
		}
	}()
}

func (x *exchange) close() {
	close(x.closed)
	_ = x.conn.Close()
	x.reader.Wait()
}

var errLeft = errors.New("it closed the connection")

// died is the error of an answer that nobody asked for.
func (a *answer) died() error {
	closeAll(a.fds)
	switch {
	case errors.Is(a.err, io.EOF):
		return errLeft
	case a.err != nil:
		return a.err
	}
	return errors.New("it answered what was not asked")
}

// ask makes one exchange. After an error the connection is of no more use,
// unless the error is a refusal.
func (x *exchange) ask(q *control.Request, limit time.Duration, fds ...int) (*control.Reply, []int, error) {
	if err := x.conn.Send(q, fds...); err != nil {
		return nil, nil, err
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case a := <-x.answers:
		if a.err != nil {
			return nil, nil, a.died()
		}
		if a.reply.Error != "" {
			closeAll(a.fds)
			return nil, nil, errors.New(a.reply.Error)
		}
		return &a.reply, a.fds, nil
	case <-timeout.C:
		return nil, nil, fmt.Errorf("it has not answered within %v", limit)
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
