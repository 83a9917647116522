package steer

// The punt link is a veth pair through which all frames pass between the kernel's
// devices and the workers. The agent creates it and keeps it as follows; nothing
// else may use it.
//
//   - Both ends have as many transmit and receive queues as there are workers
//     (numtxqueues, numrxqueues), and lie in the node's network namespace.
//   - Both have PuntMTU: segments of a jumbo pod and outer frames of the fabric pass.
//   - Transmit checksumming is off on PuntOuter alone ("ethtool -K punt0 tx off", with
//     it goes TSO): so the kernel segments and completes checksums before a worker
//     sees the frame, while pods keep every offload.
//   - PuntOuter has a real queueing discipline (root "mq" when it has several queues,
//     else "pfifo") and transmit queue length PuntQueueLength: the ring of a veth has
//     256 slots, and a burst of segments would overflow it.
//   - Both are up, with no address, no ARP, IPv6 disabled and no address generation
//     ("addrgenmode none"): the host's stack must not speak there.
const (
	PuntOuter = "punt0" // steering redirects to it, and delivers what it receives
	PuntInner = "punt1" // the AF_XDP sockets are on it, worker i on queue i

	PuntMTU         = 65535 // bytes; the largest a veth takes
	PuntQueueLength = 1000  // packets

	// MaxWorkers is how many queues can have a socket (MAX_SOCKETS in steer.c).
	MaxWorkers = 64
)
