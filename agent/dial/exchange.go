package dial

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

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
			a.err = x.conn.Receive(&a.reply)
			select {
			case x.answers <- a:
			case <-x.closed:
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
func (x *exchange) ask(q *control.Request, limit time.Duration) (*control.Reply, error) {
	if err := x.conn.Send(q); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case a := <-x.answers:
		if a.err != nil {
			return nil, a.died()
		}
		if a.reply.Error != "" {
			return nil, errors.New(a.reply.Error)
		}
		return &a.reply, nil
	case <-timeout.C:
		return nil, fmt.Errorf("it has not answered within %v", limit)
	}
}
