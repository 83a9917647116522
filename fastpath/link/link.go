// Package link is where frames enter and leave a worker. A Link, and every
// frame it handed out and not yet took back, belongs to one worker. It does not
// look into packets: which vif a frame belongs to stands in its Ethernet addresses.
package link

import (
	"encoding/binary"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
)

// Link moves batches of descriptors. A worker has several; its goroutine alone calls them.
type Link interface {
	// Receive fills b with the descriptors of whole packets and returns how many;
	// the run of a packet (frame.Contd) is never cut. b holds at least
	// frame.MaxRun. The chunks are the caller's until he transmits or frees them.
	Receive(b []frame.Desc) int
	// Transmit takes the first n descriptors of b, whole packets, and with them
	// their chunks; n < len(b) means there is no room for more. The rest stays
	// the caller's. Nothing need leave before Flush.
	Transmit(b []frame.Desc) int
	// Flush sends what was transmitted, and gives the chunks of what has left
	// back to the worker's pool.
	Flush()
	// Pending tells whether something has been transmitted that Flush could not
	// send: nobody tells when the device takes it.
	Pending() bool
}

// Sleeper lets a worker sleep, and others end the sleep: those that put work for
// the worker somewhere else than on its links.
type Sleeper interface {
	// Wait sleeps until one of the worker's links has something to receive, at most
	// for timeout. Only the worker calls it.
	Wait(timeout time.Duration)
	// Wake ends a running Wait, or else the next one. Safe for any goroutine.
	Wake()
}

// Ethernet addresses mean nothing in an L3 network, so they carry the vif. Towards
// the workers the destination of a frame names the vif it came from; from the
// workers the source names the vif it leaves by:
//
//	02:56:ii:ii:ii:ii    02: locally administered, unicast; i: the vif's id, big endian
const mac0, mac1 = 0x02, 0x56

// VifMAC returns the Ethernet address that stands for the vif id.
func VifMAC(id uint32) (mac [6]byte) {
	PutVif(&mac, id)
	return mac
}

// PutVif makes mac VifMAC(id).
func PutVif(mac *[6]byte, id uint32) {
	binary.BigEndian.PutUint16(mac[:], mac0<<8|mac1)
	binary.BigEndian.PutUint32(mac[2:], id)
}

// VifOf returns the vif that the first six bytes of mac stand for, and whether
// they stand for one.
func VifOf(mac []byte) (id uint32, ok bool) {
	_ = mac[5]
	return binary.BigEndian.Uint32(mac[2:]), mac[0] == mac0 && mac[1] == mac1
}
