package hub

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// An agent that obeys another controller is listened to and told nothing; what
// waits for everybody's acknowledgement waits for the hold time.
func TestStandbyIsListenedToOnly(t *testing.T) {
	h := start(t, 0)
	web := resource(lb, "web", "1")
	h.Publish(intents(setOf(web), nil))
	config := h.config("n1")
	config.Standby = true
	a, _ := h.dial(config)
	if err := a.Publish(&southbound.Publish{Vmis: []*southbound.VMIStatus{{Uuid: "v", Label: 20, Addresses: []string{"198.51.100.2"}}}, InSync: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the report", func() bool { r := h.Reports()["n1"]; return r != nil && r.Synced && len(r.VMIs) == 1 })
	if s := h.Agents()[0].State; s != "standby" {
		t.Error(s)
	}
	b, _ := h.dial(h.config("n2"))
	eventually(t, "n2", func() bool { return b.Synced() == types })
	key := map[plan.Key]bool{web.Key: true}
	if h.Settled(key)[web.Key] {
		t.Error("settled, although nobody knows what n1 holds")
	}
	if replies, _, _ := a.Received(); replies != 0 {
		t.Error("a standby was told something")
	}

	// Its other controller is gone: it comes with a full stream, and what it said stays.
	full, _ := h.dial(h.config("n1"))
	eventually(t, "n1", func() bool { return full.Synced() == types })
	if r := h.Reports()["n1"]; len(r.VMIs) != 1 {
		t.Error("forgotten:", r)
	}
	eventually(t, "settled", func() bool { return h.Settled(key)[web.Key] })

	// And back again: the full stream ends, nothing is sent on the new one.
	again, _ := h.dial(config)
	eventually(t, "standby", func() bool { return !h.Settled(key)[web.Key] })
	h.Publish(intents(setOf(resource(lb, "web", "2")), nil))
	if err := again.Publish(&southbound.Publish{InSync: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its replay", func() bool { return len(h.Reports()["n1"].VMIs) == 0 })
	if replies, _, _ := again.Received(); replies != 0 {
		t.Error("a standby was told something")
	}
}

func TestStandbyOwesNoAcknowledgement(t *testing.T) {
	h := start(t, 0)
	config := h.config("n1")
	config.Standby = true
	a, ended := h.dial(config)
	if err := a.Send(&southbound.FromAgent{Message: &southbound.FromAgent_Ack{Ack: &southbound.Ack{Nonce: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// What a standby agent holds of a block is seen by its route.
func TestStandbyLetsGoOfABlock(t *testing.T) {
	h := start(t, 0)
	config := h.config("n1")
	config.Standby = true
	a, _ := h.dial(config)
	key := plan.Key{Type: block, Name: "vn/198.51.100.0/26"}
	owes := func() bool { return !h.Settled(map[plan.Key]bool{key: true})[key] }
	if err := a.Publish(&southbound.Publish{Routes: []*southbound.LocalRoute{{Vrf: "vn", Prefix: "198.51.100.0/26", Label: 16}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route", owes)
	if err := a.Publish(&southbound.Publish{RemovedRoutes: []*southbound.RouteName{{Vrf: "vn", Prefix: "198.51.100.0/26"}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no route", func() bool { return !owes() })
}

// Whoever waits for an acknowledgement is told when it is there.
func TestAwaitedAcknowledgementsAreChanges(t *testing.T) {
	h := start(t, 0)
	h.Publish(intents(nil, nil))
	a, _ := h.dial(h.config("n1"))
	eventually(t, "in sync", func() bool { return a.Synced() == types })
	if err := a.Mute(true); err != nil {
		t.Fatal(err)
	}
	web := resource(lb, "web", "1")
	h.Publish(intents(setOf(web), nil))
	eventually(t, "the response", func() bool { return len(a.Held()) == 1 })
	if h.Settled(map[plan.Key]bool{web.Key: true})[web.Key] {
		t.Error("settled before it is acknowledged")
	}
	for len(h.Changes()) > 0 {
		<-h.Changes()
	}
	if err := a.Mute(false); err != nil {
		t.Fatal(err)
	}
	<-h.Changes()
	if !h.Settled(map[plan.Key]bool{web.Key: true})[web.Key] {
		t.Error("not settled")
	}
}
