package conf

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const minimal = "fabric: {interface: eth0}\ncontroller: {addresses: [\"192.0.2.1:7443\"]}\n"

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExamplesLoad(t *testing.T) {
	if _, err := LoadAgent("examples/vragent.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := LoadController("examples/vrcontroller.yaml"); err != nil {
		t.Error(err)
	}
	file := "examples/10-vrouter.conflist"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCNIList(file, text); err != nil {
		t.Error(err)
	}
}

// Every default an example shows in a comment is the real one: with the
// comments taken off, the file says the same.
func TestExamplesShowTheDefaults(t *testing.T) {
	uncomment := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(text), "\n\n") // the heading stays a comment
		s := regexp.MustCompile(`(?m)^( *)# ( *\w+:( |$))`).ReplaceAllString(body, "$1$2")
		s = strings.Replace(s, "\n  address: 192.0.2.11", "\n  #", 1)
		s = regexp.MustCompile(`(?s)\nkubernetes:.*?\n\n`).ReplaceAllString(s, "\n") // instead of controller
		return s
	}
	agent, err := LoadAgent(write(t, "a.yaml", uncomment("examples/vragent.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := LoadAgent("examples/vragent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain.Node, plain.Fastpath.Cores = "node1", []int{}
	if !reflect.DeepEqual(agent, plain) {
		t.Errorf("vragent.yaml: comments say\n%+v, defaults are\n%+v", agent, plain)
	}
	commented, err := LoadController(write(t, "c.yaml", uncomment("examples/vrcontroller.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultController(); !reflect.DeepEqual(commented, want) {
		t.Errorf("vrcontroller.yaml: comments say\n%+v, defaults are\n%+v", commented, want)
	}
}

func TestAgentDefaults(t *testing.T) {
	a, err := LoadAgent(write(t, "a.yaml", minimal))
	if err != nil {
		t.Fatal(err)
	}
	if host, _ := os.Hostname(); a.Node != host {
		t.Errorf("node is %q, want the host's name %q", a.Node, host)
	}
	if a.RunDir != "/run/vragent" || !a.Fastpath.Start || a.Fastpath.Workers != 1 || a.Fabric.Address.IsValid() || !a.Host.Masquerade {
		t.Errorf("defaults: %+v", a)
	}
	a, err = LoadAgent(write(t, "a.yaml", minimal+"fastpath: {start: false}\nhost: {masquerade: false}\n"))
	if err != nil || a.Fastpath.Start || a.Host.Masquerade {
		t.Errorf("an explicit false is lost: %+v, %v", a, err)
	}
}

// Every mistake is named with file, key and fix; several at once.
func TestAgentMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     `fabric.interface: is missing (name the interface`,
		"fabric: {interfac: eth0}":             `fabric.interfac: unknown key (did you mean interface?)`,
		"colour: red":                          `colour: unknown key (known here: controller, fabric`,
		"runDir: 5":                            `runDir: is the number 5, must be a text (put it in quotes)`,
		"RunDir: /run/x":                       `RunDir: unknown key (did you mean runDir?)`,
		"fastpath: {offload: off}":             `fastpath.offload: is false, must be a text (put it in quotes)`,
		"fastpath: {attach: xdp}":              `fastpath.attach: "xdp" is not known (use auto or tcx or clsact)`,
		"fastpath: {offload: always}":          `fastpath.offload: "always" is not known (use off or auto or force)`,
		"fastpath: {workers: two}":             `fastpath.workers: is the text "two", must be a number`,
		"fastpath: {workers: 1.5}":             `fastpath.workers: is 1.5, must be a whole number`,
		"fastpath: {workers: 0}":               `fastpath.workers: 0 is not between 1 and 128`,
		"fastpath: {workers: [1]}":             `fastpath.workers: is a list, must be a number`,
		"fastpath: {cores: [1, 2]}":            `fastpath.cores: names 2 cores for 1 workers`,
		"fastpath: {cores: 1}":                 `fastpath.cores: is the number 1, must be a list`,
		"fastpath: {poll: lazy}":               `fastpath.poll: "lazy" is not known (use busy or adaptive)`,
		"fastpath: [1]":                        `fastpath: is a list, must be a group of keys`,
		"fabric: {address: x}":                 `fabric.address: "x" is not an IP address such as 192.0.2.1`,
		`fabric: {address: "2001:db8::1"}`:     `fabric.address: 2001:db8::1 is not a unicast IPv4 address`,
		"fabric: {io: xdp}":                    `fabric.io: "xdp" is not known (use tcx or afxdp)`,
		"fabric: {io: 1}":                      `fabric.io: is the number 1, must be a text`,
		"fabric: {interface: a b}":             `fabric.interface: "a b" is not a name of an interface`,
		"controller: {addresses: [x]}":         `controller.addresses[0]: "x" is not host:port`,
		"controller: {ca: ca.crt}":             `controller.ca: "ca.crt" is not an absolute path`,
		"mtu: 900":                             `mtu: 900 is not between 1280 and 65535`,
		"node: a\nnode: b":                     `line 2: key "node" is given twice`,
		"node: [":                              `line 1: did not find expected node content`,
		"node: a\n---\nnode: b":                `has 2 YAML documents`,
		"log: {level: loud}":                   `log.level: "loud" is not known (use debug or info or warn or error)`,
		"runDir: /" + strings.Repeat("x", 100): `runDir: is 101 bytes long, sockets in it allow 93`,
	} {
		file := write(t, "bad.yaml", text)
		_, err := LoadAgent(file)
		if err == nil || !strings.Contains(err.Error(), file+": "+want) {
			t.Errorf("%q: got %v\nwant …%s…", text, err, want)
		}
	}
	_, err := LoadAgent(write(t, "bad.yaml", "runDir: x\nmtu: 1\n"))
	if n := len(strings.Split(err.Error(), "\n")); n != 4 {
		t.Errorf("four mistakes, %d lines: %v", n, err)
	}
	if _, err := LoadAgent("/nonexistent/vragent.yaml"); err == nil || !strings.Contains(err.Error(), "/nonexistent/vragent.yaml: no such file") {
		t.Errorf("missing file: %v", err)
	}
}

func TestControllerMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"networks: {podSubnets: []}":                                        `networks.podSubnets: is empty`,
		"networks: {podSubnets: [10.32.0.1/12]}":                            `networks.podSubnets[0]: 10.32.0.1/12 has host bits set (write 10.32.0.0/12)`,
		"networks: {podSubnets: [10.96.0.0/16]}":                            `overlaps 10.96.0.0/16 of networks.podSubnets[0]`,
		"networks: {podSubnets: [10.32.0.0/28]}":                            `10.32.0.0/28 is smaller than one block (/26)`,
		"networks: {podSubnets: [10.32.0.0]}":                               `networks.podSubnets[0]: "10.32.0.0" is not a subnet such as`,
		"networks: {podSubnets: ['']}":                                      `networks.podSubnets[0]: is empty`,
		"networks: {blockSize4: 31}":                                        `networks.blockSize4: 31 is not between 20 and 30`,
		"cluster: My_Cluster":                                               `cluster: "My_Cluster" is not a name`,
		"manifests: here":                                                   `manifests: "here" is not an absolute path`,
		"listen: {api: 8082}":                                               `listen.api: is the number 8082, must be a text`,
		`listen: {southbound: ":0"}`:                                        `listen.southbound: ":0" is not host:port`,
		"tls: {ca: ''}":                                                     `tls.ca: is missing`,
		"source: api":                                                       `source: "api" is not known (use manifests or kubernetes)`,
		"networks: {blockQuarantine: 1 hour}":                               `networks.blockQuarantine: "1 hour" is not a time span such as 90s`,
		"networks: {blockQuarantine: -1s}":                                  `networks.blockQuarantine: -1s is not between 1s and 720h`,
		"networks: {sharedServices: [kube-dns]}":                            `networks.sharedServices[0]: "kube-dns" is not namespace/name`,
		"networks: {publicPool: {name: pool}}":                              `networks.publicPool: does not name a pool`,
		"networks: {publicPool: pool}":                                      `networks.publicPool: is the text "pool", must be a group of keys`,
		"kubernetes: {leasename: x}":                                        `kubernetes.leasename: unknown key (did you mean leaseName?)`,
		"{source: kubernetes, kubernetes: {leaseName: A}}":                  `kubernetes.leaseName: "A" is not a name`,
		"{source: kubernetes, kubernetes: {agentAccount: ''}}":              `kubernetes.agentAccount: "" is not a name`,
		"{source: kubernetes, kubernetes: {kubeconfig: x}}":                 `kubernetes.kubeconfig: "x" is not an absolute path`,
		"{source: kubernetes, kubernetes: {apiServer: 'http://192.0.2.1'}}": `kubernetes.apiServer: "http://192.0.2.1" is no address of an API server`,
		"{source: kubernetes, kubernetes: {apiServer: '192.0.2.1:6443'}}":   `is no address of an API server`,
	} {
		_, err := LoadController(write(t, "bad.yaml", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v\nwant …%s…", text, err, want)
		}
	}
	if _, err := LoadController(write(t, "empty.yaml", "# all defaults\n")); err != nil {
		t.Error(err)
	}
}

// What a source does not use is not checked, and a pod knows its namespace.
func TestControllerOnKubernetes(t *testing.T) {
	file := write(t, "c.yaml", "{source: kubernetes, manifests: '', stateDir: '', tls: {ca: ''}, networks: {publicPool: {project: k8s-default, name: pool}}}")
	t.Setenv("POD_NAMESPACE", "")
	v, err := LoadController(file)
	if err != nil || v.Kubernetes.Namespace != "vragent-system" || v.Networks.PublicPool.Name != "pool" {
		t.Error(v, err)
	}
	t.Setenv("POD_NAMESPACE", "elsewhere")
	if v, err = LoadController(file); err != nil || v.Kubernetes.Namespace != "elsewhere" {
		t.Error(v, err)
	}
	v, err = LoadController(write(t, "c.yaml", "{source: kubernetes, kubernetes: {namespace: mine, apiServer: 'https://[2001:db8::1]:6443'}, networks: {blockQuarantine: 90m}}"))
	if err != nil || v.Kubernetes.Namespace != "mine" || v.Networks.BlockQuarantine.Minutes() != 90 {
		t.Error(v, err)
	}
}

func TestParseCNI(t *testing.T) {
	v, err := ParseCNI([]byte(`{"cniVersion":"1.0.0","name":"n","type":"vrouter","ipam":{},"dns":{"nameservers":["192.0.2.53"]},` +
		`"runtimeConfig":{"portMappings":[{"hostPort":1}]},"capabilities":{"portMappings":true},"prevResult":{"anything":[1]},"args":{"cni":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if v.RunDir != "/run/vragent" || v.WaitSeconds != 10 || v.LogLevel != "info" || string(v.PrevResult) != `{"anything":[1]}` {
		t.Errorf("defaults: %+v", v)
	}
	entry := func(more string) string {
		return `{"cniVersion":"1.1.0","name":"n","type":"vrouter"` + more + `}`
	}
	for text, want := range map[string]string{
		entry(`,"mtuu":1`):                                    `CNI configuration: mtuu: unknown key (did you mean mtu?)`,
		entry(`,"mtu":1,"mtu":2`):                             `mtu: is given twice`,
		entry(`,"prevResult":{"a":1,"a":2}`):                  `prevResult.a: is given twice`,
		entry(`,"mtu":"1500"`):                                `mtu: is the text "1500", must be a number`,
		entry(`,"mtu":100`):                                   `mtu: 100 is not between 1280 and 65535`,
		entry(`,"ipam":{"type":"host-local"}`):                `ipam.type: host-local cannot be used: the agent allocates addresses (remove ipam)`,
		entry(`,"ipam":{"type":1}`):                           `ipam.type: 1 cannot be used`,
		entry(`,"runDir":"run"`):                              `runDir: "run" is not an absolute path`,
		entry(`,"waitSeconds":-1`):                            `waitSeconds: -1 is not between`,
		entry(`,"logLevel":"x"`):                              `logLevel: "x" is not known`,
		entry(`,"cni.dev/valid-attachments":[{}]`):            `cni.dev/valid-attachments[0]: has no containerID`,
		entry(`,"cni.dev/attachments":[{"containerid":"x"}]`): `cni.dev/attachments[0].containerid: unknown key (did you mean containerID?)`,
		entry(`,"capabilities":[]`):                           `capabilities: is a list, must be a group of keys`,
		`{"cniVersion":"1.1.0","type":"vrouter"}`:             `name: is missing`,
		`{"name":"n","type":"bridge"}`:                        `type: "bridge" is not this plugin (use vrouter)`,
		`{"name":"n","type":"vrou`:                            `is not JSON: byte 24: unexpected end of JSON input (it may be truncated)`,
		`[]`:                                                  `is a list, must be a group of keys`,
		`"x"`:                                                 `is the text "x", must be a group of keys`,
		``:                                                    `is not JSON`,
	} {
		if _, err := ParseCNI([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v\nwant …%s…", text, err, want)
		}
	}
}

func TestCNIValidAttachments(t *testing.T) {
	for more, want := range map[string]int{
		``: -1, `,"cni.dev/valid-attachments":null`: 0, `,"cni.dev/attachments":[]`: 0,
		`,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],"cni.dev/attachments":[]`: 1,
	} {
		text := []byte(`{"name":"n","type":"vrouter"` + more + `}`)
		v, err := ParseCNI(text)
		if err != nil {
			t.Fatal(err)
		}
		list, given, err := v.Valid(text)
		if err != nil || given != (want >= 0) || (given && len(list) != want) {
			t.Errorf("%s: got %v, %t, %v", more, list, given, err)
		}
	}
}

func TestCNIListMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"n","plugins":[]}`:                             `x.conflist: plugins: is empty`,
		`{"name":"n","plugins":[{"type":"portmap"}]}`:           `x.conflist: plugins[0]: CNI configuration: type: "portmap" is not this plugin`,
		`{"name":"n","plugins":[{"type":"vrouter","color":1}]}`: `color: unknown key`,
		`{"name":"n","plugin":[]}`:                              `plugin: unknown key (did you mean plugins?)`,
		`{"name":"n","plugins":[{"type":"vrouter"}`:             `is not JSON`,
	} {
		if err := CheckCNIList("x.conflist", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", text, err, want)
		}
	}
}

// FuzzParseCNI: any stdin gives a configuration or a sentence, never a panic;
// what is taken has sane values.
func FuzzParseCNI(f *testing.F) {
	for _, seed := range []string{
		`{"cniVersion":"1.1.0","name":"n","type":"vrouter","mtu":1400,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}`,
		`{"name":"n","type":"vrouter","prevResult":{"ips":[{"address":"192.0.2.1/32"}]},"runtimeConfig":{"a":[1,{"b":null}]}}`,
		`{"name":1,"name":[[]],"mtu":1e99}`, `null`, `{"dns":{"search":["a",1]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stdin []byte) {
		v, err := ParseCNI(stdin)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if v.Name == "" || v.Type != CNIType || v.MTU < 0 || v.MTU > 65535 || v.WaitSeconds < 0 || !filepath.IsAbs(v.RunDir) {
			t.Fatalf("taken: %+v", v)
		}
		_, _, _ = v.Valid(stdin)
	})
}

// FuzzParseYAML: the same for files.
func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("fastpath: &a {cores: [1]}\nhost: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := defaultAgent()
		if err := parseYAML("f", text, a); err == nil {
			_ = a.check("f")
		}
	})
}
