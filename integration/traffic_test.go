package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// Ports every place serves. A TCP connection is greeted with the server's name
// and the address it sees, then echoed; a datagram "who?" is answered likewise,
// others are echoed.
var tcpPorts = []string{"80", "90", "7007"}

const echoPort = "7007"

// patience bounds one exchange.
const patience = 5 * time.Second

// serve starts the servers of a place. They end with the test process.
func serve(p *testbed.Place) error {
	for _, port := range tcpPorts {
		l, err := p.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go greet(p.Name, c)
			}
		}()
	}
	c, err := p.ListenPacket("udp", ":"+echoPort)
	if err != nil {
		return err
	}
	go answer(p.Name, c)
	return nil
}

func greet(name string, c net.Conn) {
	defer c.Close()
	if _, err := fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr()); err == nil {
		_, _ = io.Copy(c, c)
	}
}

func answer(name string, c net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		reply := buf[:n]
		if string(reply) == "who?" {
			reply = fmt.Appendf(nil, "%s %s", name, from)
		}
		_, _ = c.WriteTo(reply, from)
	}
}

// talk is a TCP connection that has been greeted.
type talk struct {
	net.Conn
	r      *bufio.Reader
	server string         // who greeted
	seen   netip.AddrPort // our address as the server sees it
}

// connect opens a TCP connection from a place; sport 0 is any.
func connect(from *testbed.Place, addr string, sport int) (*talk, error) {
	d := &net.Dialer{Timeout: patience}
	if sport != 0 {
		d.LocalAddr = &net.TCPAddr{Port: sport}
	}
	c, err := from.Dial(d, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	k := &talk{Conn: c, r: bufio.NewReader(c)}
	line, err := k.r.ReadString('\n')
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s is connected to %s and gets no greeting: %w", from.Name, addr, err)
	}
	fields := strings.Fields(line)
	if len(fields) != 2 {
		_ = c.Close()
		return nil, fmt.Errorf("greeting %q", line)
	}
	seen, err := netip.ParseAddrPort(fields[1])
	k.server, k.seen = fields[0], netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port())
	return k, err
}

// echo sends n random bytes and wants them back.
func (k *talk) echo(n int) error {
	sent := randomBytes(n)
	_ = k.SetDeadline(time.Now().Add(4 * patience))
	failed := make(chan error, 1)
	go func() { _, err := k.Write(sent); failed <- err }()
	got := make([]byte, n)
	if _, err := io.ReadFull(k.r, got); err != nil {
		return errors.Join(err, <-failed)
	}
	if !bytes.Equal(sent, got) {
		return fmt.Errorf("%d bytes came back changed", n)
	}
	return <-failed
}

// ask sends one datagram and waits for the answer; sport 0 is any.
func ask(from *testbed.Place, addr string, payload []byte) ([]byte, error) {
	c, err := from.Dial(&net.Dialer{}, "udp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(payload); err != nil {
		return nil, err
	}
	buf := make([]byte, 65536)
	n, err := c.Read(buf)
	return buf[:n], err
}

// who asks a UDP service for the name of the server.
func who(from *testbed.Place, addr string) (string, error) {
	reply, err := ask(from, addr, []byte("who?"))
	name, _, _ := strings.Cut(string(reply), " ")
	return name, err
}

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// transfer is a TCP connection on which bytes go round until it is finished.
type transfer struct {
	*talk
	moved atomic.Int64
	stop  atomic.Bool
	done  chan error
}

// startTransfer opens a connection that sends and checks a block again and
// again. It lasts until finish; a stall of a minute is an error.
func startTransfer(t *testing.T, from *testbed.Place, addr string) *transfer {
	t.Helper()
	k, err := connect(from, addr, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &transfer{talk: k, done: make(chan error, 1)}
	go func() { x.done <- x.run() }()
	t.Cleanup(func() { x.stop.Store(true); _ = x.Close() })
	return x
}

func (x *transfer) run() error {
	block := randomBytes(8192)
	back := make([]byte, len(block))
	for !x.stop.Load() {
		_ = x.SetDeadline(time.Now().Add(time.Minute))
		if _, err := x.Write(block); err != nil {
			return err
		}
		if _, err := io.ReadFull(x.r, back); err != nil {
			return err
		}
		if !bytes.Equal(block, back) {
			return errors.New("a block came back changed")
		}
		x.moved.Add(int64(len(block)))
	}
	return nil
}

// moves waits until more bytes have gone round.
func (x *transfer) moves(t *testing.T, within time.Duration) {
	t.Helper()
	before := x.moved.Load()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		if x.moved.Load() > before+64<<10 {
			return
		}
		select {
		case err := <-x.done:
			t.Fatalf("the transfer ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("the transfer did not move within %v", within)
}

// stands wants that no byte moves for a while, after what is in flight arrived.
func (x *transfer) stands(t *testing.T) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // let what is in flight arrive
	before := x.moved.Load()
	time.Sleep(700 * time.Millisecond) // the time without packets is what we look at
	if after := x.moved.Load(); after != before {
		t.Fatalf("%d bytes moved while nothing should", after-before)
	}
}

// finish ends the transfer in good order.
func (x *transfer) finish(t *testing.T) {
	t.Helper()
	x.stop.Store(true)
	if err := <-x.done; err != nil {
		t.Fatalf("the transfer after %d bytes: %v", x.moved.Load(), err)
	}
	_ = x.Close()
}
