package packet

const moreFragments = 0x2000 // of the IPv4 flags and offset word

// FragmentRoom is how many payload bytes fit a fragment of at most mtu bytes
// behind an IPv4 header of hdrLen: a multiple of 8. Not for the last fragment,
// which may fill the rest.
func FragmentRoom(mtu, hdrLen int) int { return max(0, mtu-hdrLen) &^ 7 }

// PutFragment writes one fragment to dst and returns its length. hdr is the IPv4
// header of the packet being cut (it may be a fragment itself), payload this
// part's bytes, off where they lie in that packet's payload (bytes, a multiple
// of 8), more whether others follow. Only the first part carries all options, the
// others those with the copied bit (RFC 791 3.1). IPv6 routers do not fragment.
func PutFragment(dst []byte, hdr []byte, payload []byte, off int, more bool) int {
	n := copy(dst, hdr)
	if off > 0 {
		n = IPv4Len + copyOptions(dst[IPv4Len:], hdr[IPv4Len:])
	}
	word := be16(hdr[6:]) + uint16(off/8)
	if more {
		word |= moreFragments
	}
	dst[0] = 0x40 | uint8(n/4)
	put16(dst[2:], uint16(n+len(payload)))
	put16(dst[6:], word)
	put16(dst[ipv4Checksum:], 0)
	put16(dst[ipv4Checksum:], ^fold(add(0, dst[:n])))
	return n + copy(dst[n:], payload)
}

// copyOptions copies the options whose copied bit is set and pads them to whole
// words. It returns their length. Malformed options end the list.
func copyOptions(dst, opts []byte) int {
	const end, nop, copied = 0, 1, 0x80
	n := 0
	for len(opts) >= 2 && opts[0] != end {
		if opts[0] == nop {
			opts = opts[1:]
			continue
		}
		size := int(opts[1])
		if size < 2 || size > len(opts) {
			break
		}
		if opts[0]&copied != 0 {
			n += copy(dst[n:], opts[:size])
		}
		opts = opts[size:]
	}
	for ; n%4 != 0; n++ {
		dst[n] = end
	}
	return n
}
