package forward

import (
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// maxChunks bounds a packet's buffers: 6 of 3,840 bytes carry a jumbo frame.
const maxChunks = 6

// pkt is one packet of a batch, from receive to emit. Its fields are grouped by
// the stage that writes them; a stage reads what stages before it wrote.
type pkt struct {
	// receive: where the bytes are. chunk is the whole first buffer; the packet
	// begins at off (Ethernet) and its first buffer ends at end.
	chunk []byte
	addr  uint64 // of chunk in packet memory
	off   int
	end   int
	total int // bytes of all buffers, from off
	tail  [maxChunks - 1]frame.Desc
	tails int

	// receive, from another worker.
	handed   bool // came over a ring: must not be handed on again for its own hash
	resolved bool // ports of a fragment are known: sport, dport
	settled  bool // another worker decided: nh, push and to are set
	sport    uint16
	dport    uint16

	// classify: who sent it and in which VRF it is.
	vif    *table.VifEntry // received from
	fabric bool
	vrf    table.VRFID
	keyNH  table.NextHopID
	label  table.NextHopID // next hop of the label; 0 from a vif
	peer   packet.Addr     // outer source
	info   packet.Info
	ask    ask

	// track: where it goes. to is the tuple after NAT.
	to      packet.Tuple
	nh      *table.NH
	push    table.Label
	rewrite bool
	answer  bool // the router's own: an ICMP error, a reset

	// any stage: the door. A packet with live false has left.
	live bool
}

// receive takes frames off the link into the batch.
//
//	writes: chunk, addr, off, end, total, tail
//	drops:  DropTooManyChunks, DropInvalidFrame
func (w *Worker) receive() int {
	w.n = 0
	got := w.link.Receive(w.rx[:])
	for i := 0; i < got; {
		n := 1
		for w.rx[i+n-1].Options&frame.Contd != 0 && i+n < got {
			n++
		}
		w.take(w.rx[i : i+n])
		i += n
	}
	return got
}

// take makes a packet of descriptors.
func (w *Worker) take(d []frame.Desc) *pkt {
	p := &w.batch[w.n]
	*p = pkt{addr: frame.Base(d[0].Addr), live: true}
	p.chunk = w.mem.Chunk(d[0].Addr)
	p.off = int(d[0].Addr - p.addr)
	p.end = p.off + int(d[0].Len)
	p.total = int(d[0].Len)
	w.n++
	if len(d) > maxChunks {
		for _, t := range d[1:] {
			w.pool.Put(t.Addr)
		}
		w.drop(p, DropTooManyChunks)
		return p
	}
	for _, t := range d[1:] {
		p.tail[p.tails] = t
		p.tails++
		p.total += int(t.Len)
	}
	return p
}

// data is the packet's first buffer up to the end of its bytes; offsets of info
// count from its start.
func (p *pkt) data() []byte { return p.chunk[:p.end] }

// fromVif names the vif a frame came from.
func fromVif(p *pkt) (table.VifID, bool) {
	if p.end-p.off < ethLen {
		return 0, false
	}
	id, ok := link.VifOf(p.chunk[p.off:])
	return table.VifID(id), ok
}

const ethLen = 14 // bytes: destination, source, EtherType

// drop ends p for a named reason and frees its buffers.
func (w *Worker) drop(p *pkt, r Reason) {
	w.count.drops[r]++
	if p.vif != nil {
		w.count.vif(p.vif.ID).Drops++
	}
	w.free(p)
}

// free gives the buffers of p back and takes it out of the batch.
func (w *Worker) free(p *pkt) {
	w.freeTails(p)
	w.pool.Put(p.addr)
	p.live = false
}

func (w *Worker) freeTails(p *pkt) {
	for _, t := range p.tail[:p.tails] {
		w.pool.Put(t.Addr)
	}
	p.tails = 0
}
