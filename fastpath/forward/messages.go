package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// message is what one worker tells another. It is plain data: a ring copies it.
// index names the receiver's entry and peer the sender's; an entry acts on a
// message only if it is linked to peer, so that a late message hits nothing.
type message struct {
	kind  messageKind
	index uint32
	peer  uint32
	tcp   flow.TCPState
	ticks uint32

	// msgFrame, msgInstall, msgClash: a packet and what is known of it.
	addr         uint64
	off, end     int32
	total        int32
	tails        int32
	tail         [maxChunks - 1]frame.Desc
	resolved     bool
	sport, dport uint16

	// msgInstall: the reverse entry, and how the forward entry sends.
	entry flow.Entry
	nh    table.NextHopID
	push  table.Label
}

type messageKind uint8

const (
	msgFrame     messageKind = iota + 1 // here is a packet of a flow you own
	msgInstall                          // insert this reverse entry, answer, then transmit the packet
	msgInstalled                        // the reverse entry of index is peer
	msgClash                            // the reverse key is taken: choose another port
	msgFull                             // no room for the reverse entry: forget index
	msgTCP                              // the other direction's TCP state moved
	msgAge                              // delete index if it has been idle for ticks too
	msgAlive                            // it has not: last seen at ticks
	msgDelete                           // the other direction is gone
)

// tell queues m for worker to. It reports whether there was room.
func (w *Worker) tell(to int, m *message) bool {
	if !w.s.rings[w.id][to].Push(*m) {
		w.count.drops[DropRingFull]++
		return false
	}
	w.wake[to] = true
	return true
}

// sendFrame queues m with the packet p, which is gone from this worker then.
func (w *Worker) sendFrame(p *pkt, to int, m *message) {
	m.addr, m.off, m.end, m.total = p.addr, int32(p.off), int32(p.end), int32(p.total)
	m.tail, m.tails = p.tail, int32(p.tails)
	m.resolved, m.sport, m.dport = p.resolved, p.info.Tuple.Sport, p.info.Tuple.Dport
	if !w.s.rings[w.id][to].Push(*m) {
		w.drop(p, DropRingFull)
		return
	}
	w.wake[to] = true
	p.live = false
}

// handOver gives p to the worker that owns its flow.
func (w *Worker) handOver(p *pkt, to int) {
	w.count.Handoffs++
	w.out.kind = msgFrame
	w.sendFrame(p, to, &w.out)
}

// sendInstall gives the reverse entry of e and the packet to the entry's owner.
func (w *Worker) sendInstall(p *pkt, slot uint32, e *flow.Entry) {
	m := &w.out
	m.kind, m.peer = msgInstall, flow.Index(w.id, slot)
	m.entry = w.reverseOf(p, e)
	m.nh, m.push = table.NextHopID(e.NH), e.Label()
	to := e.Translated()
	if owner := w.owner(&to); owner != w.id {
		w.sendFrame(p, owner, m)
		return
	}
	// The port chosen after a clash brought the reverse entry home.
	e.Flags &^= flow.FlagPending
	w.pair(p, slot, e)
}

// drain acts on what the other workers said. Packets join the batch.
func (w *Worker) drain() int {
	n := 0
	for from := range w.s.workers {
		if from == w.id {
			continue
		}
		r := w.s.rings[from][w.id]
		for w.n < len(w.batch) && r.Pop(&w.in) {
			n++
			w.act(from, &w.in)
		}
	}
	return n
}

// act is a flat switch over the kinds of messages.
func (w *Worker) act(from int, m *message) {
	_, slot := flow.Split(m.index)
	switch m.kind {
	case msgFrame:
		w.rejoin(m)
	case msgInstall:
		w.actInstall(from, m)
	case msgInstalled:
		w.actInstalled(m, slot)
	case msgClash:
		if e := w.pendingEntry(slot, &m.entry); e != nil {
			nextPort(e)
		}
		w.rejoin(m) // finds its entry pending and installs again
	case msgFull:
		if e := w.pendingEntry(slot, &m.entry); e != nil {
			w.forget(slot, e)
		}
	case msgTCP:
		if e := w.linked(slot, m.peer); e != nil {
			e.TCP = mergeTCP(e.TCP, m.tcp)
		}
	case msgAge:
		w.actAge(from, m, slot)
	case msgAlive:
		if e := w.linked(slot, m.peer); e != nil {
			e.LastSeen = m.ticks
		}
	case msgDelete:
		if e := w.linked(slot, m.peer); e != nil {
			w.forget(slot, e)
		}
	}
}

