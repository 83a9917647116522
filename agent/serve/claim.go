package serve

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// claimName is an abstract socket: each network namespace has its own, and it
// ends with the process. Nothing is said on it.
const claimName = "@vragent/agent"

// Claim makes this process the only agent of the node, whatever run directory
// another one would use: the punt link and the host's interface are there once.
func Claim() (io.Closer, error) {
	l, err := net.Listen("unix", claimName)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("process %d is the agent of this node already: end it first", claimant())
	}
	if err != nil {
		return nil, fmt.Errorf("claim the node: %w", err)
	}
	return l, nil
}

// claimant is the process that holds the claim, 0 if it is not to be known.
func claimant() int {
	c, err := net.Dial("unix", claimName)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
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
