package dial

import (
	"google.golang.org/protobuf/proto"

	pb "github.com/vragent/vragent/controller/southbound"
)

// Local is all that a controller is told of this node. It is not changed once
// published.
type Local struct {
	VMIs   map[string]*pb.VMIStatus // by uuid
	Routes map[RouteKey]*pb.LocalRoute
	Blocks map[RouteKey]*pb.BlockStatus
	Host   *pb.HostStatus
	// Ready: this is everything; what is not in it does not exist.
	Ready bool
}

// RouteKey names a route or a block.
type RouteKey struct{ VRF, Prefix string }

// NewLocal returns a state with nothing in it.
func NewLocal() *Local {
	return &Local{VMIs: map[string]*pb.VMIStatus{}, Routes: map[RouteKey]*pb.LocalRoute{}, Blocks: map[RouteKey]*pb.BlockStatus{}}
}

// since returns what is new compared with what was told, nil if nothing is.
func (l *Local) since(told *Local) *pb.Publish {
	p := &pb.Publish{}
	for uuid, v := range l.VMIs {
		if !proto.Equal(v, told.VMIs[uuid]) {
			p.Vmis = append(p.Vmis, v)
		}
	}
	for uuid := range told.VMIs {
		if l.VMIs[uuid] == nil {
			p.RemovedVmis = append(p.RemovedVmis, uuid)
		}
	}
	for k, r := range l.Routes {
		if !proto.Equal(r, told.Routes[k]) {
			p.Routes = append(p.Routes, r)
		}
	}
	for k := range told.Routes {
		if l.Routes[k] == nil {
			p.RemovedRoutes = append(p.RemovedRoutes, &pb.RouteName{Vrf: k.VRF, Prefix: k.Prefix})
		}
	}
	for k, b := range l.Blocks {
		if !proto.Equal(b, told.Blocks[k]) {
			p.Blocks = append(p.Blocks, b)
		}
	}
	if l.Host != nil && !proto.Equal(l.Host, told.Host) {
		p.Host = l.Host
	}
	if proto.Equal(p, &pb.Publish{}) {
		return nil
	}
	return p
}
