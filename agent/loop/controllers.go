package loop

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/enroll"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

// upstream is the way to the controllers.
type upstream struct {
	*dial.Southbound
	controllers dial.Controllers
	keeper      *enroll.Keeper // nil: certificates and addresses are given
}

func newUpstream(cfg Config, tunnel netip.Addr, have func() []*southbound.ResourceVersion) *upstream {
	u := &upstream{}
	if k := cfg.Kubernetes; k != nil {
		u.keeper = enroll.New(enroll.Config{
			Node: cfg.Node, StateDir: cfg.StateDir, Addresses: cfg.Controller.Addresses, Kubernetes: *k, Sign: dial.Enroll, Log: cfg.Log,
		})
		u.controllers = u.keeper
	} else {
		c := cfg.Controller
		u.controllers = &dial.Files{List: c.Addresses, CA: c.CA, Cert: c.Cert, Key: c.Key}
	}
	u.Southbound = dial.NewSouthbound(dial.SouthboundConfig{
		Node: cfg.Node, Version: cfg.Version, Address: tunnel.String(), Controllers: u.controllers, Log: cfg.Log,
	}, have)
	return u
}

// Run keeps the streams, and what they need, until ctx is done.
func (u *upstream) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.Southbound.Run(ctx) })
	if u.keeper != nil {
		g.Go(func() error { return u.keeper.Run(ctx) })
	}
	return g.Wait()
}

// certificateSoon is how long before its end a certificate is a fault: an agent
// that enrolls has renewed it long ago.
const certificateSoon = 7 * 24 * time.Hour

// certificateEnd is when this node's certificate ends; zero: there is none.
func (u *upstream) certificateEnd() time.Time {
	t, err := u.controllers.TLS("certificate:0")
	if err != nil || len(t.Certificates) == 0 || t.Certificates[0].Leaf == nil {
		return time.Time{}
	}
	return t.Certificates[0].Leaf.NotAfter
}

// identity is the condition of this node's certificate.
func (u *upstream) identity(now time.Time) (bool, string) {
	if u.keeper != nil {
		return u.keeper.State(now)
	}
	t, err := u.controllers.TLS("certificate:0")
	if err != nil {
		return false, err.Error()
	}
	end := t.Certificates[0].Leaf.NotAfter.UTC()
	return end.Sub(now) > certificateSoon, "valid until " + end.Format(time.DateTime)
}

// identityFix is what to do about a certificate; enrollment says it itself.
func (u *upstream) identityFix() string {
	if u.keeper != nil {
		return ""
	}
	return "vrcontroller certs makes new ones"
}

// links are the streams for vragent status.
func (u *upstream) links() []rpc.Controller {
	var out []rpc.Controller
	for _, l := range u.Links() {
		out = append(out, rpc.Controller{Address: l.Address, Primary: l.Primary, Connected: l.Connected, Since: l.Since, Error: l.Err})
	}
	return out
}
