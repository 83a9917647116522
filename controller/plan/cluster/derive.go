package cluster

import (
	"crypto/sha1"
	"encoding/hex"
)

// Derive makes the UUID (RFC 9562 version 5) of an object from the names of
// what it is derived from: the same names give the same UUID, always.
func Derive(names ...string) string {
	h := sha1.New()
	h.Write([]byte("vragent\x00"))
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
