// Package agenttest is a small agent for tests: it speaks agent/rpc on a real
// socket and remembers attachments in memory. The Agent owns its state; tests
// read it through methods. It programs nothing and allocates only documentation
// addresses.
package agenttest

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

// Agent is the twin of vragent run as the plugin sees it.
type Agent struct {
	// Set by the test before Serve.
	V4, V6 bool // families of addresses
	MTU    int
	PodIPs []netip.Addr // of every pod, beside its addresses; nil: the addresses
	IO     string       // of every pod

	// Held while anything below is read or written.
	lock     sync.Mutex
	attached map[string]*attachment
	refuse   func(*rpc.Request) *rpc.Error
	served   []string // verbs, in order
	conns    map[*wire.Conn]bool

	// Set by Serve.
	listener *wire.Listener
	workers  sync.WaitGroup
}

type attachment struct {
	rpc.Attach
	number  int
	iface   rpc.Interface
	ifindex int // 0: not bound
}

// New returns an agent for pods with both families.
func New() *Agent {
	return &Agent{V4: true, V6: true, MTU: 1468, attached: map[string]*attachment{}, conns: map[*wire.Conn]bool{}}
}

// Serve listens in runDir. An agent that was stopped can serve again, with what
// it remembers, like one restarted on its ledger.
func (a *Agent) Serve(runDir string) error {
	l, err := wire.Listen(filepath.Join(runDir, rpc.SocketName), 0o600)
	if err != nil {
		return err
	}
	a.listener = l
	a.workers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.lock.Lock()
			a.conns[conn] = true
			a.lock.Unlock()
			a.workers.Go(func() { a.serve(conn) })
		}
	})
	return nil
}

// Stop ends service and waits for it to end.
func (a *Agent) Stop() {
	a.Die()
	a.workers.Wait()
}

// Die cuts all connections, also in the middle of an answer.
func (a *Agent) Die() {
	_ = a.listener.Close()
	a.lock.Lock()
	defer a.lock.Unlock()
	for conn := range a.conns {
		_ = conn.Close()
	}
}

// Refuse sets a function that may answer a request in the agent's place, or look
// at it and return nil. nil takes it away.
func (a *Agent) Refuse(f func(*rpc.Request) *rpc.Error) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.refuse = f
}

