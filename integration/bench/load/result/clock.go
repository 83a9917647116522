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

// ticks of /proc/stat's first lines, 1/userHZ s.
type ticks struct {
	idle, softirq, steal uint64
	processors           int
}

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
		Machine: m.busySince(c.machine, passed),
		Softirq: float64(m.softirq-c.machine.softirq) / userHZ,
		Steal:   float64(m.steal-c.machine.steal) / userHZ,
	}
}

// busySince is the time that was neither idle nor stolen. The kernel samples what
// a busy processor does by its tick, and misses who wakes and sleeps between two
// of them; idle time it measures.
func (t ticks) busySince(before ticks, passed time.Duration) float64 {
	idle := float64(t.idle-before.idle+t.steal-before.steal) / userHZ
	return max(passed.Seconds()*float64(t.processors)-idle, 0)
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
	return parseTicks(string(b))
}

// parseTicks reads "cpu user nice system idle iowait irq softirq steal guest …",
// and counts the lines of processors that follow.
func parseTicks(stat string) ticks {
	line, rest, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return ticks{}
	}
	var v [8]uint64
	for i := range v {
		v[i], _ = strconv.ParseUint(f[i+1], 10, 64)
	}
	return ticks{idle: v[3] + v[4], softirq: v[6], steal: v[7], processors: strings.Count(rest, "cpu")}
}
