package xsk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
)

const (
	// txBudget is how many descriptors one kick sends. The kernel's default of 32
	// costs a quarter of the packet rate.
	txBudget = 512

	// sendBuffer is in bytes. It bounds frames sent and not yet consumed, skb
	// overhead included; the completion ring shall be the bound, so it is ample.
	sendBuffer = 64 << 20

	// releaseTime is how long the kernel may take to free the queue of a process
	// that died: it does so in a work queue, after the process is gone.
	releaseTime = 2 * time.Second
)

// Mode is how frames pass between the memory and the device.
type Mode uint8

const (
	Copy     Mode = iota // the kernel copies them; every device can
	ZeroCopy             // the driver uses the memory itself
	// ZeroCopySingle is ZeroCopy of a driver that cannot do it with packets of
	// several chunks: those are lost.
	ZeroCopySingle
)

// Config says where a socket is bound. Pool, UMEM and one of Ifname and Ifindex are
// required.
type Config struct {
	Ifname  string
	Ifindex int
	Queue   int
	Pool    *frame.Pool // the worker's
	UMEM    *UMEM
	// Shared is the socket of another queue that registered UMEM; nil for the
	// first one, which registers it. A UMEM may be registered several times: the
	// mode is a property of the registration, which sockets that share it inherit.
	Shared *Socket
	Mode   Mode
	// Busy makes the driver's half of the work run inside the worker's system calls,
	// on the worker's core, where the driver can.
	Busy bool
	// Empty: the kernel is given no chunks until Fill.
	Empty bool
	// Round, if any, gets another number whenever all frames have been taken that waited
	// when it got the one before.
	Round *atomic.Uint32
}

// Socket implements link.Link on one queue of a device.
type Socket struct {
	// Set once by Open.
	fd       int
	pool     *frame.Pool
	limits   []string
	zeroCopy bool
	busy     bool // Receive calls the driver

	// Owned by the worker. The kernel is at the other end of each.
	rx   ring[frame.Desc] // we consume
	tx   ring[frame.Desc] // we produce
	fill ring[uint64]     // we produce: chunks for the kernel to receive into
	done ring[uint64]     // we consume: chunks of frames that left
	most int              // chunks the kernel may hold for frames to come

	came arrivals

	count counters // written by the worker, read by anyone
}

// Open binds a socket to a queue, for packets of any number of chunks unless the mode
// says otherwise, and fills its fill ring from the pool. The queue's XDP program must be told of it
// (FD) before it receives anything.
func Open(cfg Config) (*Socket, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket on %s queue %d: %w", cfg.device(), cfg.Queue, err)
	}
	return s, nil
}

func (c *Config) device() string {
	if c.Ifname != "" {
		return c.Ifname
	}
	return fmt.Sprintf("interface %d", c.Ifindex)
}

func open(cfg Config) (*Socket, error) {
	if err := cfg.resolve(); err != nil {
		return nil, err
	}
	s := &Socket{fd: -1, pool: cfg.Pool, came: arrivals{toucher{memory: cfg.UMEM.Memory}, rounds{number: cfg.Round}}, zeroCopy: cfg.Mode != Copy}
	for _, step := range []func(*Config) error{s.create, s.register, s.rings, s.tune, s.bind, s.prefer} {
		if err := step(&cfg); err != nil {
			s.Close()
			return nil, err
		}
	}
	if !cfg.Empty {
		s.Fill(2 * ringSize)
	}
	return s, nil
}

// Fill lets the kernel hold at most that many chunks for frames to come, and gives
// it the first. Only the worker calls it, or somebody before the worker runs.
func (s *Socket) Fill(most int) {
	s.most = most
	s.refill()
}

func (c *Config) resolve() error {
	if c.Ifindex != 0 {
		return nil
	}
	// Not net.InterfaceByName: it lists all devices of the node, pods' included.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(c.Ifname)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return err
	}
	c.Ifindex = int(req.Uint32())
	return nil
}

func (s *Socket) create(*Config) (err error) {
	s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): %w", err)
	}
	return err
}

func (s *Socket) register(cfg *Config) error {
	if cfg.Shared != nil {
		return nil // bind borrows it
	}
	m := cfg.UMEM.Memory
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&m[0]))), Len: uint64(len(m)), Size: frame.ChunkSize}
	if err := s.set(unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
		return fmt.Errorf("register packet memory of %d bytes: %w", len(m), err)
	}
	return nil
}

func (s *Socket) rings(*Config) (err error) {
	for _, opt := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, opt, ringSize); err != nil {
			return fmt.Errorf("create ring %d: %w", opt, err)
		}
	}
	var off unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(off))
	if err := s.get(unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), &size); err != nil {
		return fmt.Errorf("read ring offsets: %w", err)
	}
	if s.rx, err = mapRing[frame.Desc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx); err != nil {
		return err
	}
	if s.tx, err = mapRing[frame.Desc](s.fd, unix.XDP_PGOFF_TX_RING, off.Tx); err != nil {
		return err
	}
	if s.fill, err = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr); err != nil {
		return err
	}
	s.done, err = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr)
	return err
}

