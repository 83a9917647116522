package packet

// Fault says why bytes are not an acceptable packet. Each fault is a reason to drop.
type Fault uint8

const (
	FaultNone        Fault = iota
	FaultShort             // cut off: the headers promise more bytes than arrived, or lie beyond the first chunk
	FaultVersion           // neither IPv4 nor IPv6
	FaultHeader            // header length or order of headers is impossible
	FaultLength            // a length field contradicts another
	FaultChecksum          // IPv4 header, or a checksum that had to be right
	FaultSource            // source is multicast, broadcast, loopback, unspecified or a mapped address
	FaultDestination       // destination is loopback, unspecified or a mapped address
	FaultFragment          // tiny, overlapping the header, misaligned or beyond 65,535 bytes (RFC 1858, 3128)
	FaultSourceRoute       // the sender chose the path (RFC 5095, 7126)
	FaultExtensions        // more IPv6 extension headers than we follow
	FaultNotTunnel         // not MPLS over UDP
	FaultLabelStack        // more than one label
	FaultLabelTTL          // the label's TTL is 0
	FaultARP               // not Ethernet and IPv4
	FaultND                // neighbour discovery that RFC 4861 7.1 has us ignore
	FaultProbe             // duplicate address detection: silence is the answer
	NumFaults
)

var faultNames = [NumFaults]string{
	FaultNone:        "none",
	FaultShort:       "packet is cut off",
	FaultVersion:     "neither IPv4 nor IPv6",
	FaultHeader:      "malformed header",
	FaultLength:      "contradicting length",
	FaultChecksum:    "wrong checksum",
	FaultSource:      "impossible source address",
	FaultDestination: "impossible destination address",
	FaultFragment:    "malformed fragment",
	FaultSourceRoute: "source route",
	FaultExtensions:  "too many extension headers",
	FaultNotTunnel:   "not MPLS over UDP",
	FaultLabelStack:  "more than one label",
	FaultLabelTTL:    "label TTL is 0",
	FaultARP:         "malformed ARP",
	FaultND:          "malformed neighbour discovery",
	FaultProbe:       "duplicate address detection",
}

func (f Fault) String() string {
	if f < NumFaults {
		return faultNames[f]
	}
	return "unknown fault"
}
