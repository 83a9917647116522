// Package v1alpha1 is the API group vragent.io: what a cluster's users say of
// virtual networks and floating IPs, and what the controller notes of address
// blocks. The API server owns the objects and refuses broken ones by the rules
// that stand here as markers. It does not read or write any object.
//
// +groupName=vragent.io
// +kubebuilder:object:generate=true
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.19.0 object crd paths=. output:crd:dir=../../packaging/helm/vragent/crds output:object:dir=.
