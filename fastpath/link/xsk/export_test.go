package xsk

// RingSize is for tests.
const RingSize = ringSize

// Held returns how many chunks are in the socket's rings while nothing moves.
func (s *Socket) Held() int {
	return int(s.fill.pending() + s.tx.pending() + s.rx.ready(ringSize) + s.done.ready(ringSize))
}
