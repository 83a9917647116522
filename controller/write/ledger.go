package write

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/plan/blocks"
)

// pageSize is how many objects one answer to a list holds.
const pageSize = "500"

// ledger is what a leader knows of what it and its predecessors wrote. It is
// read from the API server when the office begins, not from a watch that may be
// behind; after that nobody else writes.
type ledger struct {
	delays map[string]delay // owned by apply

	mu        sync.Mutex
	blocks    map[string]block          // by name
	addresses map[netip.Addr]serviceKey // in the status of services
}

type block struct {
	lease plan.Lease
	uid   types.UID // empty: it is being made
	seen  time.Time // on the API server
}

// freshFor is how long the watch may take to bring back what was written. What
// is asked for after that was taken away by somebody else.
const freshFor = 5 * time.Second

type serviceKey struct{ namespace, name string }

// learn reads all there is.
func (w *Writer) learn(ctx context.Context) (*ledger, error) {
	l := &ledger{delays: map[string]delay{}, blocks: map[string]block{}, addresses: map[netip.Addr]serviceKey{}}
	err := pages(ctx, w.blocks, "ipblocks", func(r rest.Result) (string, error) {
		var page v1alpha1.IPBlockList
		err := r.Into(&page)
		for _, b := range page.Items {
			l.blocks[b.Name] = block{leaseOf(&b), b.UID, time.Now()}
		}
		return page.Continue, err
	})
	if err != nil {
		return nil, fmt.Errorf("IPBlocks: %w", err)
	}
	err = pages(ctx, w.core, "services", func(r rest.Result) (string, error) {
		var page corev1.ServiceList
		err := r.Into(&page)
		for _, s := range page.Items {
			for _, a := range ingressOf(&s) {
				l.addresses[a] = serviceKey{s.Namespace, s.Name}
			}
		}
		return page.Continue, err
	})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return l, nil
}

// pages reads all objects of a kind; take returns where the next page begins.
func pages(ctx context.Context, c rest.Interface, resource string, take func(rest.Result) (string, error)) error {
	for next := ""; ; {
		request := c.Get().Resource(resource).Param("limit", pageSize)
		if next != "" {
			request = request.Param("continue", next)
		}
		var err error
		if next, err = take(request.Do(ctx)); err != nil || next == "" {
			return err
		}
	}
}

func leaseOf(b *v1alpha1.IPBlock) plan.Lease {
	prefix, _ := netip.ParsePrefix(string(b.Spec.Prefix)) // the API server has checked it
	return plan.Lease{Network: b.Spec.Network, Node: b.Spec.Node, Prefix: prefix.Masked()}
}

func blockName(l plan.Lease) string {
	return v1alpha1.IPBlockName(blocks.Space(l.Network), l.Prefix)
}

// reserve notes a lease that is about to be made, unless it would overlap
// another one of its space, which it returns. Blocks of the same size are
// guarded by their names; others only by this.
func (g *ledger) reserve(l plan.Lease) (other plan.Lease, free bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, b := range g.blocks {
		if name != blockName(l) && blocks.Space(b.lease.Network) == blocks.Space(l.Network) && b.lease.Prefix.Overlaps(l.Prefix) {
			return b.lease, false
		}
	}
	g.blocks[blockName(l)] = block{lease: l, seen: time.Now()} // until it is known whether it was made
	return plan.Lease{}, true
}

func (g *ledger) has(l plan.Lease) (block, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, there := g.blocks[blockName(l)]
	return b, there
}

func (g *ledger) put(name string, b block) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocks[name] = b
}

func (g *ledger) drop(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.blocks, name)
}

// claim creates an IPBlock: of several that want it, one succeeds.
func (w *Writer) claim(ctx context.Context, l plan.Lease) error {
	switch b, there := w.ledger.has(l); {
	case there && b.lease == l && time.Since(b.seen) < freshFor:
		return nil // and on its way back through the watch
	case there:
		return w.taken(ctx, l)
	}
	if other, free := w.ledger.reserve(l); !free {
		if err := w.taken(ctx, other); err != nil {
			return err
		}
		return fmt.Errorf("%v overlaps %v, which node %s holds", l.Prefix, other.Prefix, other.Node)
	}
	o := &v1alpha1.IPBlock{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "IPBlock"},
		ObjectMeta: metav1.ObjectMeta{Name: blockName(l)},
		Spec:       v1alpha1.IPBlockSpec{Network: l.Network, Node: l.Node, Prefix: v1alpha1.Prefix(l.Prefix.String())},
	}
	var made v1alpha1.IPBlock
	err := w.blocks.Post().Resource("ipblocks").Body(o).Do(ctx).Into(&made)
	if apierrors.IsAlreadyExists(err) {
		return w.taken(ctx, l)
	}
	if err != nil {
		w.ledger.drop(blockName(l))
		return fmt.Errorf("lease %v of %s to node %s: %w", l.Prefix, l.Network, l.Node, err)
	}
	w.ledger.put(made.Name, block{l, made.UID, time.Now()})
	w.config.Log.Info("block leased", "node", l.Node, "network", l.Network, "prefix", l.Prefix)
	return nil
}

// taken looks at a block that is there: somebody has made it behind our back, or
// we ourselves when an answer was lost. Or it is not there any more.
func (w *Writer) taken(ctx context.Context, l plan.Lease) error {
	var there v1alpha1.IPBlock
	err := w.blocks.Get().Resource("ipblocks").Name(blockName(l)).Do(ctx).Into(&there)
	if apierrors.IsNotFound(err) {
		w.ledger.drop(blockName(l))
		return errLater
	}
	if err != nil {
		w.ledger.drop(blockName(l))
		return fmt.Errorf("lease %v: it is there, and cannot be read: %w", l.Prefix, err)
	}
	other := leaseOf(&there)
	w.ledger.put(there.Name, block{other, there.UID, time.Now()})
	if other != l {
		return fmt.Errorf("%v is leased to node %s in %s", l.Prefix, other.Node, other.Network)
	}
	return nil
}

// release deletes an IPBlock, if it is still the one that was meant.
func (w *Writer) release(ctx context.Context, l plan.Lease) error {
	if _, there := w.ledger.has(l); !there { // gone, or made by somebody else
		if err := w.taken(ctx, l); errors.Is(err, errLater) {
			return nil
		} else if err != nil {
			return err
		}
	}
	b, _ := w.ledger.has(l)
	if b.lease != l || b.uid == "" {
		return nil // another's by now
	}
	err := w.blocks.Delete().Resource("ipblocks").Name(blockName(l)).
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &b.uid}}).Do(ctx).Error()
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		w.ledger.drop(blockName(l))
		return errors.Join(errLater, w.taken(ctx, l))
	case err != nil:
		return fmt.Errorf("give back %v of node %s: %w", l.Prefix, l.Node, err)
	default:
		w.config.Log.Info("block given back", "node", l.Node, "network", l.Network, "prefix", l.Prefix)
	}
	w.ledger.drop(blockName(l))
	return nil
}
