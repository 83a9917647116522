//go:build amd64 || arm64

package timeslice

// current is the address of the running goroutine's g.
func current() uintptr

// renew adds one to what lies at tick of what p of what m of the goroutine points to.
// The runtime does not interrupt assembly: the processor stays the goroutine's.
func renew(m, p, tick uintptr)
