package forward

import (
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/train"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/table"
)

// door is one of a worker's links, with what is to leave by it. Which door a packet
// leaves by depends on its vif alone.
type door struct {
	link link.Link
	// own is the only vif whose frames leave by this link: they go out as they are.
	// 0: frames of several do, and name their vif in the Ethernet source.
	own table.VifID
	// card: the link takes packets as a network card would, whole and unfinished
	// (frame.Offload).
	card bool
	// loose: tunnel packets may come with an inner checksum that their sender left to
	// a network card, and nothing says which.
	loose bool
	// joins: the kernel joins TCP segments behind the link, and is told where they end.
	joins bool
	train train.Train
	tx    []frame.Desc
	n     int // descriptors in tx
}

// AddLink gives the worker another link beside the punt link, and returns its
// number. Frames are received from it from the next turn on, and name their vif as
// everywhere; frames leave by it once Exit says so. own is the vif of the link if
// it has but one, else 0. What the worker's Sleeper must do is the caller's.
func (w *Worker) AddLink(l link.Link, own table.VifID) (number int) {
	return w.addDoor(door{link: l, own: own})
}

// AddLoose is AddLink for a link of the fabric on a veth, which carries what its
// other end left to a network card, and does no card's work.
func (w *Worker) AddLoose(l link.Link, own table.VifID) (number int) {
	return w.addDoor(door{link: l, own: own, loose: true})
}

// AddCard is AddLink for a link of many vifs that takes packets as a network card does.
func (w *Worker) AddCard(l link.Link) (number int) { return w.addDoor(door{link: l, card: true}) }

func (w *Worker) addDoor(d door) (number int) {
	d.tx = make([]frame.Desc, txSize)
	w.Do(func() {
		number = len(w.doors)
		w.doors = append(w.doors, d)
	})
	return number
}

// Exit makes what goes to the vif leave by the link of that number; 0 is the punt link.
func (w *Worker) Exit(id table.VifID, number int) {
	w.Do(func() {
		for int(id) >= len(w.exits) {
			w.exits = append(w.exits, 0)
		}
		w.exits[id] = uint8(number)
	})
}

// door is where frames for the vif leave.
func (w *Worker) door(id table.VifID) *door {
	if int(id) < len(w.exits) {
		return &w.doors[w.exits[id]]
	}
	return &w.doors[0]
}

// putSource writes the Ethernet source of a frame that leaves for v by d: the vif's own
// where nobody behind the link puts it there.
func (d *door) putSource(b *table.MAC, v *table.VifEntry) {
	if d.own == v.ID {
		*b = v.MAC
		return
	}
	link.PutVif((*[6]byte)(b), uint32(v.ID))
}

// transmit hands the batch of d to its link. What a full ring refuses twice is
// dropped, and has not been sent after all.
func (w *Worker) transmit(d *door) {
	d.train.End()
	n := d.link.Transmit(d.tx[:d.n])
	if n < d.n {
		d.link.Flush()
		n += d.link.Transmit(d.tx[n:d.n])
	}
	vif := d.own
	for i, x := range d.tx[n:d.n] {
		if i == 0 || d.tx[n+i-1].Options&frame.Contd == 0 {
			if d.own == 0 {
				vif = admit.LeavesBy(w.mem.Bytes(x)[6:])
			}
			w.count.drops[reason.TxFull]++
			w.count.vif(vif).Drops++
			w.count.sent(vif, -1, 0)
		}
		w.count.sent(vif, 0, -int(x.Len))
		w.pool.Put(x.Addr)
	}
	d.n = 0
}

// flush hands everything of the turn to the kernel.
func (w *Worker) flush() {
	for i := range w.doors {
		d := &w.doors[i]
		if d.n > 0 {
			w.transmit(d)
		}
		d.link.Flush()
	}
}
