package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type message struct {
	Text string `json:"text"`
	N    int    `json:"n"`
}

// pair returns both ends of a connection through a real socket file.
func pair(t testing.TB) (client, server *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.sock")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if client, err = Dial(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	deadline := time.Now().Add(20 * time.Second)
	_ = client.SetDeadline(deadline)
	_ = server.SetDeadline(deadline)
	return client, server
}

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	client, server := pair(t)
	sent := []message{{"one", 1}, {"", 0}, {strings.Repeat("x", 3<<20), 3}, {"<&>", 4}}
	var sender sync.WaitGroup
	sender.Go(func() {
		for _, m := range sent {
			if err := client.Send(m); err != nil {
				t.Error(err)
			}
		}
		_ = client.Close()
	})
	defer sender.Wait()
	for i, want := range sent {
		var got message
		err := server.Receive(&got)
		if err != nil || got != want {
			t.Fatalf("frame %d: got n=%d len=%d err=%v", i, got.N, len(got.Text), err)
		}
	}
	if err := server.Receive(&message{}); err != io.EOF {
		t.Fatalf("after the last frame: %v, want io.EOF itself", err)
	}
}

func TestBrokenFramesAreNamed(t *testing.T) {
	frame := func(size uint32, body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), body...)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"end inside the length": {[]byte{0, 0}, "cut inside the length: unexpected EOF"},
		"end inside the body":   {frame(10, `{"n":`), "cut after 5 of 10 bytes: unexpected EOF"},
		"another protocol":      {[]byte("GET / HTTP/1.1\r\n"), "does not speak this protocol"},
		"one byte too long":     {frame(MaxFrame+1, ""), "exceeds 67108864 bytes"},
		"not JSON":              {frame(3, "abc"), "decode *wire.message from 3 bytes: invalid character 'a'"},
		"empty":                 {frame(0, ""), "unexpected end of JSON input"},
		"two values":            {frame(4, "{}{}"), "after top-level value"},
		"wrong type":            {frame(9, `{"n":"x"}`), "cannot unmarshal string"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			if _, err := client.sock.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
			if err := server.Receive(&message{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// A descriptor that somebody sends along must not stay open.
func TestDescriptorsAreClosed(t *testing.T) {
	client, server := pair(t)
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(p[0])
	if _, _, err := client.sock.WriteMsgUnix([]byte{0, 0, 0, 2, '{', '}'}, syscall.UnixRights(p[1]), nil); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Close(p[1])
	if err := server.Receive(&message{}); err != nil {
		t.Fatal(err)
	}
	// The read end sees the end of the pipe only when no writer is left.
	if n, err := syscall.Read(p[0], make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("pipe still has a writer: %d, %v", n, err)
	}
}

func TestCallReportsAVanishedPeer(t *testing.T) {
	client, server := pair(t)
	_ = server.Close()
	err := client.Call(message{}, &message{})
	if err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("got %v: an end of stream is no reply", err)
	}
}

func TestDeadlineKeepsItsType(t *testing.T) {
	client, _ := pair(t)
	_ = client.SetDeadline(time.Now().Add(-time.Second))
	if err := client.Receive(&message{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestPeerIsTheOtherProcess(t *testing.T) {
	client, server := pair(t)
	if client.Peer() != os.Getpid() || server.Peer() != os.Getpid() {
		t.Fatalf("peers %d and %d, want %d", client.Peer(), server.Peer(), os.Getpid())
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	first, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", st.Mode())
	}
	if _, err := Listen(path, 0o600); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	// A killed process leaves its file; its successor takes the name over, and
	// the first one's late Close does not take it away again.
	_ = first.sock.Close()
	second, err := Listen(path, 0o600)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	_ = first.Close()
	if _, err := Dial(path); err != nil {
		t.Errorf("successor's socket: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket file is left: %v", err)
	}
	if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(plain, 0o600); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("plain file: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", 200)), 0o600); err == nil || !strings.Contains(err.Error(), "must have 1 to 107 bytes") {
		t.Errorf("long path: %v", err)
	}
}

func TestDialCauses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if _, err := Dial(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.sock.Close() // leaves the file
	if _, err := Dial(path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dead socket: %v", err)
	}
}

// FuzzReceive feeds arbitrary bytes: an error or a value, never a panic, and a
// value always survives a round trip.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x0e{\"text\":\"a\",}x"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 100<<10 {
			t.Skip("larger than the socket's buffer")
		}
		client, server := pair(t)
		if _, err := client.sock.Write(stream); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		for {
			var m message
			err := server.Receive(&m)
			if err != nil {
				return
			}
			frame, err := encode(m)
			var again message
			if err != nil || decode(frame[headerLen:], &again) != nil || again != m || bytes.Equal(frame[:headerLen], []byte{0, 0, 0, 0}) {
				t.Fatalf("%+v does not survive: %v", m, err)
			}
		}
	})
}
