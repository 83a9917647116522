package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// shower is what one pod sends to another: packets of so many conversations in turn,
// each the first of one.
type shower struct {
	from, to *pod
	six, syn bool // IPv6; TCP with SYN, else UDP
	flows    int  // conversations
	rate     int  // packets a second; 0: as fast as it can
	total    int  // packets; 0: until it is stopped
	core     int
}

// running is a shower's process.
type running struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

// start starts the shower in a process of its own.
func (s *shower) start() (*running, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	src, dst := s.from.addr, s.to.addr
	if s.six {
		src, dst = s.from.six, s.to.six
	}
	c := exec.Command("taskset", "-c", strconv.Itoa(s.core), self, "shower", "-netns", s.from.Netns, "-mac", s.from.vif.MAC.String(), "-src", src.String(), "-dst", dst.String(),
		fmt.Sprintf("-syn=%v", s.syn), "-flows", strconv.Itoa(s.flows), "-rate", strconv.Itoa(s.rate), "-total", strconv.Itoa(s.total))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &running{c, bufio.NewScanner(out)}, c.Start()
}

// stop ends it and returns how many packets it has sent.
func (r *running) stop() (int, error) {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	return r.wait()
}

// wait waits for its end.
func (r *running) wait() (sent int, err error) {
	for r.out.Scan() {
		sent, _ = strconv.Atoi(strings.TrimSpace(r.out.Text()))
	}
	return sent, r.cmd.Wait()
}

// burst is how many packets are sent without a pause.
const burst = 32

// pour is the shower's process. It prints how many packets it has sent.
func pour(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("shower", flag.ContinueOnError)
	netns, mac, src, dst := set.String("netns", "", ""), set.String("mac", "", ""), set.String("src", "", ""), set.String("dst", "", "")
	syn, flows, rate, total := set.Bool("syn", false, ""), set.Int("flows", 1, ""), set.Int("rate", 0, ""), set.Int("total", 0, "")
	if err := set.Parse(args); err != nil {
		return err
	}
	station, err := net.ParseMAC(*mac)
	if err != nil {
		return err
	}
	f := newFirst(station, build.IP(*src, *dst), *syn)
	fd, to, err := device(*netns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sent, next := 0, time.Now()
	for n := 0; ctx.Err() == nil && (*total == 0 || n < *total); n++ {
		if *rate > 0 && n%burst == 0 {
			next = next.Add(burst * time.Second / time.Duration(*rate))
			if d := time.Until(next); d > 0 {
				pause := unix.NsecToTimespec(int64(d))
				_ = unix.Nanosleep(&pause, nil)
			} else if d < -10*time.Millisecond {
				next = time.Now() // what was missed is not made good
			}
		}
		f.number(n % *flows)
		if err := unix.Sendto(fd, f.frame, 0, to); err == nil {
			sent++
		}
	}
	fmt.Println(sent)
	return nil
}

// device opens the pod's device to send frames.
func device(netns string) (fd int, to unix.Sockaddr, err error) {
	err = (&testbed.Place{Name: netns, Netns: netns}).Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		to = &unix.SockaddrLinklayer{Ifindex: dev.Index, Halen: 6, Addr: [8]byte(append(table.RouterMAC[:], 0, 0))}
		return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	})
	return fd, to, err
}

// first is a packet that begins a conversation. Its ports are 0, and 32 bits that
// nobody looks at are all ones: so its checksum is right for any ports whose
// complement stands there.
type first struct {
	frame []byte
	ports int // offset of both
	undo  int // of what undoes them
}

// newFirst makes the packet: SYN or UDP.
func newFirst(station net.HardwareAddr, p *build.Packet, syn bool) *first {
	p.TTL(64)
	undo := packet.UDPLen
	if syn {
		p.TCP(0, 0, "S").Seq(^uint32(0))
		undo = 4 // the sequence number
	} else {
		p.UDP(0, 0).Payload([]byte{0xff, 0xff, 0xff, 0xff})
	}
	ip := p.Bytes()
	length, kind := packet.IPv4Len, uint16(unix.ETH_P_IP)
	if ip[0]>>4 == 6 {
		length, kind = packet.IPv6Len, unix.ETH_P_IPV6
	}
	frame := append(append([]byte{}, table.RouterMAC[:]...), station...)
	frame = append(binary.BigEndian.AppendUint16(frame, kind), ip...)
	const ethernet = 14
	return &first{frame: frame, ports: ethernet + length, undo: ethernet + length + undo}
}

// number makes it the n-th conversation's: every source port from 1024 on, then the
// next destination port.
func (f *first) number(n int) {
	const low, many = 1024, 1<<16 - 1024
	ports := uint32(low+n%many)<<16 | uint32(1+n/many)
	binary.BigEndian.PutUint32(f.frame[f.ports:], ports)
	binary.BigEndian.PutUint32(f.frame[f.undo:], ^ports)
}
