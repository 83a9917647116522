package cluster

// Protocol numbers a service may use (IANA).
const (
	TCP  = 6
	UDP  = 17
	SCTP = 132
)

// ProtocolName is the field's word for a protocol number of a service.
func ProtocolName(p uint8) string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "?"
}
