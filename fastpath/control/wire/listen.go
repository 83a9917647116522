package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener accepts connections at a path.
type Listener struct {
	// Set once by Listen.
	sock *net.UnixListener
	path string
	pin  *os.File // O_PATH on our socket file: while open, its inode number is nobody else's
}

// Listen makes the socket at path with exactly this mode (0600: root only). A
// socket file left behind by a dead process is replaced; one that somebody
// answers on is refused.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The kernel gives the file the mode the socket has at bind (unix_bind), so
	// there is no moment at which others could connect.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmodErr error
		if err := raw.Control(func(fd uintptr) { chmodErr = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); err != nil {
			return err
		}
		return chmodErr
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, bare(err))
	}
	sock := l.(*net.UnixListener)
	sock.SetUnlinkOnClose(false) // Close looks first whose file it is
	pin, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &Listener{sock: sock, path: path, pin: pin}, nil
}

// Accept waits for the next connection; after Close the error is net.ErrClosed.
func (l *Listener) Accept() (*Conn, error) {
	sock, err := l.sock.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept on %s: %w", l.path, bare(err))
	}
	return &Conn{sock: sock}, nil
}

// Close stops listening and removes the socket file, unless a successor has put
// its own there.
func (l *Listener) Close() error {
	defer l.pin.Close()
	self, selfErr := l.pin.Stat()
	if now, err := os.Lstat(l.path); err == nil && selfErr == nil && os.SameFile(now, self) {
		_ = os.Remove(l.path)
	}
	return l.sock.Close()
}

// removeStale deletes a socket nobody listens on.
func removeStale(path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return errors.New("the file exists and is not a socket; remove it or choose another runDir")
	}
	c, err := Dial(path)
	if err == nil {
		defer c.Close()
		return fmt.Errorf("process %d already listens there: %w", c.Peer(), syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// checkPath turns the kernel's "invalid argument" into a sentence.
func checkPath(path string) error {
	const limit = len(syscall.RawSockaddrUnix{}.Path) - 1
	if len(path) > limit || path == "" {
		return fmt.Errorf("socket path %q: must have 1 to %d bytes, has %d", path, limit, len(path))
	}
	return nil
}
