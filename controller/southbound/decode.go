package southbound

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Decode reads the body of a resource into m, which is of the resource's type.
func Decode(body []byte, m proto.Message) error {
	if err := proto.Unmarshal(body, m); err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
