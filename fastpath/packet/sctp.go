package packet

import (
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is the polynomial of SCTP (RFC 9260 appendix A). Read only.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SCTPChecksum returns the CRC32c of the SCTP packet that lies in parts, one
// after the other, as its checksum field (which must hold 0) stores it: little endian.
func SCTPChecksum(parts ...[]byte) uint32 {
	crc := uint32(0)
	for _, p := range parts {
		crc = crc32.Update(crc, castagnoli, p)
	}
	return crc
}

// PutSCTPChecksum computes and stores the checksum of the SCTP packet that begins
// at b[l4:] and goes on in tails. b and tails must end where the IP packet ends:
// Ethernet padding does not count.
func PutSCTPChecksum(b []byte, l4 int, tails ...[]byte) {
	h := b[l4:]
	put32(h[sctpChecksum:], 0)
	crc := SCTPChecksum(h)
	for _, p := range tails {
		crc = crc32.Update(crc, castagnoli, p)
	}
	binary.LittleEndian.PutUint32(h[sctpChecksum:], crc)
}
