// Package fabric brings tunnel packets from the fabric NIC straight to the workers,
// and theirs onto it: AF_XDP sockets on the NIC's queues, behind an XDP program that
// takes what is addressed to us and leaves the rest to the node. A Fabric owns its
// sockets until their workers get them; the attachment belongs to the node: it is
// pinned and adopted by the next process, and without one it takes nothing. What it
// does not take arrives by package steer, as without it.
package fabric

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/xsk"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Config says for whom the sockets are.
type Config struct {
	BPFDir string // on a bpffs, for the pin
	UMEM   *xsk.UMEM
	Pools  []*frame.Pool // the workers'
	Busy   bool          // poll: busy
}

// maxQueues is how many queues of a NIC can have a socket (MAX_QUEUES in fabric.c);
// what arrives on others goes the way of package steer.
const maxQueues = 256

// Fabric is the open fabric NIC. Its methods are for one goroutine at a time; Stats
// of a socket are for any.
type Fabric struct {
	// Set once by Open.
	vif     table.Vif // as it was then
	workers int
	sockets []*xsk.Socket // by queue
	objects fabricObjects
	attach  link.Link
	limits  []string
	loose   bool
	single  bool // packets of several chunks are lost
}

// Open binds a socket to every queue of the fabric vif's device, without copying where
// the driver can, and puts the program before them. Nothing is received before Listen.
// An attachment that a predecessor left is taken over.
func Open(cfg Config, v table.Vif) (*Fabric, error) {
	f := &Fabric{vif: v, workers: len(cfg.Pools)}
	if err := f.open(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("AF_XDP on %s: %w", v.Name, err), f.Close())
	}
	return f, nil
}

func (f *Fabric) open(cfg Config) (err error) {
	if f.loose, err = isVeth(f.vif.Name); err != nil {
		return err
	}
	if err := f.bind(cfg); err != nil {
		return err
	}
	if err := loadFabricObjects(&f.objects, nil); err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	if err := f.Update(f.vif); err != nil {
		return err
	}
	return f.take(cfg.BPFDir)
}

func isVeth(device string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	drv, err := unix.IoctlGetEthtoolDrvinfo(fd, device)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("name its driver: %w", err)
	}
	return unix.ByteSliceToString(drv.Driver[:]) == "veth", nil
}

// bind opens the sockets, in the best mode that all queues have.
func (f *Fabric) bind(cfg Config) error {
	modes := []xsk.Mode{xsk.ZeroCopy, xsk.Copy}
	if oneChunk(f.vif) {
		modes = []xsk.Mode{xsk.ZeroCopy, xsk.ZeroCopySingle, xsk.Copy}
	}
	var refused error
	for _, mode := range modes {
		err := f.bindAll(cfg, mode)
		if err == nil {
			f.limits = append(f.limits, f.sockets[0].Limits()...)
			f.single = mode == xsk.ZeroCopySingle
			if mode == xsk.Copy {
				f.limits = append(f.limits, fmt.Sprintf("The driver of %s cannot use the workers' memory (zero-copy AF_XDP: %v): the kernel copies each tunnel packet.", f.vif.Name, refused))
			}
			return nil
		}
		if mode == xsk.Copy {
			return err
		}
		if refused == nil {
			refused = err
		}
	}
	return nil
}

// oneChunk says that every frame of the vif fits one chunk.
func oneChunk(v table.Vif) bool { return v.MTU+packet.EthernetLen <= frame.ChunkSize-frame.Headroom }

// bindAll opens a socket on queues 0, 1 and so on, until there is none.
func (f *Fabric) bindAll(cfg Config, mode xsk.Mode) error {
	for queue := range maxQueues {
		c := xsk.Config{
			Ifindex: f.vif.Ifindex, Queue: queue, Pool: cfg.Pools[queue%f.workers], UMEM: cfg.UMEM,
			Mode: mode, Busy: cfg.Busy, Empty: true,
		}
		if queue > 0 {
			c.Shared = f.sockets[0]
		}
		s, err := xsk.Open(c)
		if queue > 0 && errors.Is(err, unix.EINVAL) {
			return nil // no such queue
		}
		if err != nil {
			return errors.Join(err, f.closeSockets())
		}
		f.sockets = append(f.sockets, s)
	}
	return nil
}

// Links are the sockets of a worker: those of every queue that comes to it. It may
// have none, when there are fewer queues than workers.
func (f *Fabric) Links(worker int) (list []*xsk.Socket) {
	for queue := worker; queue < len(f.sockets); queue += f.workers {
		list = append(list, f.sockets[queue])
	}
	return list
}

// Listen lets tunnel packets in, once every link has its worker.
func (f *Fabric) Listen() error {
	for queue, s := range f.sockets {
		if err := f.objects.Sockets.Put(uint32(queue), uint32(s.FD())); err != nil {
			return fmt.Errorf("AF_XDP on %s: socket of queue %d: %w", f.vif.Name, queue, err)
		}
	}
	return nil
}

// ErrMoved says that the fabric is another device now, or one for larger packets than
// its sockets take: that takes new ones.
var ErrMoved = errors.New("the fabric is another device now")

// Update takes over the addresses of the vif.
func (f *Fabric) Update(v table.Vif) error {
	if v.Ifindex != f.vif.Ifindex || v.ID != f.vif.ID {
		return fmt.Errorf("%w: %s, it was %s", ErrMoved, v.Name, f.vif.Name)
	}
	if f.single && !oneChunk(v) {
		return fmt.Errorf("%w: its MTU is %d bytes, and the driver was to have packets of one buffer", ErrMoved, v.MTU)
	}
	want := map[uint32]fabricUs{}
	for _, a := range v.Addrs {
		if a = a.Unmap(); a.Is4() { // tunnels run over IPv4
			b := a.As4()
			want[binary.NativeEndian.Uint32(b[:])] = fabricUs{Vif: uint32(v.ID), Mac: v.MAC}
		}
	}
	var gone []uint32
	var addr uint32
	var us fabricUs
	it := f.objects.Addresses.Iterate()
	for it.Next(&addr, &us) {
		if _, ok := want[addr]; !ok {
			gone = append(gone, addr)
		}
	}
	err := it.Err()
	for _, a := range gone {
		err = errors.Join(err, f.objects.Addresses.Delete(a))
	}
	for a, us := range want {
		err = errors.Join(err, f.objects.Addresses.Update(a, us, ebpf.UpdateAny))
	}
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", f.vif.Name, err)
	}
	return nil
}

// Loose says that the device is a veth, whose other end may leave checksums to a
// network card that there is not: nobody finishes them before XDP.
func (f *Fabric) Loose() bool { return f.loose }

// Ifindex is the device's.
func (f *Fabric) Ifindex() int { return f.vif.Ifindex }

// Limits are sentences about what this device or its driver cannot do.
func (f *Fabric) Limits() []string { return f.limits }

// Close closes the sockets. The program stays, and takes nothing any more.
func (f *Fabric) Close() error {
	err := errors.Join(f.closeSockets(), f.objects.Close())
	if f.attach != nil {
		err = errors.Join(err, f.attach.Close())
	}
	return err
}

func (f *Fabric) closeSockets() error {
	var errs []error
	for i := len(f.sockets) - 1; i >= 0; i-- { // the first lends its memory to the others
		errs = append(errs, f.sockets[i].Close())
	}
	f.sockets = nil
	return errors.Join(errs...)
}
