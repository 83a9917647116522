package fabric_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/fabric"
)

// edit returns a copy of f that fn has changed.
func edit(f []byte, fn func(f []byte)) []byte {
	f = slices.Clone(f)
	fn(f)
	return f
}

// TestTake: whole tunnel packets to us go to a worker and name their vif; all else
// arrives at the kernel unchanged.
func TestTake(t *testing.T) {
	w := newWire(t, 1, 1)
	f := w.open()
	defer f.Close()
	w.send(w.tunnel(100, 1))
	if got := w.read(w.kernel); !bytes.Equal(got, w.tunnel(100, 1)) {
		t.Errorf("before Listen the kernel received % x", got[:20])
	}
	if err := f.Listen(); err != nil {
		t.Fatal(err)
	}
	mac := link.VifMAC(uint32(w.vif.ID))
	options := slices.Concat(w.tunnel(100, 1)[:34], []byte{1, 1, 1, 0}, w.tunnel(100, 1)[34:])
	options[14], options[17] = 0x46, options[17]+4
	for _, size := range []int{60, 1514, 3840, 3841, 9014} {
		want := w.tunnel(size, uint16(size))
		w.send(want)
		copy(want, mac[:])
		copy(want[6:], mac[:])
		if got := w.taken(f); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: a worker received %d others", size, len(got))
		}
	}
	w.send(options)
	if got := w.taken(f); !bytes.Equal(got[12:], options[12:]) {
		t.Error("a packet with IP options arrives as another")
	}
	whole := w.tunnel(100, 1)
	for name, p := range map[string][]byte{
		"another port":     edit(whole, func(f []byte) { f[37]++ }),
		"another address":  edit(whole, func(f []byte) { f[33]++ }),
		"TCP":              edit(whole, func(f []byte) { f[23] = 6 }),
		"a head fragment":  edit(whole, func(f []byte) { f[20] = 0x20 }),
		"a tail fragment":  edit(whole, func(f []byte) { f[21] = 9 }),
		"a short header":   edit(whole, func(f []byte) { f[14] = 0x44 }),
		"another station":  edit(whole, func(f []byte) { f[5]++ }),
		"broadcast":        edit(whole, func(f []byte) { copy(f, "\xff\xff\xff\xff\xff\xff") }),
		"IPv6":             edit(whole, func(f []byte) { f[12], f[13] = 0x86, 0xdd }),
		"ARP":              edit(whole[:60], func(f []byte) { f[12], f[13] = 8, 6 }),
		"cut in the UDP":   whole[:40],
		"an empty frame":   whole[:14],
		"another protocol": edit(whole, func(f []byte) { f[12], f[13] = 0x88, 0x47 }),
		"jumbo, not ours":  edit(w.tunnel(9014, 1), func(f []byte) { f[37]++ }),
	} {
		w.send(p)
		if got := w.read(w.kernel); !bytes.Equal(got, p) {
			t.Errorf("%s: the kernel received %d bytes % x", name, len(got), got[:min(20, len(got))])
		}
	}
	if n := leftovers(w, f); n != 0 {
		t.Errorf("%d packets more came to a worker", n)
	}
}

func leftovers(w *wire, f *fabric.Fabric) (n int) {
	b := make([]frame.Desc, 256)
	for i := range w.pools {
		for _, s := range f.Links(i) {
			n += s.Receive(b)
		}
	}
	return n
}

// TestVLAN: a tag is in the frame where the driver does not take it out: not ours.
func TestVLAN(t *testing.T) {
	w := newWire(t, 1, 1)
	f := w.open()
	defer f.Close()
	if err := f.Listen(); err != nil {
		t.Fatal(err)
	}
	whole := w.tunnel(100, 1)
	w.send(slices.Concat(whole[:12], []byte{0x81, 0, 0, 5}, whole[12:]))
	if got := w.read(w.kernel); !bytes.Equal(got[14:], whole[14:]) && !bytes.Equal(got[18:], whole[14:]) {
		t.Errorf("the kernel received % x", got[:20])
	}
	if n := leftovers(w, f); n != 0 {
		t.Error("a worker received it too")
	}
}

// TestQueues: every queue has a worker, also when there are more than workers, or
// fewer.
func TestQueues(t *testing.T) {
	for name, c := range map[string]struct {
		queues, workers int
		links           []int // of each worker
	}{"more": {3, 2, []int{2, 1}}, "fewer": {1, 2, []int{1, 0}}, "as many": {4, 4, []int{1, 1, 1, 1}}} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, c.queues, c.workers)
			f := w.open()
			defer f.Close()
			for i, want := range c.links {
				if got := len(f.Links(i)); got != want {
					t.Errorf("worker %d has %d links, want %d", i, got, want)
				}
			}
			if err := f.Listen(); err != nil {
				t.Fatal(err)
			}
			for port := range uint16(50) { // the port chooses the queue
				w.send(w.tunnel(100, port))
				if got := w.taken(f); got[35] != byte(port) {
					t.Errorf("packet %d arrives as another", port)
				}
			}
		})
	}
}

