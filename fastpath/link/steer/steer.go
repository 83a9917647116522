// Package steer loads the kernel's half of the fast path: programs that bring
// every frame of a vif to the worker that owns its flow, and bring what workers
// send to where it leaves. Programs, maps and attachments belong to the node: they
// are pinned in BPFDir, outlive every process, and are adopted by the next. It makes
// no decision about a packet but which worker decides, and creates no device.
package steer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/link/steer/clsact"
)

// Config says what to steer through.
type Config struct {
	// BPFDir holds the pins. It is made, and a bpffs mounted on it, when missing.
	BPFDir               string
	PuntOuter, PuntInner int // ifindex; see the constants of the same names
	Workers              int
	// CacheFlows is the room in the kernel's flow cache; 0: there is none, and what a
	// predecessor left in one is forgotten.
	CacheFlows int
	Attach     Attach
}

// Attach says how programs come to devices.
type Attach string

// Everything else is by tcx where the kernel has it, else by clsact.
const (
	AttachTCX    Attach = "tcx"
	AttachClsact Attach = "clsact"
)

// Steer is the open steering of a node. Its methods are safe for any goroutine.
type Steer struct {
	// Set once by Open.
	dir     string
	outer   int       // ifindex of the punt link's outer end
	devices [2]string // names of its ends, outer first
	objects steerObjects
	cache   *Cache
	clsact  bool           // programs are filters
	socket  *clsact.Socket // for them
	limits  []string
	rounds  *rounds

	mu    sync.Mutex
	holds map[attachment]hold // guarded by mu
}

// Open loads the programs and takes over what a predecessor left pinned: its vifs
// stay attached, and from here on run our programs. Until a socket is set,
// frames are dropped.
func Open(cfg Config) (*Steer, error) {
	s, err := open(cfg, probe(cfg.PuntOuter))
	if err != nil {
		return nil, fmt.Errorf("steering in %s: %w", cfg.BPFDir, err)
	}
	return s, nil
}