// tune sets what may be missing without harm. What is lost is said in Limits.
func (s *Socket) tune(*Config) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, txBudget); err != nil {
		s.limits = append(s.limits, "The kernel takes 32 frames per system call (XDP_MAX_TX_SKB_BUDGET is missing): about a quarter of the packet rate is lost.")
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
			return fmt.Errorf("set send buffer: %w", err)
		}
		s.limits = append(s.limits, "The send buffer is bounded by net.core.wmem_max (no CAP_NET_ADMIN): bursts are sent in more system calls.")
	}
	return nil
}

func (s *Socket) bind(cfg *Config) error {
	sa := &unix.SockaddrXDP{Ifindex: uint32(cfg.Ifindex), QueueID: uint32(cfg.Queue)}
	if cfg.Shared != nil {
		sa.Flags = unix.XDP_SHARED_UMEM // and nothing else: the rest is inherited
		sa.SharedUmemFD = uint32(cfg.Shared.fd)
	} else {
		sa.Flags = unix.XDP_USE_NEED_WAKEUP | [...]uint16{
			Copy: unix.XDP_COPY | unix.XDP_USE_SG, ZeroCopy: unix.XDP_ZEROCOPY | unix.XDP_USE_SG, ZeroCopySingle: unix.XDP_ZEROCOPY,
		}[cfg.Mode]
	}
	err := s.bindTo(sa)
	if !errors.Is(err, unix.EINVAL) || cfg.Shared != nil || cfg.Mode != Copy {
		return err
	}
	sa.Flags &^= unix.XDP_USE_SG
	if s.bindTo(sa) != nil {
		return err
	}
	s.limits = append(s.limits, fmt.Sprintf("This kernel gives AF_XDP no packets of more than %d bytes (Linux 6.6 does, XDP_USE_SG): larger ones are lost.", frame.ChunkSize-frame.Headroom))
	return nil
}

// bindTo binds the socket to the queue, once that is free.
func (s *Socket) bindTo(sa *unix.SockaddrXDP) error {
	deadline := time.Now().Add(releaseTime)
	for {
		err := unix.Bind(s.fd, sa)
		switch {
		case errors.Is(err, unix.EBUSY) && time.Now().Before(deadline):
			time.Sleep(10 * time.Millisecond) // a dead predecessor's queue is released in the background
		case errors.Is(err, unix.EBUSY):
			return fmt.Errorf("bind: another process holds the queue: %w", err)
		case errors.Is(err, unix.EINVAL):
			return fmt.Errorf("bind: no such queue, or the kernel does not know the mode: %w", err)
		case err != nil:
			return fmt.Errorf("bind: %w", err)
		default:
			return nil
		}
	}
}

// Busy polling (SO_PREFER_BUSY_POLL).
const (
	busyTime   = 20 // microseconds a call may wait for the driver; ours do not wait
	busyBudget = 64 // frames the driver handles in one call
)

// prefer makes the driver leave its queue to our system calls. Its interrupts are
// held back for as long as the device's napi_defer_hard_irqs and gro_flush_timeout
// say: both are the administrator's. Since Linux 6.11 a driver that does not name its
// queue's NAPI (veth, i40e, ixgbe) would not be called, without a word.
func (s *Socket) prefer(cfg *Config) error {
	if !cfg.Busy {
		return nil
	}
	id, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_INCOMING_NAPI_ID)
	for _, opt := range [][2]int{{unix.SO_PREFER_BUSY_POLL, 1}, {unix.SO_BUSY_POLL, busyTime}, {unix.SO_BUSY_POLL_BUDGET, busyBudget}} {
		if err == nil && id > 0 {
			err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, opt[0], opt[1])
		}
	}
	if s.busy = err == nil && id > 0; !s.busy {
		s.limits = append(s.limits, fmt.Sprintf("The driver of %s cannot be polled by the workers: its part of the work runs beside them, in soft interrupts.", cfg.device()))
	}
	return nil
}

// FD is the socket's file descriptor, valid until Close.
func (s *Socket) FD() int { return s.fd }

// Limits are sentences about what this kernel cannot do.
func (s *Socket) Limits() []string { return s.limits }

// Close releases the queue. Chunks in the rings are lost to the pool: the memory
// is given up as a whole.
func (s *Socket) Close() error {
	err := errors.Join(s.rx.unmap(), s.tx.unmap(), s.fill.unmap(), s.done.unmap())
	if s.fd >= 0 {
		err = errors.Join(err, unix.Close(s.fd))
		s.fd = -1
	}
	if err != nil {
		return fmt.Errorf("close AF_XDP socket: %w", err)
	}
	return nil
}

func (s *Socket) set(opt int, p unsafe.Pointer, size uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(opt), uintptr(p), size, 0); e != 0 {
		return e
	}
	return nil
}

func (s *Socket) get(opt int, p unsafe.Pointer, size *uint32) error {
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(opt), uintptr(p), uintptr(unsafe.Pointer(size)), 0); e != 0 {
		return e
	}
	return nil
}
