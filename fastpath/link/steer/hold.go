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

	"github.com/vragent/vragent/fastpath/link/steer/clsact"
)

// attachment names what is pinned: which program is on which device.
type attachment struct {
	program string
	ifindex int
}

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

// hold is an attachment that is there: a link, or a filter of clsact. Of the link the
// pin is what keeps it; a filter keeps itself, and its pin, of the program, is only to
// be found by.
type hold struct {
	link   link.Link // nil: a filter
	filter clsact.Filter
}

// load takes over what a predecessor has pinned.
func (s *Steer) load(at attachment) (hold, error) {
	l, err := link.LoadPinnedLink(s.pin(at), nil)
	if err == nil {
		return hold{link: l}, nil
	}
	p, perr := ebpf.LoadPinnedProgram(s.pin(at), nil)
	if perr != nil {
		return hold{}, err
	}
	return hold{filter: s.filter(at)}, p.Close()
}

func (s *Steer) filter(at attachment) clsact.Filter {
	return clsact.Filter{Socket: s.socket, Ifindex: at.ifindex, Name: at.program}
}

// isFilter says how a program is to be attached.
func (s *Steer) isFilter(at attachment) bool { return s.clsact && at.program != steerProgToWorker }

// newHold attaches the program of at, and does not pin it yet: should we die here, the
// kernel takes a link off again.
func (s *Steer) newHold(at attachment) (hold, error) {
	p := s.program(at.program)
	if s.isFilter(at) {
		f := s.filter(at)
		return hold{filter: f}, f.Put(p)
	}
	if at.program == steerProgToWorker {
		// Native: a generic program gets no fragments, and costs another copy.
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: at.ifindex, Flags: link.XDPDriverMode})
		return hold{link: l}, err
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Program: p, Interface: at.ifindex, Attach: ebpf.AttachTCXIngress,
		// Before anything else: a pod's frame is for nobody but us, and of the
		// fabric's we take only what is addressed to us.
		Anchor: link.Head(),
	})
	return hold{link: l}, err
}

// pinHold makes the attachment one that a successor finds.
func (s *Steer) pinHold(at attachment, h hold) error {
	if h.link != nil {
		return h.link.Pin(s.pin(at))
	}
	p, err := s.program(at.program).Clone() // a program knows of one pin
	if err != nil {
		return err
	}
	// A name with a dot is the kernel's. What is left of this is no attachment, and goes with all.
	fresh := filepath.Join(s.dir, "new_"+filepath.Base(s.pin(at)))
	_ = os.Remove(fresh)
	err = p.Pin(fresh)
	if err == nil {
		err = os.Rename(fresh, s.pin(at))
	}
	return errors.Join(err, p.Close())
}

// update makes an attachment run our program.
func (s *Steer) update(at attachment, h hold) error {
	if h.link != nil {
		return h.link.Update(s.program(at.program))
	}
	if err := h.filter.Put(s.program(at.program)); err != nil {
		return err
	}
	return s.pinHold(at, h)
}

// unpin removes the pin of an attachment, if it has one.
func (s *Steer) unpin(at attachment) error {
	if err := os.Remove(s.pin(at)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// off takes an attachment off its device, if that is there.
func (h hold) off() error {
	if h.link == nil {
		return h.filter.Remove()
	}
	var err error
	if h.alive() {
		err = h.link.Detach() // unpinning is not enough while a process holds it
	}
	return errors.Join(err, h.link.Close())
}

// close lets go of an attachment, which stays.
func (h hold) close() error {
	if h.link == nil {
		return nil
	}
	return h.link.Close()
}

// alive tells whether the device still exists and runs the program; a link outlives
// it, attached to nothing.
func (h hold) alive() bool {
	if h.link == nil {
		id, err := h.filter.Running()
		return err == nil && id != 0
	}
	i, err := h.link.Info()
	if err != nil {
		return false
	}
	if x := i.XDP(); x != nil {
		return x.Ifindex != 0
	}
	t := i.TCX()
	return t != nil && t.Ifindex != 0
}

// removeHold takes off its device what is pinned at path. Processes may hold it still.
func removeHold(path string, at attachment) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		return hold{link: l}.off()
	}
	p, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return nil // neither: not an attachment
	}
	defer p.Close()
	socket, err := clsact.Open()
	if err != nil {
		return err
	}
	defer socket.Close()
	// In another network namespace the number is another device's.
	f := clsact.Filter{Socket: socket, Ifindex: at.ifindex, Name: at.program}
	info, err := p.Info()
	if err != nil {
		return err
	}
	if id, _ := info.ID(); id != 0 {
		running, err := f.Running()
		if err != nil || running != id {
			return err
		}
	}
	if err := f.Remove(); err != nil {
		return fmt.Errorf("take %s off interface %d: %w", at.program, at.ifindex, err)
	}
	return nil
}
