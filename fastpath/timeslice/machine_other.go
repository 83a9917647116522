//go:build !amd64 && !arm64

package timeslice

// No runtime is known on this machine: Find says so.
func current() uintptr { return 0 }

func renew(m, p, tick uintptr) {}