func TestTransmit(t *testing.T) {
	w := newWire(t, 1, 1)
	f := w.open()
	defer f.Close()
	s := f.Links(0)[0]
	for _, size := range []int{60, 1514, 9014} {
		want := w.tunnel(size, 1)
		var run []frame.Desc
		for rest := want; len(rest) > 0; {
			base, _ := w.pools[0].Get()
			n := copy(w.umem.Memory.Chunk(base)[frame.Headroom:], rest)
			rest = rest[n:]
			run = append(run, frame.Desc{Addr: base + frame.Headroom, Len: uint32(n), Options: frame.Contd})
		}
		run[len(run)-1].Options = 0
		if n := s.Transmit(run); n != len(run) {
			t.Fatalf("Transmit took %d of %d", n, len(run))
		}
		s.Flush()
		if got := w.read(w.far); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d others left", size, len(got))
		}
	}
}

// TestTwoRegistrations: what one registration of the memory received, another
// transmits: modes differ, memory does not.
func TestTwoRegistrations(t *testing.T) {
	w := newWire(t, 2, 1)
	f := w.open()
	defer f.Close()
	if err := f.Listen(); err != nil {
		t.Fatal(err)
	}
	links := f.Links(0)
	w.send(w.tunnel(200, 1))
	b := make([]frame.Desc, frame.MaxRun)
	n := 0
	w.await("a packet", func() bool {
		for i, s := range links {
			if n = s.Receive(b); n > 0 {
				links[1-i].Transmit(b[:n])
				links[1-i].Flush()
				return true
			}
		}
		return false
	})
	if got := w.read(w.far); !bytes.Equal(got[12:], w.tunnel(200, 1)[12:]) {
		t.Error("it leaves as another")
	}
}

// TestLives: the program outlives its process and takes nothing then; a successor
// takes it over; another device or the end takes it off.
func TestLives(t *testing.T) {
	w := newWire(t, 1, 1)
	attached := func() bool {
		out := w.link()
		return strings.Contains(out, "prog/xdp")
	}
	whole := w.tunnel(100, 1)
	for i := range 3 {
		f := w.open()
		if err := f.Listen(); err != nil {
			t.Fatal(err)
		}
		w.send(whole)
		w.taken(f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if !attached() {
			t.Fatalf("life %d: the program went with its process", i)
		}
		w.await("the kernel takes it", func() bool { // the socket's end is in the background
			w.send(whole)
			b := make([]byte, 200)
			n, err := unix.Read(w.kernel, b)
			return err == nil && bytes.Equal(b[:n], whole)
		})
		for _, err := unix.Read(w.kernel, make([]byte, 200)); err == nil; _, err = unix.Read(w.kernel, make([]byte, 200)) {
		}
	}
	if err := fabric.Remove(w.bpf); err != nil {
		t.Fatal(err)
	}
	if attached() {
		t.Error("the program stays after Remove")
	}
	if err := errors.Join(fabric.Remove(w.bpf), fabric.Remove(w.bpf+"/nowhere")); err != nil {
		t.Errorf("Remove where nothing is: %v", err)
	}
}

// TestUpdate: addresses come and go; another device is refused.
func TestUpdate(t *testing.T) {
	w := newWire(t, 1, 1)
	f := w.open()
	defer f.Close()
	if err := f.Listen(); err != nil {
		t.Fatal(err)
	}
	v := w.vif
	v.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::1")}
	if err := f.Update(v); err != nil {
		t.Fatal(err)
	}
	whole := w.tunnel(100, 1)
	w.send(whole)
	if got := w.read(w.kernel); !bytes.Equal(got, whole) {
		t.Error("the old address is still ours")
	}
	w.send(edit(whole, func(f []byte) { f[33] = 9 }))
	w.taken(f)
	v.Ifindex++
	if err := f.Update(v); !errors.Is(err, fabric.ErrMoved) {
		t.Errorf("another device: %v", err)
	}
}

// TestLimits: what is not possible is said in a sentence.
func TestLimits(t *testing.T) {
	w := newWire(t, 1, 1)
	f := w.open()
	if !f.Loose() {
		t.Error("a veth passes for a network card")
	}
	if l := strings.Join(f.Limits(), "\n"); !strings.Contains(l, "nic cannot use the workers' memory") {
		t.Errorf("limits of a veth: %q", l)
	}
	f.Close()
	w.vif.Ifindex, w.vif.Name = w.index("lo"), "lo"
	w.in(func() error {
		_, err := fabric.Open(fabric.Config{BPFDir: w.bpf, UMEM: w.umem, Pools: w.pools}, w.vif)
		if err == nil || !strings.Contains(err.Error(), "AF_XDP on lo: attach: the driver has no native XDP") {
			t.Errorf("a device without XDP: %v", err)
		}
		return nil
	})
	if strings.Contains(w.link(), "prog/xdp") {
		t.Error("the program is still on the device that was the fabric")
	}
}
