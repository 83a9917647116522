// Package southbound is the contract between controller and agents: generated
// from southbound.proto, plus the one way to encode a resource. It keeps no
// state. It does not decide what a node is to hold (controller/plan) nor how
// the stream is kept (controller/hub, agent/dial).
package southbound

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative southbound.proto

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Types in the order in which a complete set is sent: what a later type
// refers to comes with an earlier one.
var Types = [...]Type{
	Type_TYPE_NODE_CONFIG, Type_TYPE_NODE, Type_TYPE_VIRTUAL_NETWORK, Type_TYPE_BLOCK,
	Type_TYPE_VMI, Type_TYPE_ROUTE, Type_TYPE_LOAD_BALANCER,
}

// NewResource encodes body once; its version is a hash of the bytes, so that
// equal contents have equal versions after any restart and on any controller.
func NewResource(t Type, name string, body proto.Message) *Resource {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil { // only a string that is not UTF-8 can do this; plan has none
		panic(fmt.Sprintf("encode %v %s: %v", t, name, err))
	}
	h := sha256.Sum256(b)
	return &Resource{Type: t, Name: name, Version: hex.EncodeToString(h[:8]), Body: b}
}
