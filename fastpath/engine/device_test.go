package engine

import (
	"errors"
	"net"
	"testing"
)

func TestDevices(t *testing.T) {
	d, err := openDevices()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 { // there is always lo
		t.Fatal("no devices to ask about", err)
	}
	most := 0
	for _, want := range all {
		most = max(most, want.Index)
		if up, err := d.up(want.Index); err != nil || up != (want.Flags&net.FlagUp != 0) {
			t.Errorf("%s: up %v, want flags %v: %v", want.Name, up, want.Flags, err)
		}
	}
	if _, err := d.up(most + 1000); !errors.Is(err, errNoDevice) {
		t.Errorf("a device that does not exist: %v", err)
	}
}
