package conf

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// inPod gives the test a pod's environment.
func inPod(t *testing.T) {
	t.Helper()
	for k, v := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "2001:db8::1", "KUBERNETES_SERVICE_PORT": "443", "POD_NAMESPACE": "vragent", "NODE_NAME": "n7",
	} {
		t.Setenv(k, v)
	}
}

// outside of any pod.
func outside(t *testing.T) {
	t.Helper()
	for _, k := range []string{"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "POD_NAMESPACE", "NODE_NAME"} {
		t.Setenv(k, "")
	}
}

func TestKubernetesInAPod(t *testing.T) {
	inPod(t)
	a, err := LoadAgent(write(t, "a.yaml", "fabric: {interface: auto}\nkubernetes: {}\nkubeProxyReplacement: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Kubernetes{
		APIServer: "https://[2001:db8::1]:443", Namespace: "vragent", TokenFile: serviceAccount + "token", CAFile: serviceAccount + "ca.crt",
		EnrollTokenFile: "/var/run/secrets/vragent/token",
	}
	if *a.Kubernetes != want || a.Node != "n7" || !a.KubeProxyReplacement || a.Fabric.Interface != FabricAuto || a.Controller.CA != "" {
		t.Errorf("%+v %+v", a, a.Kubernetes)
	}
	a, err = LoadAgent(write(t, "a.yaml", "node: n8\nfabric: {interface: auto}\ncontroller: {addresses: ['192.0.2.1:7443']}\n"+
		"kubernetes: {apiServer: 'https://192.0.2.9:6443', namespace: other, tokenFile: /t, caFile: /c, enrollTokenFile: /e}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if *a.Kubernetes != (Kubernetes{"https://192.0.2.9:6443", "other", "/t", "/c", "/e"}) || a.Node != "n8" || len(a.Controller.Addresses) != 1 {
		t.Errorf("%+v", a)
	}
}

// The example's group is one that is taken.
func TestKubernetesExample(t *testing.T) {
	outside(t)
	text, err := os.ReadFile("examples/vragent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	group := regexp.MustCompile(`(?s)\n(# kubernetes:.*?)\n\n`).FindStringSubmatch(string(text))
	if group == nil {
		t.Fatal("there is none")
	}
	a, err := LoadAgent(write(t, "a.yaml", "fabric: {interface: auto}\n"+regexp.MustCompile(`(?m)^# `).ReplaceAllString(group[1], "")))
	if err != nil {
		t.Fatal(err)
	}
	was := *a.Kubernetes
	again := Kubernetes{APIServer: was.APIServer, Namespace: was.Namespace}
	if again.complete(); again != was {
		t.Errorf("the example says %+v, defaults are %+v", was, again)
	}
}

func TestKubernetesMistakes(t *testing.T) {
	outside(t)
	_, err := LoadAgent(write(t, "bad.yaml", `
fabric: {interface: auto}
controller: {ca: /etc/vragent/ca.crt, addresses: [x]}
kubernetes: {namespace: My_Own, tokenFile: token}
`))
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		`controller.addresses[0]: "x" is not host:port`,
		`controller.ca: is of no use beside kubernetes: the agent enrolls (remove one of the two)`,
		`kubernetes.apiServer: is missing, and there is no KUBERNETES_SERVICE_HOST in the environment (for example https://192.0.2.1:6443)`,
		`kubernetes.namespace: "My_Own" is not a name of a namespace`,
		`kubernetes.tokenFile: "token" is not an absolute path`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	for text, want := range map[string]string{
		"kubernetes: {apiServer: 'http://192.0.2.1:6443', namespace: a}": `kubernetes.apiServer: "http://192.0.2.1:6443" is not https://host:port`,
		"kubernetes: {apiServer: '192.0.2.1', namespace: a}":             `is not https://host:port`,
		"kubernetes: {apiserver: x}":                                     `kubernetes.apiserver: unknown key (did you mean apiServer?)`,
		"kubernetes: true":                                               `kubernetes: is true, must be a group of keys`,
		"kubernetes:":                                                    `controller.addresses: is missing (list the controllers`,
		"kubernetes: {}":                                                 `kubernetes.namespace: is missing, and there is no POD_NAMESPACE`,
		"kubeProxyReplacement: strict":                                   `kubeProxyReplacement: is the text "strict", must be true or false`,
	} {
		if _, err := LoadAgent(write(t, "bad.yaml", "fabric: {interface: auto}\n"+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v\nwant …%s…", text, err, want)
		}
	}
}
