package steer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// pin is the file an attachment is pinned at: "from_vif-12".
func (s *Steer) pin(at attachment) string {
	return filepath.Join(s.dir, at.program+"-"+strconv.Itoa(at.ifindex))
}

// parsePin undoes pin; ok is false for other files.
func parsePin(file string) (at attachment, ok bool) {
	program, number, ok := strings.Cut(file, "-")
	if !ok {
		return at, false
	}
	ifindex, err := strconv.Atoi(number)
	return attachment{program, ifindex}, err == nil
}

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
		l, err := link.LoadPinnedLink(s.pin(at), nil)
		if err != nil {
			return fmt.Errorf("adopt %s: %w", f.Name(), err)
		}
		s.links[at] = l
		onPunt := at.program == steerProgFromPunt || at.program == steerProgToWorker
		switch {
		case !alive(l):
			err = s.gone(at)
		case onPunt && !punt[at]: // of a punt link that is none any more
			err = s.detach(at)
		default:
			err = l.Update(s.program(at.program))
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

// attach puts a program on a device, pinned. It does nothing where that is so.
func (s *Steer) attach(at attachment) error {
	if l := s.links[at]; l != nil {
		if alive(l) {
			return nil
		}
		if err := s.detach(at); err != nil { // the device is gone; another has its number
			return err
		}
	}
	l, err := s.newLink(at)
	if err != nil {
		return fmt.Errorf("attach %s to interface %d: %w", at.program, at.ifindex, err)
	}
	// Not pinned is not attached: should we die here, the kernel takes it off again.
	if err := l.Pin(s.pin(at)); err != nil {
		return errors.Join(err, l.Close())
	}
	s.links[at] = l
	return nil
}

func (s *Steer) newLink(at attachment) (link.Link, error) {
	if at.program == steerProgToWorker {
		// Native: a generic program gets no fragments, and costs another copy.
		return link.AttachXDP(link.XDPOptions{Program: s.program(at.program), Interface: at.ifindex, Flags: link.XDPDriverMode})
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Program: s.program(at.program), Interface: at.ifindex, Attach: ebpf.AttachTCXIngress,
		// Before anything else: a pod's frame is for nobody but us, and of the
		// fabric's we take only what is addressed to us.
		Anchor: link.Head(),
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("this kernel has no tcx: Linux 6.6 or later is needed: %w", err)
	}
	return l, err
}

// detach takes a program off its device, or forgets it where the device is gone.
func (s *Steer) detach(at attachment) error {
	l := s.links[at]
	if l == nil {
		return nil
	}
	delete(s.links, at)
	err := l.Unpin()
	if alive(l) {
		err = errors.Join(err, l.Detach())
	}
	if err := errors.Join(err, l.Close()); err != nil {
		return fmt.Errorf("detach %s from interface %d: %w", at.program, at.ifindex, err)
	}
	return nil
}

// alive tells whether the device of l still exists; the link outlives it, attached
// to nothing.
func alive(l link.Link) bool {
	i, err := l.Info()
	if err != nil {
		return false
	}
	if x := i.XDP(); x != nil {
		return x.Ifindex != 0
	}
	t := i.TCX()
	return t != nil && t.Ifindex != 0
}
