package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
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

	// msgFrame, msgInstall, msgClash: the packet.
	parcel

	// msgInstall: the reverse entry, and how the forward entry sends.
	entry flow.Record
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
	msgAge                              // delete index if it has been idle for ticks too; tcp as in msgTCP
	msgAlive                            // it has not: last seen at ticks; tcp as in msgTCP
	msgDelete                           // the other direction is gone
	msgBulk                             // the other direction is given to the kernel
)

// tell queues m for worker to. It reports whether there was room.
func (w *Worker) tell(to int, m *message) bool {
	if !w.s.rings[w.id][to].Push(*m) {
		w.count.Lost++
		return false
	}
	w.wake[to] = true
	return true
}

// sendFrame queues m with the packet p, which is gone from this worker then.
func (w *Worker) sendFrame(p *pkt, to int, m *message) {
	m.parcel = p.parcel
	m.sport, m.dport = p.Info.Tuple.Sport, p.Info.Tuple.Dport
	if !w.s.rings[w.id][to].Push(*m) {
		w.drop(p, reason.RingFull)
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
	m, f := &w.out, w.flows.Record(slot)
	m.kind, m.peer = msgInstall, flow.Index(w.id, slot)
	d := decide.Decision{NH: table.NextHopID(e.NH)}
	w.view.WayBack(&p.Packet, &d)
	w.reverseOf(p, &f, &d, &m.entry)
	m.nh, m.push = table.NextHopID(e.NH), e.Label()
	to := f.Translated()
	if owner := w.owner(&to); owner != w.id {
		w.sendFrame(p, owner, m)
		return
	}
	// The port chosen after a clash brought the reverse entry home.
	f.Flags &^= flow.FlagPending | flow.FlagSplit
	e.Flags = f.Flags
	w.pair(p, slot, &f, &d)
}

// drain acts on what the other workers said. Packets join the batch; when it is full,
// another ring has the first turn next time.
func (w *Worker) drain() int {
	n := 0
	for i := range w.workers {
		from := (i + int(w.count.loops)) % w.workers
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
		w.actClash(m, slot)
	case msgFull:
		if e := w.pendingEntry(slot, &m.entry); e != nil {
			w.forget(slot, e)
		}
	case msgTCP:
		if e := w.flows.Linked(slot, m.peer); e != nil {
			w.setTCP(slot, e, entry.MergeTCP(e.TCP, m.tcp))
		}
	case msgAge:
		w.actAge(from, m, slot)
	case msgAlive:
		w.actAlive(m, slot)
	case msgBulk:
		w.bulk(m)
	case msgDelete:
		if e := w.flows.Linked(slot, m.peer); e != nil {
			w.forget(slot, e)
		}
	}
}

// rejoin puts a handed packet into the batch, to be classified here.
func (w *Worker) rejoin(m *message) *pkt {
	p := &w.batch[w.n]
	w.n++
	*p = pkt{parcel: m.parcel, chunk: w.mem.Chunk(m.addr), handed: true, live: true}
	return p
}

// actInstall inserts a reverse entry; then, and only then, its packet may go. Should
// the answer be lost, the packet is too, and the next one installs again.
func (w *Worker) actInstall(from int, m *message) {
	answer := message{kind: msgInstalled, index: m.peer, entry: m.entry}
	switch w.insertReverse(&m.entry, m.peer) {
	case inserted:
		answer.peer = w.lastReverse
		if !w.tell(from, &answer) {
			w.lose(m, reason.RingFull)
			return
		}
		p := w.rejoin(m)
		p.settled = true
		p.nh, p.push, p.rewrite = w.view.NH(m.nh), m.push, true
		p.to = entry.Reversed(&m.entry)
	case clash:
		m.kind, m.index = msgClash, m.peer
		if !w.tell(from, m) {
			w.lose(m, reason.RingFull)
		}
	case full:
		answer.kind = msgFull
		w.tell(from, &answer)
		w.lose(m, reason.FlowTableFull)
	}
}

// lose drops the packet of a message.
func (w *Worker) lose(m *message, r Reason) {
	w.count.drops[r]++
	w.pool.Put(m.addr)
	for _, t := range m.tail[:m.tails] {
		w.pool.Put(t.Addr)
	}
}

// actClash tries another port. The packet finds its entry pending and installs
// again.
func (w *Worker) actClash(m *message, slot uint32) {
	e := w.pendingEntry(slot, &m.entry)
	if m.clashes++; m.clashes >= natTries {
		if e != nil {
			w.forget(slot, e)
		}
		w.lose(m, reason.NATPorts)
		return
	}
	if e != nil {
		r := w.flows.Record(slot)
		w.nextPort(slot, &r)
	}
	w.rejoin(m)
}

func (w *Worker) actInstalled(m *message, slot uint32) {
	e := w.pendingEntry(slot, &m.entry)
	if e == nil {
		// The forward entry went while its reverse entry was being made.
		owner, _ := flow.Split(m.peer)
		if w.flows.Entry(slot).Used == 0 || w.flows.Cold(slot).Reverse != m.peer {
			w.tell(owner, &message{kind: msgDelete, index: m.peer, peer: m.index})
		}
		return
	}
	w.flows.Cold(slot).Reverse = m.peer
	e.Flags &^= flow.FlagPending
	w.mirrorTCP(slot, e)
}

// pendingEntry is the forward entry at slot while it waits for rev.
func (w *Worker) pendingEntry(slot uint32, rev *flow.Record) *flow.Entry {
	e := w.flows.Entry(slot)
	if e.Used == 0 || e.Flags&flow.FlagPending == 0 || w.flows.Translated(slot) != entry.Reversed(rev) {
		return nil
	}
	return e
}

// mirrorTCP tells the other direction of a state change.
func (w *Worker) mirrorTCP(slot uint32, e *flow.Entry) {
	reverse := w.flows.Cold(slot).Reverse
	if reverse == flow.NoReverse {
		return
	}
	owner, at := flow.Split(reverse)
	mine := flow.Index(w.id, slot)
	if owner != w.id {
		w.tell(owner, &message{kind: msgTCP, index: reverse, peer: mine, tcp: e.TCP.Reverse()})
		return
	}
	if r := w.flows.Linked(at, mine); r != nil {
		w.setTCP(at, r, entry.MergeTCP(r.TCP, e.TCP.Reverse()))
	}
}

// ports restores what the frame alone does not say: the ports of a fragment.
func (p *pkt) ports() {
	if p.handed && p.resolved && p.Info.Frag != packet.FragNone {
		p.Info.Tuple.Sport, p.Info.Tuple.Dport = p.sport, p.dport
	}
}
