package write

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vragent/vragent/controller/plan"
)

// status writes the addresses of a service, if they are not there already. The
// patch holds for the service as it was read: whoever changes it meanwhile is
// first.
func (w *Writer) status(ctx context.Context, s plan.Status) error {
	now, err := w.service(ctx, serviceKey{s.Namespace, s.Name})
	switch {
	case err != nil:
		return fmt.Errorf("status: %w", err)
	case now == nil || string(now.UID) != s.UID:
		return nil // gone; the next plan knows
	case slices.Equal(ingressOf(now), s.Addresses):
		w.ledger.serve(s)
		return nil
	}
	for _, a := range s.Addresses {
		if err := w.vacant(ctx, a, serviceKey{s.Namespace, s.Name}); err != nil {
			return err
		}
	}
	ingress := make([]corev1.LoadBalancerIngress, len(s.Addresses))
	mode := corev1.LoadBalancerIPModeVIP
	for i, a := range s.Addresses {
		ingress[i] = corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": now.UID, "resourceVersion": now.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	})
	if err != nil {
		return err
	}
	err = w.core.Patch(types.MergePatchType).Namespace(s.Namespace).Resource("services").Name(s.Name).SubResource("status").
		Body(patch).Do(ctx).Error()
	switch {
	case apierrors.IsConflict(err):
		return errLater
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("status: %w", err)
	}
	w.ledger.serve(s)
	w.config.Log.Info("service status written", "service", s.Namespace+"/"+s.Name, "addresses", s.Addresses)
	return nil
}

// service reads a service; nil: there is none.
func (w *Writer) service(ctx context.Context, k serviceKey) (*corev1.Service, error) {
	var s corev1.Service
	err := w.core.Get().Namespace(k.namespace).Resource("services").Name(k.name).Do(ctx).Into(&s)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &s, err
}

// vacant refuses an address that another service has, which this replica's plan
// may not know yet.
func (w *Writer) vacant(ctx context.Context, a netip.Addr, by serviceKey) error {
	holder, held := w.ledger.holder(a)
	if !held || holder == by {
		return nil
	}
	other, err := w.service(ctx, holder)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if other != nil && slices.Contains(ingressOf(other), a) {
		return fmt.Errorf("status: %v is still that of Service %s/%s", a, holder.namespace, holder.name)
	}
	return nil
}

func (g *ledger) holder(a netip.Addr) (serviceKey, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k, held := g.addresses[a]
	return k, held
}

// serve notes whose addresses they are from now on.
func (g *ledger) serve(s plan.Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := serviceKey{s.Namespace, s.Name}
	for a, holder := range g.addresses {
		if holder == k && !slices.Contains(s.Addresses, a) {
			delete(g.addresses, a)
		}
	}
	for _, a := range s.Addresses {
		g.addresses[a] = k
	}
}

// ingressOf are the addresses in the status of a service.
func ingressOf(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
