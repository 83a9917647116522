package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/fabric"
	"github.com/vragent/vragent/fastpath/table"
)

// fabricLinks are the workers' own links to the fabric NIC (fabric.io: afxdp).
// Where there can be none, tunnel packets take the punt link, as with tcx.
type fabricLinks struct {
	// Set once by openPlane.
	wanted bool
	cfg    fabric.Config

	// Guarded by the engine's mu.
	listen bool // the workers run

	// Written under mu, read by anyone.
	nic   atomic.Pointer[fabric.Fabric] // nil: not open
	fault atomic.Pointer[error]         // why it is not
	lost  atomic.Pointer[error]         // why this process cannot go on
}

// openFabric prepares for the fabric vif. What a predecessor attached goes if it is
// not wanted any more.
func (p *plane) openFabric(cfg *Config, pools []*frame.Pool) error {
	p.fabric.wanted = cfg.FabricXDP
	p.fabric.cfg = fabric.Config{BPFDir: filepath.Join(cfg.RunDir, pinsDir), UMEM: p.umem, Pools: pools, Busy: cfg.Busy}
	if cfg.FabricXDP {
		return nil
	}
	return fabric.Remove(p.fabric.cfg.BPFDir)
}

// frames is how many packet buffers each worker has: as many again for the fabric's
// rings, which hold half of them.
func (c *Config) frames() int {
	if c.FabricXDP {
		return 2 * c.Frames
	}
	return c.Frames
}

// attachFabric makes the fabric vif's device a link of the workers. It is no error
// that it cannot be: steering has the device too, and the fault is told in status.
func (p *plane) attachFabric(v table.Vif, log *slog.Logger) error {
	f := &p.fabric
	if !f.wanted {
		return nil
	}
	if nic := f.nic.Load(); nic != nil {
		err := nic.Update(v)
		if errors.Is(err, fabric.ErrMoved) {
			f.lost.Store(&err)
		}
		return err
	}
	nic, err := fabric.Open(f.cfg, v)
	if err != nil {
		err = errors.Join(err, fabric.Remove(f.cfg.BPFDir))
		f.fault.Store(&err)
		log.Warn("tunnel packets take the punt link", "error", err)
		return nil
	}
	f.nic.Store(nic)
	f.fault.Store(nil)
	p.giveFabric(nic, v.ID)
	log.Info("tunnel packets go straight to the workers", "device", v.Name)
	if f.listen {
		return nic.Listen()
	}
	return nil
}

// giveFabric gives each worker its links to the fabric. What it sends goes by the
// first; a worker that has none sends by the punt link.
func (p *plane) giveFabric(nic *fabric.Fabric, vif table.VifID) {
	for i, w := range p.workers {
		links := nic.Links(i)
		most := p.fabric.cfg.Pools[i].Cap() / 2 / max(1, len(links))
		for j, s := range links {
			w.Do(func() { // the pool and the sleeper are the worker's
				s.Fill(most)
				p.sleepers[i].Add(s.FD())
			})
			add := w.AddLink
			if nic.Loose() {
				add = w.AddLoose
			}
			if number := add(s, vif); j == 0 {
				w.Exit(vif, number)
			}
		}
	}
}

// listenFabric lets tunnel packets in: the workers run from now on.
func (p *plane) listenFabric() error {
	p.fabric.listen = true
	if nic := p.fabric.nic.Load(); nic != nil {
		return nic.Listen()
	}
	return nil
}

// check says why the sockets are deaf for good: a successor finds the device anew.
func (f *fabricLinks) check(d devices) error {
	if err := f.lost.Load(); err != nil {
		return *err
	}
	nic := f.nic.Load()
	if nic == nil {
		return nil
	}
	if _, err := d.up(nic.Ifindex()); err != nil {
		return fmt.Errorf("fabric: its device is gone: %w", err)
	}
	return nil
}

func (f *fabricLinks) limits() []string {
	if err := f.fault.Load(); err != nil {
		return []string{fmt.Sprintf("fabric.io: afxdp is not possible, tunnel packets take the punt link: %v", *err)}
	}
	if nic := f.nic.Load(); nic != nil {
		return nic.Limits()
	}
	return nil
}

func (f *fabricLinks) close() error {
	if nic := f.nic.Load(); nic != nil {
		return nic.Close()
	}
	return nil
}
