package steer

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
)

func (s *Steer) program(name string) *ebpf.Program {
	switch name {
	case steerProgFromVif:
		return s.objects.FromVif
	case steerProgFromFabric:
		return s.objects.FromFabric
	case steerProgFromPunt:
		return s.objects.FromPunt
	case steerProgToWorker:
		return s.objects.ToWorker
	}
	return nil
}

// adopt gives a predecessor's attachments our programs and attaches the punt link.
func (s *Steer) adopt(cfg Config) error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	punt := map[attachment]bool{{steerProgFromPunt, cfg.PuntOuter}: true, {steerProgToWorker, cfg.PuntInner}: true}
	for _, f := range files {
		at, ok := parsePin(f.Name())
		if !ok || s.program(at.program) == nil {
			continue
		}
		h, err := s.load(at)
		if err != nil {
			return fmt.Errorf("adopt %s: %w", f.Name(), err)
		}
		s.holds[at] = h
		onPunt := at.program == steerProgFromPunt || at.program == steerProgToWorker
		switch {
		case !h.alive():
			err = s.gone(at)
		case onPunt && !punt[at]: // of a punt link that is none any more
			err = s.detach(at)
		case (h.link == nil) != s.isFilter(at):
			err = s.change(at, h)
		default:
			err = s.update(at, h)
		}
		if err != nil {
			return fmt.Errorf("take over %s: %w", f.Name(), err)
		}
	}
	for at := range punt {
		if err := s.attach(at); err != nil {
			return fmt.Errorf("punt link: %w", err)
		}
	}
	return nil
}

// change makes a link of a filter or the other way round: for a moment both are there,
// and one of them decides.
func (s *Steer) change(at attachment, old hold) error {
	h, err := s.newHold(at)
	if err != nil {
		return err
	}
	s.holds[at] = h
	if err := errors.Join(s.unpin(at), s.pinHold(at, h)); err != nil {
		return err
	}
	return old.off()
}

// attach puts a program on a device, pinned. It does nothing where that is so.
func (s *Steer) attach(at attachment) error {
	if h, ok := s.holds[at]; ok {
		if h.alive() {
			return nil
		}
		if err := s.detach(at); err != nil { // the device is gone; another has its number
			return err
		}
	}
	h, err := s.newHold(at)
	if err != nil {
		return fmt.Errorf("attach %s to interface %d: %w", at.program, at.ifindex, err)
	}
	if err := s.pinHold(at, h); err != nil {
		return errors.Join(err, h.off())
	}
	s.holds[at] = h
	return nil
}

// detach takes a program off its device, or forgets it where the device is gone.
func (s *Steer) detach(at attachment) error {
	h, ok := s.holds[at]
	if !ok {
		return nil
	}
	delete(s.holds, at)
	if err := errors.Join(s.unpin(at), h.off()); err != nil {
		return fmt.Errorf("detach %s from interface %d: %w", at.program, at.ifindex, err)
	}
	return nil
}
