package packet

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestAddLong: the quick sum is the plain one, whatever the length, the bytes and what was
// there before.
func TestAddLong(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{})
	for n := range 1500 {
		b := make([]byte, n)
		_, _ = rnd.Read(b)
		if n%3 == 0 {
			for i := range b { // carries without end
				b[i] = 0xff
			}
		}
		for _, before := range []uint64{0, 0xffff, 1 << 40} {
			if got, want := fold(addLong(before, b)), fold(add(before, b)); got != want {
				t.Fatalf("%d bytes on %#x: %#x, want %#x", n, before, got, want)
			}
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 1460, 65000} {
		data := make([]byte, n)
		for name, fn := range map[string]func(uint64, []byte) uint64{"plain": add, "long": addLong} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					fn(0, data)
				}
			})
		}
	}
}
