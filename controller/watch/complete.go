package watch

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/vragent/vragent/controller/plan"
)

// complete checks an object's names and adds what an API server would have:
// namespace default, a UID, a creation time.
func (c *collector) complete(kind string, o metav1.Object) error {
	namespaced := kind != "Namespace" && kind != "Node"
	switch {
	case o.GetName() == "":
		return errors.New("field metadata.name: missing")
	case len(validation.IsDNS1123Subdomain(o.GetName())) > 0:
		return fmt.Errorf("field metadata.name: %q is not a name: %s", o.GetName(), validation.IsDNS1123Subdomain(o.GetName())[0])
	case !namespaced && o.GetNamespace() != "":
		return fmt.Errorf("field metadata.namespace: a %s has none", kind)
	case namespaced && o.GetNamespace() == "":
		o.SetNamespace(corev1.NamespaceDefault)
	}
	if ns := o.GetNamespace(); ns != "" && len(validation.IsDNS1123Label(ns)) > 0 {
		return fmt.Errorf("field metadata.namespace: %q is not a name", ns)
	}
	if o.GetUID() == "" {
		o.SetUID(types.UID(plan.Derive(kind, o.GetNamespace(), o.GetName())))
	}
	if at := o.GetCreationTimestamp(); at.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(c.born(objectKey{kind, o.GetNamespace(), o.GetName()})))
	}
	return nil
}