func open(cfg Config, can abilities) (*Steer, error) {
	if cfg.Workers < 1 || cfg.Workers > MaxWorkers {
		return nil, fmt.Errorf("%d workers: want 1 to %d", cfg.Workers, MaxWorkers)
	}
	s := &Steer{dir: cfg.BPFDir, outer: cfg.PuntOuter, holds: map[attachment]hold{}}
	for i, ifindex := range []int{cfg.PuntOuter, cfg.PuntInner} {
		dev, err := net.InterfaceByIndex(ifindex)
		if err != nil {
			return nil, fmt.Errorf("punt link, interface %d: %w", ifindex, err)
		}
		s.devices[i] = dev.Name
	}
	if err := ensureBPFFS(s.dir); err != nil {
		return nil, err
	}
	if can.cache != nil {
		cfg.CacheFlows = 0
	}
	if err := s.choose(cfg.Attach, can.tcx); err != nil {
		return nil, err
	}
	err := s.loadPrograms(&cfg, &can)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.rounds, err = mapRounds(s.objects.Rounds); err == nil {
		s.cache, err = newCache(s.objects.steerMaps, cfg.CacheFlows, can.limits())
	}
	if err == nil {
		err = s.adopt(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// choose decides how programs are attached; tcx is why they cannot be by tcx.
func (s *Steer) choose(want Attach, tcx error) (err error) {
	switch {
	case want == AttachClsact:
		s.clsact = true
	case want != AttachTCX && errors.Is(tcx, ebpf.ErrNotSupported):
		s.limits = append(s.limits, "This kernel has no tcx (Linux 6.6 has): programs are attached by clsact, where other software may put its own before them.")
		s.clsact = true
	case tcx != nil:
		return fmt.Errorf("attach by tcx: %w", tcx)
	}
	s.socket, err = clsact.Open()
	return err
}

// Limits are sentences about what this kernel cannot do, the cache's not among them.
func (s *Steer) Limits() []string { return s.limits }

// loadPrograms loads them with the flow cache if that is wanted, or else without.
func (s *Steer) loadPrograms(cfg *Config, can *abilities) error {
	err := s.loadObjects(cfg, can)
	if err == nil || cfg.CacheFlows == 0 {
		return err
	}
	cfg.CacheFlows, can.cache = 0, err
	return s.loadObjects(cfg, can)
}

// loadObjects loads maps, pinned or new, and programs into the kernel.
func (s *Steer) loadObjects(cfg *Config, can *abilities) error {
	spec, err := loadSteer()
	if err != nil {
		return err
	}
	if cfg.CacheFlows > 0 {
		// Any mixture of both families has room.
		spec.Maps[steerMapCache4].MaxEntries = uint32(cfg.CacheFlows)
		spec.Maps[steerMapCache6].MaxEntries = uint32(cfg.CacheFlows)
	} else {
		for _, name := range cacheMaps { // nobody looks there
			spec.Maps[name].MaxEntries = 1
		}
	}
	for name, m := range spec.Maps {
		if slices.Contains(mapNames, name) || cfg.CacheFlows > 0 && slices.Contains(cacheMaps, name) { // .rodata belongs to this load of the programs
			m.Pinning = ebpf.PinByName
		}
	}
	if err := s.unpinOthers(spec); err != nil {
		return err
	}
	for name, value := range map[string]any{
		steerVarPunt: uint32(cfg.PuntOuter), steerVarWorkers: uint32(cfg.Workers),
		steerVarCaching: flag(cfg.CacheFlows > 0), steerVarDecap6: flag(can.decap6),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return err
		}
	}
	for _, p := range spec.Programs {
		if s.clsact && p.AttachType == ebpf.AttachTCXIngress {
			p.AttachType = ebpf.AttachNone // which older kernels do not know
		}
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: s.dir}}
	if err := spec.LoadAndAssign(&s.objects, opts); err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	return nil
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// mapNames are the maps of steering and cacheMaps those of the flow cache, each pinned in a
// file of its name.
var (
	mapNames  = []string{steerMapDrops, steerMapExits, steerMapSeats, steerMapSockets, steerMapSources, steerMapTunnels}
	cacheMaps = []string{steerMapCache4, steerMapCache6, steerMapGenerations, steerMapNextHops, steerMapPeers, steerMapSlots}
)

// formerCache is a map that was one of the cache's: where it is, all of them are as they were then.
const formerCache = "cache"

// unpinOthers removes the pins of maps that are not as spec says: another version's, or
// of a cache that is to be none or another size.
//
// Where those of steering go, attachments stay and get our programs, which know no device
// yet: pods are mute until their vifs are attached again, and no frame passes by us.
// Those of the cache go alone: its flows go up until they are put there again.
func (s *Steer) unpinOthers(spec *ebpf.CollectionSpec) error {
	for _, names := range [][]string{mapNames, append(cacheMaps, formerCache)} {
		same := true
		for _, name := range names {
			m, err := ebpf.LoadPinnedMap(filepath.Join(s.dir, name), nil)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("map %s: %w", name, err)
			}
			same = same && spec.Maps[name] != nil && spec.Maps[name].Pinning == ebpf.PinByName && spec.Maps[name].Compatible(m) == nil
			m.Close()
		}
		if same {
			continue
		}
		for _, name := range names {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Cache is the kernel's flow cache, with no room if there is none.
func (s *Steer) Cache() *Cache { return s.cache }

// SetSocket makes fd, an AF_XDP socket bound to that queue of the punt link's
// inner end, receive what is steered to worker queue. When the socket's process
// ends, the kernel takes it out again.
func (s *Steer) SetSocket(queue, fd int) error {
	if err := s.objects.Sockets.Put(uint32(queue), uint32(fd)); err != nil {
		return fmt.Errorf("socket of queue %d: %w", queue, err)
	}
	return nil
}

// Round is where a worker says that it begins a round, by another number than 0: when all that
// waited for it at the beginning of the last one has been taken. In a round, each pod may
// send it so much and no more. Valid until Close.
func (s *Steer) Round(worker int) *atomic.Uint32 { return s.rounds.of(worker) }

// Close lets go of the programs; what is pinned stays and goes on working.
func (s *Steer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.objects.Close()
	if s.cache != nil {
		err = errors.Join(err, s.cache.close())
	}
	if s.rounds != nil {
		err = errors.Join(err, s.rounds.close())
	}
	for at, h := range s.holds {
		err = errors.Join(err, h.close())
		delete(s.holds, at)
	}
	if s.socket != nil {
		s.socket.Close()
	}
	return err
}
