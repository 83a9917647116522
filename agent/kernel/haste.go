package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// expedited is the kernel's switch: grace periods of RCU end within microseconds,
// at the price of interrupting every core.
const expedited = "/sys/kernel/rcu_expedited"

const (
	hasteFrom = 4           // requests at once from which grace periods are hastened
	hasteLast = time.Second // for so long after the last of them
)

// Haste shortens the kernel's grace periods while many pods come or go at once.
// Attaching a tcx program waits for one, 5 to 15 ms, and holds the lock that
// every change of a link needs: 60 pods that start together would take a second.
type Haste struct {
	// Set once by NewHaste.
	file string // the switch
	note string // remembers its value across a crash

	// Guarded by mu.
	mu    sync.Mutex
	under int       // requests under way
	busy  time.Time // when there were many last
	on    bool
}

// NewHaste undoes what a predecessor that was killed left, and keeps its notes in
// the run directory. Whether that was possible is said by Close.
func NewHaste(runDir string) *Haste {
	h := &Haste{file: expedited, note: filepath.Join(runDir, "rcu_expedited")}
	_ = h.restore()
	return h
}

// Enter says that a request is under way, until leave is called.
func (h *Haste) Enter() (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under++; h.under >= hasteFrom {
		h.busy = time.Now()
		if !h.on {
			h.on = true
			h.begin()
		}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.under--
	}
}

// Tick ends the haste when it is over. It comes a few times a second.
func (h *Haste) Tick(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under >= hasteFrom {
		h.busy = now
	}
	if !h.on || now.Sub(h.busy) <= hasteLast {
		return nil
	}
	h.on = false
	return h.restore()
}

// Close ends the haste.
func (h *Haste) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on = false
	return h.restore()
}

// begin moves the switch; somebody who has moved it before is left alone. Where
// it cannot be moved (a container that may not write /sys) pods only come slower.
func (h *Haste) begin() {
	was, err := os.ReadFile(h.file)
	if err != nil || strings.TrimSpace(string(was)) != "0" || os.WriteFile(h.note, was, 0o600) != nil {
		return
	}
	if os.WriteFile(h.file, []byte("1"), 0) != nil {
		_ = os.Remove(h.note)
	}
}

// restore moves the switch back to where the note says it was.
func (h *Haste) restore() error {
	was, err := os.ReadFile(h.note)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.WriteFile(h.file, was, 0)
	}
	if err != nil {
		return fmt.Errorf("switch expedited grace periods off again: %w", err)
	}
	return os.Remove(h.note)
}
