package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const agentConfig = `node: %[1]s
runDir: %[2]s
stateDir: %[3]s
fabric: {interface: eth0, io: %[11]s}
controller:
  addresses: ["%[4]s:%[5]d"]
  ca: %[6]s/ca.crt
  cert: %[6]s/%[1]s.crt
  key: %[6]s/%[1]s.key
fastpath: {start: true, workers: %[7]d, poll: %[8]s, flowEntries: %[9]d, log: %[10]s%[12]s%[14]s}
host: {interface: vhost0, masquerade: true}
log: {level: info, format: text}
%[13]s`

const controllerConfig = `cluster: k8s
manifests: %[1]s
listen: {southbound: "%[2]s:%[3]d", api: "127.0.0.1:8082"}
tls: {ca: %[4]s/ca.crt, cert: %[4]s/controller.crt, key: %[4]s/controller.key}
networks:
  podSubnets: ["10.32.0.0/12", "fd00:10:32::/64"]
  serviceSubnets: ["10.96.0.0/12", "fd00:10:96::/112"]
stateDir: %[5]s/controller
log: {level: info, format: text}
`

const pluginConfig = `{
  "cniVersion": "1.1.0",
  "name": "vrouter",
  "plugins": [{"type": "vrouter", "runDir": %q}]
}
`

func (n *Node) configFile() string { return filepath.Join(n.dir, "vragent.yaml") }

// ConflistFile is the node's CNI configuration, alone in its folder.
func (n *Node) ConflistFile() string { return filepath.Join(n.dir, "net.d", "10-vrouter.conflist") }

// RunDir holds the node's sockets and bpffs; StateDir its ledger.
func (n *Node) RunDir() string   { return n.dir }
func (n *Node) StateDir() string { return n.state }

func (l *Lab) controllerFile() string { return filepath.Join(l.RunDir, "vrcontroller.yaml") }
func (l *Lab) certDir() string        { return filepath.Join(l.RunDir, "certs") }

// writeConfiguration writes what an administrator would have written on the
// controller's machine and on every node.
func (l *Lab) writeConfiguration(ctx context.Context) error {
	for _, dir := range []string{l.RunDir, l.certDir(), l.ManifestDir(), l.LogDir(), filepath.Join(l.StateDir, "controller")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range l.Manifests {
		if err := os.CopyFS(l.ManifestDir(), os.DirFS(dir)); err != nil {
			return fmt.Errorf("copy manifests: %w", err)
		}
	}
	text := fmt.Sprintf(controllerConfig, l.ManifestDir(), routerAddress, southboundPort, l.certDir(), l.StateDir)
	if err := os.WriteFile(l.controllerFile(), []byte(text), 0o644); err != nil {
		return err
	}
	for _, name := range l.Config.Nodes {
		if err := l.configureNode(l.Nodes[name]); err != nil {
			return err
		}
	}
	return l.makeCertificates(ctx)
}

func (l *Lab) configureNode(n *Node) error {
	for _, dir := range []string{n.dir, n.state, filepath.Dir(n.ConflistFile())} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	log := filepath.Join(l.LogDir(), "fastpath-"+n.Name+".log")
	text := fmt.Sprintf(agentConfig, n.Name, n.dir, n.state, routerAddress, southboundPort, l.certDir(),
		l.Workers, l.Poll, l.Flows, log, l.FabricIO, setting(", offload: %q", l.Offload)+setting(", cores: [%s]", l.core(n)),
		setting("io: %s\n", l.IO), setting(", attach: %s", l.AttachBy))
	if err := os.WriteFile(n.configFile(), []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(n.ConflistFile(), fmt.Appendf(nil, pluginConfig, n.dir), 0o644)
}

// core is that of the node's worker, "" when it is not pinned.
func (l *Lab) core(n *Node) string {
	if i := slices.Index(l.Config.Nodes, n.Name); i < len(l.Cores) {
		return fmt.Sprint(l.Cores[i])
	}
	return ""
}

// setting is a key of the configuration, left out to get the product's default.
func setting(format, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(format, value)
}

func (l *Lab) makeCertificates(ctx context.Context) error {
	args := []string{"certs", "--dir", l.certDir(), "--controller-address", routerAddress}
	for _, name := range l.Config.Nodes {
		args = append(args, "--node", name)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(l.Bin, "vrcontroller"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("vrcontroller %s: %w: %s", strings.Join(args, " "), err, lastLines(string(out), 5))
	}
	return nil
}

// WriteManifest puts a manifest into the folder the controller watches, in one
// step, as an editor or a GitOps agent does. Removing it is RemoveManifest.
func (l *Lab) WriteManifest(name, text string) error {
	path := filepath.Join(l.ManifestDir(), name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// RemoveManifest takes a manifest away.
func (l *Lab) RemoveManifest(name string) error {
	return os.Remove(filepath.Join(l.ManifestDir(), name))
}
