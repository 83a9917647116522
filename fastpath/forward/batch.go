package forward

import (
	"github.com/vragent/vragent/fastpath/forward/card"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

const maxChunks = card.MaxChunks // of a packet

// parcel is what travels with a packet to another worker: where its bytes are,
// and what is known that they do not say. The packet begins at off (Ethernet) of
// its first buffer, which ends at end.
type parcel struct {
	addr     uint64 // of the first chunk, in packet memory
	off, end int
	total    int // bytes of all buffers, from off
	tails    int
	offload  frame.Offload // what its sender left to a network card: us
	mark     offload.Mark  // which it leaves with: its flow changes hands

	resolved     bool  // the ports of a fragment are known: sport, dport
	clashes      uint8 // how often the reverse key was taken
	sport, dport uint16
	tail         [maxChunks - 1]frame.Desc
}

// pkt is one packet of a batch, from receive to emit. Its fields are grouped by
// the stage that writes them; a stage reads what stages before it wrote.
type pkt struct {
	// receive. chunk is the whole first buffer.
	parcel
	chunk   []byte
	handed  bool // came over a ring
	settled bool // another worker decided: nh, push and to are set

	// classify: who sent it, in which VRF it is, and its headers.
	decide.Packet
	ask ask

	// track: where it goes. to is the tuple after NAT.
	to      packet.Tuple
	nh      *table.NH
	push    table.Label
	rewrite bool
	answer  bool // the router's own: an ICMP error, a reset

	// any stage: the door. A packet with live false has left.
	live bool
}

// receive takes frames off the links into the batch, which begins with another
// one each time: a full one leaves no room for the rest.
//
//	writes: chunk, addr, off, end, total, tail
//	drops:  reason.TooManyChunks, reason.InvalidFrame
func (w *Worker) receive() int {
	w.n = 0
	got := 0
	for i := range w.doors {
		if len(w.rx)-got < frame.MaxRun {
			break
		}
		got += w.receiveFrom(&w.doors[(i+int(w.count.loops))%len(w.doors)], w.rx[got:])
	}
	return got
}

func (w *Worker) receiveFrom(d *door, rx []frame.Desc) int {
	first := w.n
	got := d.link.Receive(rx)
	rx = rx[:got]
	for len(rx) > 0 {
		n := 1
		for rx[n-1].Options&frame.Contd != 0 && n < len(rx) {
			n++
		}
		w.take(rx[:n])
		rx = rx[n:]
	}
	if d.loose {
		for i := first; i < w.n; i++ {
			if p := &w.batch[i]; p.live {
				card.FinishInner(p.data(), p.off, w.tails(p, new([maxChunks - 1][]byte)))
			}
		}
	}
	return got
}

// tails returns the bytes of p behind its first buffer; b is where to put the slices.
func (w *Worker) tails(p *pkt, b *[maxChunks - 1][]byte) [][]byte {
	for i, t := range p.tail[:p.tails] {
		b[i] = w.mem.Bytes(t)
	}
	return b[:p.tails]
}

// take makes a packet of descriptors.
func (w *Worker) take(d []frame.Desc) {
	p := &w.batch[w.n]
	w.n++
	p.begin()
	p.chunk = w.mem.Chunk(d[0].Addr)
	p.addr, p.total = frame.Base(d[0].Addr), int(d[0].Len)
	p.off = int(d[0].Addr - p.addr)
	p.offload = frame.OffloadOf(d[0].Options)
	p.end = p.off + p.total
	w.count.RxPackets++
	for i := range d {
		w.count.RxBytes += uint64(d[i].Len)
	}
	if len(d) > maxChunks {
		for _, t := range d[1:] {
			w.pool.Put(t.Addr)
		}
		w.drop(p, reason.TooManyChunks)
		return
	}
	for _, t := range d[1:] {
		p.tail[p.tails] = t
		p.tails++
		p.total += int(t.Len)
	}
}

// begin makes p one that nothing is known of. Only what some stage reads before one has
// written it is cleared: all of p takes longer than the rest of receive.
func (p *pkt) begin() {
	p.tails, p.resolved, p.clashes = 0, false, 0
	p.handed, p.settled = false, false
	p.Vif, p.Fabric, p.Label = nil, false, 0
	p.ask = askNothing
	p.rewrite, p.answer = false, false
	p.live = true
}

// data is the packet's first buffer up to the end of its bytes; offsets of info
// count from its start.
func (p *pkt) data() []byte { return p.chunk[:p.end] }

// fromVif names the vif a frame came from.
func fromVif(p *pkt) (table.VifID, bool) {
	if p.end-p.off < packet.EthernetLen {
		return 0, false
	}
	id, ok := link.VifOf(p.chunk[p.off:])
	return table.VifID(id), ok
}

// drop ends p for a named reason and frees its buffers.
func (w *Worker) drop(p *pkt, r Reason) {
	w.count.drops[r]++
	if p.Vif != nil {
		w.count.vif(p.Vif.ID).Drops++
	}
	w.free(p)
}

// free gives the buffers of p back and takes it out of the batch.
func (w *Worker) free(p *pkt) {
	w.freeTails(p)
	w.pool.Put(p.addr)
	p.live = false
}

func (w *Worker) freeTails(p *pkt) { w.keepTails(p, 0) }

// keepTails frees all tails but the first n.
func (w *Worker) keepTails(p *pkt, n int) {
	for _, t := range p.tail[n:p.tails] {
		w.pool.Put(t.Addr)
	}
	p.tails = n
}

// trim cuts off what follows the IP packet: padding is not ours to send.
func (w *Worker) trim(p *pkt) {
	left := p.Info.L3 + p.Info.Len - p.end // bytes of the packet in the tails
	if left <= 0 {
		if p.end += left; p.tails > 0 {
			w.freeTails(p)
		}
		return
	}
	for i := range p.tail[:p.tails] {
		t := &p.tail[i]
		if t.Len = min(t.Len, uint32(left)); t.Len == uint32(left) {
			w.keepTails(p, i+1)
			return
		}
		left -= int(t.Len)
	}
}
