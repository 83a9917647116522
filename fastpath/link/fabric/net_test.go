package fabric_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/fabric"
	"github.com/vragent/vragent/fastpath/link/xsk"
	"github.com/vragent/vragent/fastpath/table"
)

const chunks = 4096 // of each worker

// us is our tunnel address; the NIC has it nowhere.
var us = netip.MustParseAddr("192.0.2.1")

// wire is a veth between two namespaces: nic in ours, far in the world's.
type wire struct {
	t      testing.TB
	ns     string
	bpf    string
	umem   *xsk.UMEM
	pools  []*frame.Pool
	vif    table.Vif
	far    int // AF_PACKET on far: the wire
	kernel int // AF_PACKET on nic: what the node's kernel receives
}

func run(t testing.TB, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// inside runs fn on a thread of its own inside a namespace. fn may not call Fatal.
func inside(t testing.TB, ns string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with us
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newWire(t testing.TB, queues, workers int) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces, BPF programs and AF_XDP sockets")
	}
	w := &wire{t: t, ns: fmt.Sprintf("fabric%d", os.Getpid()), bpf: t.TempDir(), pools: frame.NewPools(chunks, workers)}
	for _, ns := range []string{w.ns, w.ns + "far"} {
		run(t, "ip netns add "+ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	run(t, "mount -t bpf bpf "+w.bpf)
	t.Cleanup(func() { exec.Command("umount", w.bpf).Run() })
	q := fmt.Sprintf("mtu 9000 numtxqueues %d numrxqueues %d", queues, queues)
	run(t, fmt.Sprintf("ip -n %[1]s link add nic %[2]s type veth peer name far netns %[1]sfar %[2]s", w.ns, q))
	for dev, ns := range map[string]string{"nic": w.ns, "far": w.ns + "far"} {
		run(t, fmt.Sprintf("nsenter --net=/run/netns/%[1]s sh -c 'echo 1 >/proc/sys/net/ipv6/conf/%[2]s/disable_ipv6; ip link set %[2]s addrgenmode none arp off up'", ns, dev))
	}
	w.vif = table.Vif{ID: 7, Kind: table.VifFabric, Name: "nic", MTU: 9000, Addrs: []netip.Addr{us}}
	w.in(func() error {
		dev, err := net.InterfaceByName("nic")
		if err != nil {
			return err
		}
		w.vif.Ifindex, w.vif.MAC = dev.Index, table.MAC(dev.HardwareAddr)
		w.kernel, err = packets("nic")
		return err
	})
	inside(t, w.ns+"far", func() (err error) { w.far, err = packets("far"); return err })
	t.Cleanup(func() { unix.Close(w.far); unix.Close(w.kernel) })
	var err error
	if w.umem, err = xsk.NewUMEM(chunks * workers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.umem.Close() })
	return w
}

func (w *wire) in(fn func() error) { w.t.Helper(); inside(w.t, w.ns, fn) }

// packets opens a packet socket on a device of this namespace.
func packets(dev string) (int, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
}

// open opens the fabric with all chunks given out.
func (w *wire) open() *fabric.Fabric {
	w.t.Helper()
	var f *fabric.Fabric
	w.in(func() (err error) {
		f, err = fabric.Open(fabric.Config{BPFDir: w.bpf, UMEM: w.umem, Pools: w.pools}, w.vif)
		return err
	})
	for i := range w.pools {
		for _, s := range f.Links(i) {
			s.Fill(chunks / 4)
		}
	}
	return f
}

func (w *wire) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (w *wire) send(f []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.far, f); err != nil {
		w.t.Fatalf("send %d bytes: %v", len(f), err)
	}
}

// read returns the next frame of a packet socket.
func (w *wire) read(fd int) []byte {
	w.t.Helper()
	b := make([]byte, 1<<16)
	n := 0
	w.await("a frame", func() bool {
		var err error
		n, err = unix.Read(fd, b)
		return err == nil
	})
	return b[:n]
}

// taken returns the next packet that comes to a socket, and gives its chunks back.
func (w *wire) taken(f *fabric.Fabric) (packet []byte) {
	w.t.Helper()
	b := make([]frame.Desc, frame.MaxRun)
	w.await("a packet at a worker", func() bool {
		for i, pool := range w.pools {
			for _, s := range f.Links(i) {
				if n := s.Receive(b); n > 0 {
					for _, d := range b[:n] {
						packet = append(packet, w.umem.Memory.Bytes(d)...)
						pool.Put(d.Addr)
					}
					return true
				}
			}
		}
		return false
	})
	return packet
}

// tunnel makes a tunnel packet to us of size bytes.
func (w *wire) tunnel(size int, port uint16) []byte {
	f := make([]byte, size)
	for i := range f {
		f[i] = byte(i)
	}
	copy(f, w.vif.MAC[:])
	copy(f[6:], []byte{2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0})
	binary.BigEndian.PutUint16(f[16:], uint16(size-14))
	copy(f[20:], []byte{0, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1})
	copy(f[24:], checksum(f[14:34]))
	binary.BigEndian.PutUint16(f[34:], port)
	binary.BigEndian.PutUint16(f[36:], 6635)
	binary.BigEndian.PutUint16(f[38:], uint16(size-34))
	copy(f[40:], []byte{0, 0})
	return f
}

func checksum(h []byte) []byte {
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return binary.BigEndian.AppendUint16(nil, ^uint16(sum>>16+sum))
}

// link is what ip says of nic.
func (w *wire) link() string {
	w.t.Helper()
	out, err := exec.Command("ip", "-n", w.ns, "link", "show", "nic").CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func (w *wire) index(dev string) (i int) {
	w.t.Helper()
	w.in(func() error {
		d, err := net.InterfaceByName(dev)
		if err == nil {
			i = d.Index
		}
		return err
	})
	return i
}
