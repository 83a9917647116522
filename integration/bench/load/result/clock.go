package result

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userHZ is the unit of /proc/stat, the same on every architecture Go runs on.
const userHZ = 100

// Clock measures time and processor time since Start.
type Clock struct {
	start   time.Time
	process time.Duration
	machine ticks
}

// ticks of /proc/stat's first line, 1/userHZ s.
type ticks struct{ busy, softirq, steal uint64 }

// Start begins a measurement.
func Start() Clock {
	return Clock{start: time.Now(), process: processTime(), machine: machineTicks()}
}

// Stop returns what passed since Start.
func (c Clock) Stop() (time.Duration, CPU) {
	passed := time.Since(c.start)
	m := machineTicks()
	return passed, CPU{
		Process: (processTime() - c.process).Seconds(),
		Machine: float64(m.busy-c.machine.busy) / userHZ,
		Softirq: float64(m.softirq-c.machine.softirq) / userHZ,
		Steal:   float64(m.steal-c.machine.steal) / userHZ,
	}
}

func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func machineTicks() ticks {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return parseTicks(line)
}

// parseTicks reads "cpu user nice system idle iowait irq softirq steal guest …".
func parseTicks(line string) ticks {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return ticks{}
	}
	var v [8]uint64
	for i := range v {
		v[i], _ = strconv.ParseUint(f[i+1], 10, 64)
	}
	return ticks{busy: v[0] + v[1] + v[2] + v[5] + v[6], softirq: v[6], steal: v[7]}
}
