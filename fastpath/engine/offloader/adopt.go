package offloader

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/table"
)

// adopts says that the user plane knows the flow r, and that it comes and goes as it did: of a
// connection whose ports another has, an entry may be left.
func (o *Offloader) adopts(t *table.Tables, r *offload.Record) (life uint8, ok bool) {
	e, ok, _ := o.entry(r.Index)
	if !ok || r.Handover != 0 || e.Key().Tuple != r.Tuple || e.Translated() != r.To || e.NH != r.NH || r.Push != 0 && table.Label(r.Push) != e.Label() ||
		e.Flags&flow.FlagOffloaded == 0 || o.byIndex[r.Index] != nil {
		return 0, false
	}
	from := via(t, &r.Flow)
	return e.Life, holds(t, &r.Flow, from) && (uint32(from) == e.KeyNH || t.NH(from).Type == table.NHVRFTranslate)
}

// adopt takes over the flows of the cache whose entries were taken over too. Of those
// that were changing hands nobody knows how far they were: they go up again. How
// much of a flow its entry had heard of is noted.
func (o *Offloader) adopt(t *table.Tables) {
	var strangers []offload.Key
	var dead []uint32
	noted := o.noted()
	err := o.Cache.Records(func(r *offload.Record) {
		life, ok := o.adopts(t, r)
		if !ok {
			strangers = append(strangers, r.Key)
			return
		}
		k := &kept{key: r.Key, index: r.Index, life: life, path: path(t, uint32(receiver(t, r.From)), &r.Flow), found: o.round, last: r.Stats, heard: r.Stats}
		if at, ok := noted[r.Index]; ok {
			delete(noted, r.Index)
			k.note = at
			_, k.heard.Packets, k.heard.Bytes, _ = o.Notes.get(at)
		} else {
			o.note(k)
			o.Notes.set(k.note, k.index, r.Packets, r.Bytes)
		}
		o.byKey[k.key], o.byIndex[k.index] = k, k
		o.count.Adopted++
		// What its scope and next hop were may be no more: update does not come there.
		if scope := t.NH(table.NextHopID(r.Scope)); scope.Gen == 0 {
			o.Cache.SetGeneration(r.Scope, 0)
		}
		if t.NH(table.NextHopID(r.NH)).Gen == 0 {
			dead = append(dead, r.NH)
		}
	})
	if err != nil {
		o.failed("read the flows of the predecessor", err)
	}
	for _, at := range noted { // of flows that are not there
		o.Notes.clear(at)
		o.free = append(o.free, at)
	}
	for _, key := range strangers {
		if _, err := o.Cache.Delete(key); err != nil {
			o.failed("delete a flow of the predecessor", err)
		}
	}
	if len(dead) > 0 {
		if err := o.Cache.RemoveNextHops(dead); err != nil {
			o.failed("remove next hops of the predecessor", err)
		}
	}
}

// settle makes entries forget that they were given to the kernel, unless they are there
// still.
func (o *Offloader) settle() {
	for worker, t := range o.Flows {
		t.Scan(t.Slots(), func(slot uint32, e *flow.Entry) {
			if e.Flags&flow.FlagOffloaded != 0 && o.byIndex[flow.Index(worker, slot)] == nil {
				e.Flags &^= flow.FlagOffloaded | flow.FlagBulk
			}
		})
	}
}

// via is what the interface or label of a flow leads to now.
func via(t *table.Tables, f *offload.Flow) table.NextHopID {
	if f.From&offload.FromLabel != 0 {
		nh, _ := t.Label(table.Label(f.From &^ offload.FromLabel))
		return nh
	}
	if v := t.Vif(table.VifID(f.From)); v != nil {
		return v.NH
	}
	return 0
}

// receiver is the vif that receives what is from from.
func receiver(t *table.Tables, from uint32) (id table.VifID) {
	if from&offload.FromLabel == 0 {
		return table.VifID(from)
	}
	t.Vifs(func(v *table.VifEntry) {
		if v.Kind == table.VifFabric {
			id = v.ID
		}
	})
	return id
}
