package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is vragent.io/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "vragent.io", Version: "v1alpha1"}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&VirtualNetwork{}, &VirtualNetworkList{},
		&FloatingIPPool{}, &FloatingIPPoolList{},
		&IPBlock{}, &IPBlockList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
