package conf

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// Kubernetes says how the agent asks the API for the controllers' addresses and
// their certificate authority, and with what it enrolls. Empty keys take what
// a pod finds in its environment.
type Kubernetes struct {
	APIServer string `json:"apiServer"` // https://host:port
	Namespace string `json:"namespace"` // of ConfigMap vragent-ca and Service vrcontroller
	TokenFile string `json:"tokenFile"` // of the service account, for the API
	CAFile    string `json:"caFile"`    // of the API
	// EnrollTokenFile is a token of audience vragent, bound to the agent's pod.
	EnrollTokenFile string `json:"enrollTokenFile"`
}

// serviceAccount is where kubelet puts a pod's identity.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// complete takes from the pod's environment what is not given.
func (k *Kubernetes) complete() {
	if host := os.Getenv("KUBERNETES_SERVICE_HOST"); host != "" {
		setDefault(&k.APIServer, "https://"+net.JoinHostPort(host, os.Getenv("KUBERNETES_SERVICE_PORT")))
	}
	setDefault(&k.Namespace, os.Getenv("POD_NAMESPACE"))
	if k.Namespace == "" {
		if text, err := os.ReadFile(serviceAccount + "namespace"); err == nil {
			k.Namespace = strings.TrimSpace(string(text))
		}
	}
	setDefault(&k.TokenFile, serviceAccount+"token")
	setDefault(&k.CAFile, serviceAccount+"ca.crt")
	setDefault(&k.EnrollTokenFile, "/var/run/secrets/vragent/token")
}

func (k *Kubernetes) check(c *checks) {
	switch u, err := url.Parse(k.APIServer); {
	case k.APIServer == "":
		c.fail("kubernetes.apiServer", "is missing, and there is no KUBERNETES_SERVICE_HOST in the environment", "for example https://192.0.2.1:6443")
	case err != nil, u.Scheme != "https", u.Host == "", u.Path != "" && u.Path != "/":
		c.fail("kubernetes.apiServer", fmt.Sprintf("%q is not https://host:port", k.APIServer), "for example https://192.0.2.1:6443")
	}
	switch {
	case k.Namespace == "":
		c.fail("kubernetes.namespace", "is missing, and there is no POD_NAMESPACE in the environment", "name the namespace of the controllers")
	case !label.MatchString(k.Namespace):
		c.fail("kubernetes.namespace", fmt.Sprintf("%q is not a name of a namespace", k.Namespace), "use small letters, digits and -, at most 63")
	}
	c.absolute("kubernetes.tokenFile", k.TokenFile)
	c.absolute("kubernetes.caFile", k.CAFile)
	c.absolute("kubernetes.enrollTokenFile", k.EnrollTokenFile)
}

func setDefault(key *string, v string) {
	if *key == "" {
		*key = v
	}
}
