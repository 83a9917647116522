package steer

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// From pkt_sched.h, gen_stats.h and rtnetlink.h.
const (
	tcmsgLen = 20         // bytes of struct tcmsg: family and padding, ifindex, handle, parent, info
	tcRoot   = 0xffffffff // TC_H_ROOT, as parent
	tcaStats = 7          // TCA_STATS2, nested
	statsQ   = 3          // TCA_STATS_QUEUE: qlen, backlog, drops, ...
)

// queueDrops asks the kernel how many packets the root queueing discipline of a
// device has dropped. From Linux 6.16 on a veth whose ring is full stops its queue,
// so it is there that frames are lost.
func queueDrops(ifindex int) (uint64, error) {
	replies, err := qdiscs()
	if err != nil {
		return 0, fmt.Errorf("list queueing disciplines: %w", err)
	}
	for _, m := range replies {
		b := m.Data
		if m.Header.Type != unix.RTM_NEWQDISC || len(b) < tcmsgLen {
			continue
		}
		if int(u32(b[4:])) != ifindex || u32(b[12:]) != tcRoot {
			continue
		}
		if q := attribute(attribute(b[tcmsgLen:], tcaStats), statsQ); len(q) >= 12 {
			return uint64(u32(q[8:])), nil
		}
	}
	return 0, nil // it has none: drops are the device's
}

// qdiscs lists the queueing disciplines of all devices. (syscall.NetlinkRIB asks
// with too short a message for this.)
func qdiscs() ([]syscall.NetlinkMessage, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	ask := make([]byte, unix.SizeofNlMsghdr+tcmsgLen)
	binary.NativeEndian.PutUint32(ask[0:], uint32(len(ask)))
	binary.NativeEndian.PutUint16(ask[4:], unix.RTM_GETQDISC)
	binary.NativeEndian.PutUint16(ask[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var all []syscall.NetlinkMessage
	for {
		b := make([]byte, 1<<16) // the messages go on pointing into it
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				if len(m.Data) < 4 {
					return nil, unix.EBADMSG
				}
				return nil, unix.Errno(-int32(u32(m.Data)))
			}
			all = append(all, m)
		}
	}
}

// attribute finds the netlink attribute kind in b; nil when it is not there.
func attribute(b []byte, kind uint16) []byte {
	const header = 4 // bytes: length with header, type
	for len(b) >= header {
		n := int(binary.NativeEndian.Uint16(b))
		if n < header || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == kind {
			return b[header:n]
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
