// Package packet reads and rewrites packet headers in place: IPv4, IPv6, TCP,
// UDP, SCTP, ICMP, ARP, ND and the MPLS over UDP tunnel. It owns no state:
// every function works on the bytes it is given and allocates nothing. It does
// not decide what happens to a packet, verify payloads or reassemble fragments.
package packet

import "encoding/binary"

// IP protocol numbers (IANA).
const (
	ProtoHopByHop uint8 = 0
	ProtoICMP     uint8 = 1
	ProtoTCP      uint8 = 6
	ProtoUDP      uint8 = 17
	ProtoRouting  uint8 = 43
	ProtoFragment uint8 = 44
	ProtoICMPv6   uint8 = 58
	ProtoDestOpts uint8 = 60
	ProtoSCTP     uint8 = 132
)

// Ethernet types.
const (
	TypeIPv4 uint16 = 0x0800
	TypeARP  uint16 = 0x0806
	TypeIPv6 uint16 = 0x86dd
)

// Header lengths in bytes, without options.
const (
	EthernetLen = 14
	IPv4Len     = 20
	IPv6Len     = 40
	UDPLen      = 8
	TCPLen      = 20
	SCTPLen     = 12
	ICMPLen     = 8 // of ICMP and ICMPv6: type, code, checksum and four more
	MPLSLen     = 4
	ARPLen      = 28
)

// TCP flags.
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Where fields lie, in bytes from the start of their header.
const (
	ipv4Checksum = 10
	ipv4Src      = 12
	ipv4Dst      = 16
	ipv6Src      = 8
	ipv6Dst      = 24
	tcpChecksum  = 16
	udpChecksum  = 6
	sctpChecksum = 8
	icmpChecksum = 2
	icmpID       = 4
	icmpQuote    = ICMPLen // the packet an ICMP error embeds
)

// EtherType returns the Ethernet type of a frame of at least EthernetLen bytes.
func EtherType(frame []byte) uint16 { return be16(frame[12:]) }

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }

func put32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
