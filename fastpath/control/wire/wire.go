// Package wire carries messages over a Unix stream socket: four bytes of length
// (big endian), then that many bytes of JSON. A Conn belongs to one sender and one receiver at a time and keeps
// nothing between frames. It does not know what the messages mean: see
// fastpath/control and agent/rpc.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxFrame bounds the JSON of one frame, in bytes. A longer announced
	// length is refused before anything of that size is allocated.
	MaxFrame = 64 << 20

	headerLen = 4
)

// Conn is one end of a connection. Send may be called by several goroutines;
// Receive by one.
type Conn struct {
	// Set once by Dial or Accept.
	sock *net.UnixConn

	// Held while a frame is written, so that frames do not interleave.
	sending sync.Mutex
}

// Dial connects to the socket at path. The error wraps the cause:
// errors.Is(err, fs.ErrNotExist) when there is no socket, syscall.ECONNREFUSED
// when nobody listens.
func Dial(path string) (*Conn, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	sock, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, bare(err))
	}
	return &Conn{sock: sock}, nil
}

// Send writes v as one frame.
func (c *Conn) Send(v any) error {
	frame, err := encode(v)
	if err != nil {
		return err
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if _, err := c.sock.Write(frame); err != nil {
		return fmt.Errorf("send frame: %w", bare(err))
	}
	return nil
}

// Receive reads one frame into v. At a clean end of the stream the error is io.EOF
// itself; after any other error the connection is of no more use. Descriptors that
// come along are closed by the kernel.
func (c *Conn) Receive(v any) error {
	var header [headerLen]byte
	n, err := io.ReadFull(c.sock, header[:])
	switch {
	case err == nil:
		return c.receiveBody(binary.BigEndian.Uint32(header[:]), v)
	case errors.Is(err, io.EOF) && n == 0:
		return io.EOF
	case n > 0:
		return fmt.Errorf("receive frame: cut inside the length: %w", cut(err))
	}
	return fmt.Errorf("receive frame: %w", bare(err))
}

// Call sends request and waits for its reply: the whole of a client.
func (c *Conn) Call(request, reply any) error {
	if err := c.Send(request); err != nil {
		return err
	}
	err := c.Receive(reply)
	if errors.Is(err, io.EOF) {
		return errors.New("receive reply: the other side closed the connection")
	}
	return err
}

// Close closes the connection; a blocked Receive or Send returns.
func (c *Conn) Close() error { return c.sock.Close() }

// SetDeadline bounds pending and future calls; the zero time means no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.sock.SetDeadline(t) }

// Peer returns the process id of the other end at the time it connected (or
// listened), 0 if the kernel does not say (another pid namespace).
func (c *Conn) Peer() int {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

func (c *Conn) receiveBody(size uint32, v any) error {
	if size > MaxFrame {
		return fmt.Errorf("receive frame: length %d exceeds %d bytes: the other side does not speak this protocol", size, MaxFrame)
	}
	// The buffer grows as bytes arrive: an announced length alone costs nothing.
	var body bytes.Buffer
	n, err := io.CopyN(&body, c.sock, int64(size))
	if err != nil {
		return fmt.Errorf("receive frame: cut after %d of %d bytes: %w", n, size, cut(err))
	}
	return decode(body.Bytes(), v)
}

// encode makes the frame of v.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, headerLen))
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	size := b.Len() - headerLen
	if size > MaxFrame {
		return nil, fmt.Errorf("encode %T: %d bytes exceed the %d of a frame", v, size, MaxFrame)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(size))
	return b.Bytes(), nil
}

// decode reads exactly one JSON value. Unknown fields pass: either side may be
// one release ahead of the other.
func decode(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode %T from %d bytes: %w", v, len(body), err)
	}
	return nil
}

// cut names an end of stream inside a frame.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return bare(err)
}

// bare strips what repeats the socket's address and the call's name, down to
// the cause; a deadline keeps its type (os.ErrDeadlineExceeded).
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