// Attached returns the keys container/ifname of what is attached.
func (a *Agent) Attached() []string {
	a.lock.Lock()
	defer a.lock.Unlock()
	var keys []string
	for key := range a.attached {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Interface returns what the agent answered for key, nil if there is none.
func (a *Agent) Interface(key string) *rpc.Interface {
	a.lock.Lock()
	defer a.lock.Unlock()
	if at := a.attached[key]; at != nil {
		iface := at.iface
		return &iface
	}
	return nil
}

// Served returns the verbs answered since the last call.
func (a *Agent) Served() []string {
	a.lock.Lock()
	defer a.lock.Unlock()
	served := a.served
	a.served = nil
	return served
}

// Unbind forgets that key's interface is in the fast path.
func (a *Agent) Unbind(key string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.attached[key].ifindex = 0
}

// Forget drops key as if its record had never been.
func (a *Agent) Forget(key string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	delete(a.attached, key)
}

func (a *Agent) serve(conn *wire.Conn) {
	defer func() {
		_ = conn.Close()
		a.lock.Lock()
		delete(a.conns, conn)
		a.lock.Unlock()
	}()
	for {
		var request rpc.Request
		if err := conn.Receive(&request); err != nil {
			return
		}
		reply, err := a.answer(&request)
		if err != nil {
			refusal, ok := errors.AsType[*rpc.Error](err)
			if !ok {
				refusal = &rpc.Error{Code: rpc.CodeInternal, Message: err.Error()}
			}
			reply = &rpc.Reply{Error: refusal}
		}
		if conn.Send(reply) != nil {
			return
		}
	}
}

func (a *Agent) answer(r *rpc.Request) (*rpc.Reply, error) {
	a.lock.Lock()
	refuse := a.refuse
	a.lock.Unlock()
	if refuse != nil {
		if refusal := refuse(r); refusal != nil {
			return nil, refusal
		}
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	switch {
	case r.Attach != nil:
		a.served = append(a.served, "attach")
		return a.attach(r.Attach)
	case r.Bind != nil:
		a.served = append(a.served, "bind")
		return a.bind(r.Bind)
	case r.Detach != nil:
		a.served = append(a.served, "detach")
		delete(a.attached, key(r.Detach.Attachment))
		return &rpc.Reply{}, nil
	case r.Check != nil:
		a.served = append(a.served, "check")
		return a.check(r.Check)
	case r.GC != nil:
		a.served = append(a.served, "gc")
		return a.gc(r.GC), nil
	case r.Ready != nil:
		a.served = append(a.served, "ready")
		return &rpc.Reply{}, nil
	}
	return nil, errors.New("request without a verb")
}

func key(a rpc.Attachment) string { return a.ContainerID + "/" + a.Ifname }

func (a *Agent) attach(r *rpc.Attach) (*rpc.Reply, error) {
	if at := a.attached[key(r.Attachment)]; at != nil {
		if at.Netns != r.Netns {
			return nil, &rpc.Error{Code: rpc.CodeConflict, Fix: "delete it first",
				Message: fmt.Sprintf("container %s has %s in %s already, not in %s", r.ContainerID, r.Ifname, at.Netns, r.Netns)}
		}
		return &rpc.Reply{Interface: &at.iface}, nil
	}
	at := &attachment{Attach: *r, number: a.free()}
	at.iface = rpc.Interface{
		Tap:     fmt.Sprintf("tap%011x", at.number),
		MAC:     table.MAC{0x02, 0, 0, 0, 0, byte(at.number)},
		MTU:     a.MTU,
		PodIPs:  a.PodIPs,
		IO:      a.IO,
		VMI:     fmt.Sprintf("%08d-0000-0000-0000-000000000000", at.number),
		Network: "k8s-default-pod-network",
	}
	if a.V4 {
		at.iface.Addrs = append(at.iface.Addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(at.number)}))
		at.iface.Gateways = append(at.iface.Gateways, netip.MustParseAddr("169.254.1.1"))
		at.iface.Routes = append(at.iface.Routes, netip.MustParsePrefix("0.0.0.0/0"))
	}
	if a.V6 {
		at.iface.Addrs = append(at.iface.Addrs, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", at.number)))
		at.iface.Gateways = append(at.iface.Gateways, netip.MustParseAddr("fe80::1"))
		at.iface.Routes = append(at.iface.Routes, netip.MustParsePrefix("::/0"))
	}
	a.attached[key(r.Attachment)] = at
	return &rpc.Reply{Interface: &at.iface}, nil
}

// free returns the smallest number no attachment has.
func (a *Agent) free() int {
	used := map[int]bool{}
	for _, at := range a.attached {
		used[at.number] = true
	}
	n := 1
	for used[n] {
		n++
	}
	return n
}

func (a *Agent) bind(r *rpc.Bind) (*rpc.Reply, error) {
	at := a.attached[key(r.Attachment)]
	if at == nil || r.Ifindex == 0 {
		return nil, &rpc.Error{Code: rpc.CodeUnknownPod, Message: "no such attachment"}
	}
	at.ifindex = r.Ifindex
	return &rpc.Reply{}, nil
}

func (a *Agent) check(r *rpc.Check) (*rpc.Reply, error) {
	at := a.attached[key(r.Attachment)]
	switch {
	case at == nil:
		return nil, &rpc.Error{Code: rpc.CodeUnknownPod, Message: "the agent has no attachment " + key(r.Attachment)}
	case at.ifindex == 0:
		return nil, &rpc.Error{Code: rpc.CodeChanged, Message: at.iface.Tap + " is no vif of the live fast path"}
	case at.ifindex != r.Ifindex:
		return nil, &rpc.Error{Code: rpc.CodeChanged, Message: fmt.Sprintf("vif of %s is attached to interface index %d, expected %d", at.iface.Tap, at.ifindex, r.Ifindex)}
	}
	return &rpc.Reply{Interface: &at.iface}, nil
}

func (a *Agent) gc(r *rpc.GC) *rpc.Reply {
	reply := &rpc.Reply{}
	for k, at := range a.attached {
		if at.Network == r.Network && !slices.ContainsFunc(r.Valid, func(v rpc.Attachment) bool { return key(v) == k }) {
			reply.Removed = append(reply.Removed, k)
			delete(a.attached, k)
		}
	}
	return reply
}