// rejoin puts a handed packet into the batch, to be classified here.
func (w *Worker) rejoin(m *message) *pkt {
	p := &w.batch[w.n]
	w.n++
	*p = pkt{addr: m.addr, off: int(m.off), end: int(m.end), total: int(m.total), tail: m.tail, tails: int(m.tails),
		live: true, handed: true, resolved: m.resolved, sport: m.sport, dport: m.dport}
	p.chunk = w.mem.Chunk(m.addr)
	return p
}

// actInstall inserts a reverse entry; then, and only then, its packet may go.
func (w *Worker) actInstall(from int, m *message) {
	answer := message{kind: msgInstalled, index: m.peer, entry: m.entry}
	switch w.insertReverse(&m.entry, m.peer) {
	case inserted:
		answer.peer = w.lastReverse
		if !w.tell(from, &answer) {
			w.putFrames(m)
			return
		}
		p := w.rejoin(m)
		p.settled = true
		p.nh, p.push, p.rewrite = w.tables.NH(m.nh), m.push, true
		p.to = reversed(&m.entry)
	case clash:
		m.kind, m.index = msgClash, m.peer
		if !w.tell(from, m) {
			w.putFrames(m)
		}
	case full:
		answer.kind = msgFull
		w.tell(from, &answer)
		w.count.drops[DropFlowTableFull]++
		w.putFrames(m)
	}
}

// putFrames frees the buffers of a message's packet.
func (w *Worker) putFrames(m *message) {
	w.pool.Put(m.addr)
	for _, t := range m.tail[:m.tails] {
		w.pool.Put(t.Addr)
	}
}

func (w *Worker) actInstalled(m *message, slot uint32) {
	e := w.pendingEntry(slot, &m.entry)
	if e == nil {
		// The forward entry went while its reverse entry was being made.
		owner, _ := flow.Split(m.peer)
		if f := w.flows.Entry(slot); f.Used == 0 || f.Reverse != m.peer {
			w.tell(owner, &message{kind: msgDelete, index: m.peer, peer: m.index})
		}
		return
	}
	e.Reverse = m.peer
	e.Flags &^= flow.FlagPending
	w.mirrorTCP(slot, e)
}

// pendingEntry is the forward entry at slot while it waits for rev.
func (w *Worker) pendingEntry(slot uint32, rev *flow.Entry) *flow.Entry {
	e := w.flows.Entry(slot)
	if e.Used == 0 || e.Flags&flow.FlagPending == 0 || e.Translated() != reversed(rev) {
		return nil
	}
	return e
}

func reversed(e *flow.Entry) packet.Tuple { return e.Key().Tuple.Reverse() }

// mirrorTCP tells the other direction of a state change.
func (w *Worker) mirrorTCP(slot uint32, e *flow.Entry) {
	if e.Reverse == flow.NoReverse {
		return
	}
	owner, at := flow.Split(e.Reverse)
	mine := flow.Index(w.id, slot)
	if owner != w.id {
		w.tell(owner, &message{kind: msgTCP, index: e.Reverse, peer: mine, tcp: e.TCP.Reverse()})
		return
	}
	if r := w.linked(at, mine); r != nil {
		r.TCP = mergeTCP(r.TCP, e.TCP.Reverse())
	}
}

// mergeTCP joins what two workers saw of one connection. A fresh SYN on a dead one
// starts over.
func mergeTCP(have, said flow.TCPState) flow.TCPState {
	if have&flow.DEAD != 0 && said == flow.SYNr {
		return said
	}
	return closing(have | said)
}

// ports restores what the frame alone does not say: the ports of a fragment.
func (p *pkt) ports() {
	if p.handed && p.resolved && p.info.Frag != packet.FragNone {
		p.info.Tuple.Sport, p.info.Tuple.Dport = p.sport, p.dport
	}
}
