package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vragent/vragent/conf/v1alpha1"
)

// Load reads a kubeconfig; without one the program runs in a pod and has its
// service account's rights.
func Load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		c, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("Kubernetes API: %w; outside of a pod name a kubeconfig", err)
		}
		return c, nil
	}
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	return c, nil
}

// clients are one per API group, over one connection. The typed clientset
// would link every group there is.
type clients struct {
	core, discovery, networking, ours rest.Interface
}

func connect(config *rest.Config) (*clients, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.QPS = -1 // ten lists and ten watches
	config.Timeout = 0
	config.WarningHandler = rest.NoWarnings{}
	if config.UserAgent == "" {
		config.UserAgent = "vrcontroller"
	}
	over, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	c := &clients{}
	for _, g := range []struct {
		into    *rest.Interface
		version schema.GroupVersion
		path    string
		accept  string
	}{
		{&c.core, corev1.SchemeGroupVersion, "/api", runtime.ContentTypeProtobuf},
		{&c.discovery, discoveryv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&c.networking, networkingv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&c.ours, v1alpha1.GroupVersion, "/apis", runtime.ContentTypeJSON},
	} {
		of := rest.CopyConfig(config)
		of.GroupVersion, of.APIPath, of.ContentType = &g.version, g.path, g.accept
		if *g.into, err = rest.RESTClientForConfigAndClient(of, over); err != nil {
			return nil, err
		}
	}
	return c, nil
}
