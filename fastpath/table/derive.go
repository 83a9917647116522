package table

// derive resolves what the edit changed and everything that depends on it, from
// the leaves up: vifs, next hops that send, composites, services. On the way it
// collects the next hops whose generation moves (see Builder).
func (e *edit) derive() {
	d := derivation{edit: e, composites: map[NextHopID]struct{}{}, services: map[NextHopID]struct{}{}}
	for id, v := range e.vifs {
		if v != nil {
			v.ports.Index()
			d.delivering(id)
		}
	}
	for id, old := range e.was {
		d.changed(id, old)
	}
	for id := range d.composites {
		e.own(id).resolve(&e.tables)
		e.bump[id] = struct{}{}
		d.affect(id, NHService)
	}
	for id := range d.services {
		e.own(id).resolve(&e.tables)
		e.bump[id] = struct{}{}
	}
	for id := range e.routed {
		e.bump[id] = struct{}{}
		d.descend(e.tables.NH(id))
	}
	for id, old := range e.was {
		d.descend(old)
		d.descend(e.tables.NH(id))
	}
}

// derivation is what derive has still to resolve.
type derivation struct {
	*edit
	composites, services map[NextHopID]struct{}
}

// delivering resolves the next hops by which packets leave for a changed vif: they lead
// to it as it is now, and their frame headers are made of its MAC.
func (d *derivation) delivering(id VifID) {
	for _, nh := range d.index.vifNHs.get(uint32(id)) {
		if !mayBeMember(d.tables.NH(nh).Type) {
			continue
		}
		d.own(nh).resolve(&d.tables)
		if has(d.remapped, id) {
			d.bump[nh] = struct{}{}
			d.affect(nh, NHComposite)
		}
	}
}

// changed resolves a next hop that was old, or leaves it for later if it
// depends on others.
func (d *derivation) changed(id NextHopID, old *NH) {
	n := d.tables.nhs.get(uint32(id))
	if n == nil {
		return
	}
	d.bump[id] = struct{}{}
	switch n.Type {
	case NHComposite:
		d.composites[id] = struct{}{}
	case NHService:
		d.services[id] = struct{}{}
	default:
		d.own(id).resolve(&d.tables)
		if old == nil || old.Usable != n.Usable || old.Type != n.Type || old.Vif != n.Vif {
			d.affect(id, NHComposite)
			d.affect(id, NHService)
		}
	}
}

// affect has those next hops of type t resolved that list id. (Until a replay
// is in sync, a service may list what is no composite any more.)
func (d *derivation) affect(id NextHopID, t NHType) {
	set := d.composites
	if t == NHService {
		set = d.services
	}
	for _, user := range d.index.users.get(uint32(id)) {
		if d.tables.NH(user).Type == t {
			set[user] = struct{}{}
		}
	}
}

// descend moves the composites of a service that changed or is led to by other routes.
func (d *derivation) descend(n *NH) {
	if n != nil && n.Type == NHService {
		for _, l := range n.Listeners {
			d.bump[l.NH] = struct{}{}
			if l.OutsideNH != 0 {
				d.bump[l.OutsideNH] = struct{}{}
			}
		}
	}
}

// own returns a next hop that this edit may change.
func (e *edit) own(id NextHopID) *NH {
	if n := e.nhs[id]; n != nil {
		return n
	}
	n := *e.tables.NH(id)
	e.nhs[id] = &n
	e.tables.nhs.set(e.stamp, uint32(id), &n)
	e.changed = true
	return &n
}

// stampGenerations gives gen to every next hop whose generation moves.
func (e *edit) stampGenerations(gen uint32) {
	for id := range e.bump {
		if e.tables.nhs.get(uint32(id)) != nil {
			e.own(id).Gen = gen
		}
	}
}
