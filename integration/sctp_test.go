package integration

import (
	"encoding/binary"
	"hash/crc32"
)

// sctpInit is an INIT chunk with its header (RFC 9260 section 3.3.2).
func sctpInit(sport, dport uint16) []byte {
	b := make([]byte, 12+20)
	binary.BigEndian.PutUint16(b[0:], sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12] = 1                                  // INIT
	binary.BigEndian.PutUint16(b[14:], 20)     // chunk length
	binary.BigEndian.PutUint32(b[16:], 0x1234) // initiate tag
	binary.BigEndian.PutUint32(b[20:], 65536)  // a_rwnd
	binary.BigEndian.PutUint16(b[24:], 1)      // outbound streams
	binary.BigEndian.PutUint16(b[26:], 1)      // inbound streams
	putSCTPSum(b)
	return b
}

// putSCTPSum writes the CRC32c of the whole packet (RFC 9260 appendix A).
func putSCTPSum(b []byte) {
	copy(b[8:12], []byte{0, 0, 0, 0})
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
