package packet

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address in 16 bytes; IPv4 is ::ffff:a.b.c.d. The zero value is
// the IPv6 unspecified address. It is comparable and free of pointers.
type Addr [16]byte

// mapped4 is what stands in bytes 8 to 11 of IPv4 addresses (RFC 4291 2.5.5.2), read in
// little-endian order.
const mapped4 = 0xffff << 16

// AddrFrom converts a; a zone is lost, the zero netip.Addr becomes "::".
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return a.As16()
}

// AddrFrom4 converts the four bytes at b.
func AddrFrom4(b []byte) (a Addr) {
	a.set4(b)
	return a
}

// set4 makes a the IPv4 address in the four bytes at b: two words, where a byte at a
// time would cost twenty instructions.
func (a *Addr) set4(b []byte) { a.setWord(binary.LittleEndian.Uint32(b)) }

// setWord is set4 of four bytes read in little-endian order.
func (a *Addr) setWord(v uint32) {
	binary.LittleEndian.PutUint64(a[:8], 0)
	binary.LittleEndian.PutUint64(a[8:], uint64(v)<<32|mapped4)
}

// Netip returns a as netip.Addr; IPv4 addresses come out as IPv4.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.is4() }

// is4 is Is4 without a copy of a.
func (a *Addr) is4() bool {
	return binary.LittleEndian.Uint64(a[:8]) == 0 && binary.LittleEndian.Uint32(a[8:]) == mapped4
}

// As4 returns the last four bytes: the address when Is4.
func (a Addr) As4() [4]byte { return [4]byte(a[12:]) }

// Last returns the last four bytes, in little-endian order: what tells addresses of one
// network apart, for hashes.
func (a *Addr) Last() uint32 { return binary.LittleEndian.Uint32(a[12:]) }

// IsUnspecified reports whether a is 0.0.0.0 or "::".
func (a Addr) IsUnspecified() bool {
	return a == Addr{} || a == Addr{10: 0xff, 11: 0xff}
}

// IsMulticast reports whether a is multicast or the IPv4 limited broadcast address.
func (a Addr) IsMulticast() bool {
	if !a.Is4() {
		return a[0] == 0xff
	}
	return a[12]&0xf0 == 0xe0 || be32(a[12:]) == 0xffffffff
}

func (a Addr) String() string { return a.Netip().String() }

// fold is the address's share of Tuple.Hash.
func (a *Addr) fold() uint32 {
	if a.is4() {
		return be32(a[12:])
	}
	return be32(a[0:]) ^ be32(a[4:]) ^ be32(a[8:]) ^ be32(a[12:])
}

// sum adds the address up for Internet checksums. The 0xffff of a mapped IPv4
// address is zero in one's complement, so both families need no distinction.
func (a *Addr) sum() uint64 {
	return uint64(be32(a[0:])) + uint64(be32(a[4:])) + uint64(be32(a[8:])) + uint64(be32(a[12:]))
}

// IsLinkLocal reports whether a is of 169.254.0.0/16 (RFC 3927) or fe80::/10.
func (a Addr) IsLinkLocal() bool {
	if a.Is4() {
		return a[12] == 169 && a[13] == 254
	}
	return a[0] == 0xfe && a[1]&0xc0 == 0x80
}
