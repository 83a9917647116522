package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A frame to flood with is one that the kernel itself sent: it knows the device,
// the addresses of both layers and the neighbour, whatever the subject is.

const (
	ethernet = 14
	udp      = 8
	tcp      = 20
	ipv4     = 20
	ipv6     = 40
	spread   = 2 // bytes that undo the source port's share of the checksum
	floodTTL = 64
)

// template is the frame of which the generator sends copies that differ in the
// source port. Its source port is 0 and the 16 bits at spread are 0xffff: any
// port P there, with ^P at spread, leaves the checksum right.
type template struct {
	device *net.Interface
	frame  []byte
	port   int // offset of the source port
	spread int
}

// learn sends datagrams to an address until one is seen on its way out of the
// device. It ends with the frame of a datagram of n bytes of payload.
func learn(to netip.AddrPort, n int) (*net.Interface, []byte, error) {
	fd, err := dial(unix.SOCK_DGRAM, to, patience)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	dev, err := deviceOf(fd)
	if err != nil {
		return nil, nil, err
	}
	tap, err := listenRaw(dev, 50*time.Millisecond)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(tap)
	mark := bytes.Repeat([]byte{0xb5}, n)
	buf := make([]byte, 64<<10)
	for until := time.Now().Add(patience); time.Now().Before(until); {
		// Refused means that the frame got there.
		if err := writeFull(fd, mark); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, nil, err
		}
		n, from, err := unix.Recvfrom(tap, buf, 0)
		if err != nil {
			continue // none yet: the neighbour is being asked for its address
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING && bytes.HasSuffix(buf[:n], mark) {
			return dev, buf[:n], nil
		}
	}
	return nil, nil, fmt.Errorf("no datagram to %s left by %s", to, dev.Name)
}

// deviceOf finds the device that has the socket's own address.
func deviceOf(fd int) (*net.Interface, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	var own netip.Addr
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		own = netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		own = netip.AddrFrom16(sa.Addr)
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for i := range all {
		addrs, _ := all[i].Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == own {
				return &all[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no device has address %s", own)
}

// listenRaw opens a packet socket on a device; reads give up after wait.
func listenRaw(dev *net.Interface, wait time.Duration) (int, error) {
	all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(wait))
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: dev.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("packet socket on %s: %w", dev.Name, err)
	}
	return fd, nil
}

// udpTemplate makes a frame of size bytes, or the smallest there is. The
// Ethernet checksum is not counted.
func udpTemplate(to netip.AddrPort, size int) (template, error) {
	ip := ipv6
	if to.Addr().Unmap().Is4() {
		ip = ipv4
	}
	payload := max(size-ethernet-ip-udp, spread)
	dev, frame, err := learn(to, payload)
	if err != nil {
		return template{}, err
	}
	t := template{device: dev, frame: frame, port: ethernet + ip, spread: ethernet + ip + udp}
	t.finish(6)
	return t, nil
}

// synTemplate turns the frame of a datagram into one that opens a connection.
func synTemplate(to netip.AddrPort, _ int) (template, error) {
	t, err := udpTemplate(to, 0)
	if err != nil {
		return template{}, err
	}
	l4 := t.port
	segment := make([]byte, tcp)
	copy(segment, t.frame[l4:l4+4]) // ports
	segment[12] = tcp / 4 << 4
	segment[13] = 0x02                               // SYN
	binary.BigEndian.PutUint16(segment[14:], 0xfaf0) // window
	t.frame = append(t.frame[:l4:l4], segment...)
	t.spread = l4 + 4 // the high half of the sequence number
	if header := t.frame[ethernet:]; header[0]>>4 == 4 {
		binary.BigEndian.PutUint16(header[2:], ipv4+tcp)
		header[9] = unix.IPPROTO_TCP
	} else {
		binary.BigEndian.PutUint16(header[4:], tcp)
		header[6] = unix.IPPROTO_TCP
	}
	t.finish(16)
	return t, nil
}

// finish makes all checksums right for port 0; sum is the offset of the
// transport's. The kernel left them to the device.
func (t *template) finish(sum int) {
	header, l4 := t.frame[ethernet:t.port], t.frame[t.port:]
	binary.BigEndian.PutUint16(l4, 0)
	binary.BigEndian.PutUint16(t.frame[t.spread:], 0xffff)
	var addresses []byte
	proto := header[6]
	if header[0]>>4 == 4 {
		proto, addresses = header[9], header[12:20]
		header[8] = floodTTL
		binary.BigEndian.PutUint16(header[10:], 0)
		binary.BigEndian.PutUint16(header[10:], ^fold(header))
	} else {
		addresses = header[8:40]
	}
	binary.BigEndian.PutUint16(l4[sum:], 0)
	pseudo := []byte{0, proto, 0, 0}
	binary.BigEndian.PutUint16(pseudo[2:], uint16(len(l4)))
	check := ^fold(addresses, pseudo, l4)
	if check == 0 && proto == unix.IPPROTO_UDP {
		check = 0xffff // 0 means none (RFC 768)
	}
	binary.BigEndian.PutUint16(l4[sum:], check)
}

// fold is the one's complement sum of pieces of even length but the last.
func fold(pieces ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range pieces {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
