package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/table"
)

// AttachVif steers the frames of v's device, and delivers frames to it. Repeating
// it does nothing; another device, address or kind takes the place of the old one.
// For the fabric vif, v.Addrs are the node's tunnel addresses. The device should
// still be down: what it receives before is not ours.
func (s *Steer) AttachVif(v table.Vif) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.attachVif(&v); err != nil {
		return fmt.Errorf("attach vif %d (%s): %w", v.ID, v.Name, err)
	}
	return nil
}

func (s *Steer) attachVif(v *table.Vif) error {
	if v.ID == 0 || v.Ifindex <= 0 {
		return errors.New("vif id and ifindex must be above 0")
	}
	e := steerExit{Ifindex: uint32(v.Ifindex), Source: table.RouterMAC}
	at := attachment{steerProgFromVif, v.Ifindex}
	switch v.Kind {
	case table.VifVirtual:
		e.Pod = 1
	case table.VifHost:
	case table.VifFabric:
		e.Source = v.MAC
		at.program = steerProgFromFabric
	default:
		return fmt.Errorf("unknown kind %q", v.Kind)
	}
	if err := s.replace(v, at); err != nil {
		return err
	}
	// Maps first: a program that does not know its device drops.
	err := s.enter(v, e)
	if err == nil {
		err = s.attach(at)
	}
	if err != nil {
		return errors.Join(err, s.forget(v.ID))
	}
	return nil
}

// replace forgets what is at odds with v: its own entry for another device or
// another program, another vif's entry for its device.
func (s *Steer) replace(v *table.Vif, at attachment) error {
	old, ok, err := get[steerExit](s.objects.Exits, uint32(v.ID))
	if err != nil {
		return err
	}
	_, held := s.holds[at]
	if ok && (int(old.Ifindex) != v.Ifindex || !held) {
		if err := s.forget(v.ID); err != nil {
			return err
		}
	}
	if v.Kind == table.VifFabric {
		// The program for pods would drop what is the node's.
		if err := s.detach(attachment{steerProgFromVif, v.Ifindex}); err != nil {
			return err
		}
	}
	other, ok, err := get[uint32](s.objects.Sources, uint32(v.Ifindex))
	if err != nil {
		return err
	}
	if ok && other != uint32(v.ID) {
		return s.forget(table.VifID(other))
	}
	return nil
}

// enter writes the entries of v.
func (s *Steer) enter(v *table.Vif, e steerExit) error {
	if err := s.objects.Exits.Put(uint32(v.ID), e); err != nil {
		return err
	}
	if v.Kind != table.VifFabric {
		return errors.Join(s.objects.Sources.Put(e.Ifindex, uint32(v.ID)), s.objects.Seats.Put(s.seat(e.Ifindex), steerSeat{Ifindex: e.Ifindex, Vif: uint32(v.ID)}))
	}
	var want []steerTunnel
	for _, a := range v.Addrs {
		if a = a.Unmap(); a.Is4() { // tunnels run over IPv4
			want = append(want, steerTunnel{Ifindex: e.Ifindex, Addr: wire(a)})
		}
	}
	if len(want) == 0 {
		return errors.New("a fabric vif needs an IPv4 tunnel address")
	}
	for _, t := range want {
		if err := s.objects.Tunnels.Put(t, uint32(v.ID)); err != nil {
			return err
		}
	}
	return s.dropTunnels(v.ID, want)
}

// dropTunnels removes the tunnel addresses of vif id but those in keep.
func (s *Steer) dropTunnels(id table.VifID, keep []steerTunnel) error {
	var at steerTunnel
	var owner uint32
	var gone []steerTunnel
	it := s.objects.Tunnels.Iterate()
	for it.Next(&at, &owner) {
		if owner == uint32(id) && !slices.Contains(keep, at) {
			gone = append(gone, at)
		}
	}
	err := it.Err()
	for _, t := range gone {
		err = errors.Join(err, remove(s.objects.Tunnels, t))
	}
	return err
}

// DetachVif stops steering for the vif. While a pod's device still exists, its frames are
// dropped: the host's stack must not see them. Repeating it does nothing.
func (s *Steer) DetachVif(id table.VifID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.forget(id), s.sweep()); err != nil {
		return fmt.Errorf("detach vif %d: %w", id, err)
	}
	return nil
}

// forget removes the entries of a vif, and our program from the fabric NIC.
func (s *Steer) forget(id table.VifID) error {
	e, ok, err := get[steerExit](s.objects.Exits, uint32(id))
	if err != nil || !ok {
		return err
	}
	err = s.detach(attachment{steerProgFromFabric, int(e.Ifindex)})
	err = errors.Join(err, s.dropTunnels(id, nil))
	if owner, ok, _ := get[uint32](s.objects.Sources, e.Ifindex); ok && owner == uint32(id) {
		err = errors.Join(err, remove(s.objects.Sources, e.Ifindex), s.vacate(e.Ifindex))
	}
	return errors.Join(err, remove(s.objects.Exits, uint32(id)))
}

// seat is where in seats a device may be.
func (s *Steer) seat(ifindex uint32) uint32 { return ifindex % s.objects.Seats.MaxEntries() }

// vacate takes a device off its seat, if no other has taken it.
func (s *Steer) vacate(ifindex uint32) error {
	at := s.seat(ifindex)
	if on, _, err := get[steerSeat](s.objects.Seats, at); err != nil || on.Ifindex != ifindex {
		return err
	}
	return s.objects.Seats.Put(at, steerSeat{})
}

// sweep forgets the attachments whose device is gone.
func (s *Steer) sweep() error {
	var err error
	for at, h := range s.holds {
		if !h.alive() {
			err = errors.Join(err, s.gone(at))
		}
	}
	return err
}

// gone forgets an attachment whose device is gone, and the vif it was of.
func (s *Steer) gone(at attachment) error {
	var ids []uint32
	var id uint32
	var e steerExit
	it := s.objects.Exits.Iterate()
	for it.Next(&id, &e) {
		if int(e.Ifindex) == at.ifindex {
			ids = append(ids, id)
		}
	}
	err := errors.Join(it.Err(), s.detach(at))
	for _, id := range ids {
		err = errors.Join(err, s.forget(table.VifID(id)))
	}
	return err
}

// Vifs returns the vifs that are attached, in order of their ids. A vif whose
// device has gone is none of them, and is forgotten.
func (s *Steer) Vifs() ([]table.VifID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("list vifs: %w", err)
	}
	var ids []table.VifID
	var id uint32
	var e steerExit
	it := s.objects.Exits.Iterate()
	for it.Next(&id, &e) {
		for _, program := range []string{steerProgFromVif, steerProgFromFabric} {
			if h, ok := s.holds[attachment{program, int(e.Ifindex)}]; ok && h.alive() {
				ids = append(ids, table.VifID(id))
				break
			}
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list vifs: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// wire returns an IPv4 address as it lies in a packet.
func wire(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func get[V any](m *ebpf.Map, key any) (v V, ok bool, err error) {
	err = m.Lookup(key, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return v, false, nil
	}
	return v, err == nil, err
}

func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
