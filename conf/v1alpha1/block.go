package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IPBlock gives a block of a network's addresses to a node. Its name follows
// from what it claims, so that creating it is the claim: of two controllers
// that want the same block, the API server lets one have it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ipb,categories=vragent
// +kubebuilder:printcolumn:name=Prefix,type=string,JSONPath=.spec.prefix
// +kubebuilder:printcolumn:name=Node,type=string,JSONPath=.spec.node
// +kubebuilder:printcolumn:name=Network,type=string,JSONPath=.spec.network
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=.metadata.creationTimestamp
// +kubebuilder:selectablefield:JSONPath=.spec.node
type IPBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPBlockSpec `json:"spec"`
}

// IPBlockSpec is the claim.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a block is given whole, once: delete it when its node has let it go, and claim it again"
type IPBlockSpec struct {
	// Network is the name of the virtual network, as k8s-default-pod-network.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	Network string `json:"network"`

	// Node is the name of the node that gives out the block's addresses.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// Prefix is the block.
	Prefix Prefix `json:"prefix"`
}

// IPBlockList is a list of IPBlocks.
//
// +kubebuilder:object:root=true
type IPBlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPBlock `json:"items"`
}

// IPBlockName is the name of the block that claims a prefix of an address
// space: a network, or what several networks share.
func IPBlockName(space string, prefix netip.Prefix) string {
	sum := sha256.Sum256([]byte(space))
	address := strings.NewReplacer(".", "-", ":", "-").Replace(prefix.Addr().StringExpanded())
	return fmt.Sprintf("%s-%d-%s", address, prefix.Bits(), hex.EncodeToString(sum[:4]))
}
