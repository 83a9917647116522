package conf

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// CNIType is the plugin's name in a conflist and that of its binary.
const CNIType = "vrouter"

const cniFile = "CNI configuration" // what errors call stdin

// CNI is vrouter's entry of a conflist as the runtime hands it over on stdin.
type CNI struct {
	CNIStandard

	RunDir      string `json:"runDir"` // of the agent's socket
	MTU         int    `json:"mtu"`    // bytes; 0: what the agent says
	LogFile     string `json:"logFile"`
	LogLevel    string `json:"logLevel"`    // debug, info, warn, error
	WaitSeconds int    `json:"waitSeconds"` // how long ADD waits for the pod to be known
}

// CNIStandard are the keys the CNI specification defines for every plugin or
// the runtime adds. (More fields than we like: the list is the specification's.)
type CNIStandard struct {
	CNIVersion    string          `json:"cniVersion"`
	Name          string          `json:"name"`
	Type          string          `json:"type"`
	Capabilities  map[string]bool `json:"capabilities"`
	RuntimeConfig map[string]any  `json:"runtimeConfig"`
	Args          map[string]any  `json:"args"`
	DNS           CNIDNS          `json:"dns"` // handed on in the result
	IPAM          map[string]any  `json:"ipam"`
	PrevResult    json.RawMessage `json:"prevResult"`

	// GC. The specification's name, and the one its first text had by mistake;
	// libcni sends both.
	ValidAttachments []CNIAttachment `json:"cni.dev/valid-attachments"`
	Attachments      []CNIAttachment `json:"cni.dev/attachments"`
}

// CNIDNS is the specification's dns dictionary.
type CNIDNS struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// CNIAttachment names a container's interface.
type CNIAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// ParseCNI reads the configuration of one call.
func ParseCNI(stdin []byte) (*CNI, error) {
	v := &CNI{RunDir: "/run/vragent", LogLevel: "info", WaitSeconds: 10}
	if err := parseJSON(cniFile, stdin, v); err != nil {
		return nil, err
	}
	if string(v.PrevResult) == "null" {
		v.PrevResult = nil
	}
	if err := v.check(cniFile); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *CNI) check(file string) error {
	c := &checks{file: file}
	if v.Name == "" {
		c.fail("name", "is missing", "name the network")
	}
	if v.Type != CNIType {
		c.fail("type", fmt.Sprintf("%q is not this plugin", v.Type), "use "+CNIType)
	}
	if kind, ok := v.IPAM["type"]; ok && kind != "" {
		c.fail("ipam.type", fmt.Sprintf("%v cannot be used: the agent allocates addresses", kind), "remove ipam")
	}
	c.runDir("runDir", v.RunDir)
	if v.MTU != 0 {
		c.within("mtu", v.MTU, minMTU, maxMTU, "0 takes the agent's")
	}
	if v.LogFile != "" {
		c.absolute("logFile", v.LogFile)
	}
	c.oneOf("logLevel", v.LogLevel, "debug", "info", "warn", "error")
	// The container runtime itself gives up after two minutes.
	c.within("waitSeconds", v.WaitSeconds, 0, 110, "the default is 10")
	c.attachments("cni.dev/valid-attachments", v.ValidAttachments)
	c.attachments("cni.dev/attachments", v.Attachments)
	return c.err()
}

// attachments must be whole: a half-read list would let GC delete living pods.
func (c *checks) attachments(key string, list []CNIAttachment) {
	for i, a := range list {
		if a.ContainerID == "" || a.IfName == "" {
			c.fail(fmt.Sprintf("%s[%d]", key, i), "has no containerID or no ifname", "")
		}
	}
}

// Valid returns the attachments GC must keep. given is false when the runtime
// sent no list at all, which is not the same as an empty one: that, or null
// (libcni's way to write it), condemns every attachment.
func (v *CNI) Valid(stdin []byte) (list []CNIAttachment, given bool, err error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return nil, false, err
	}
	if _, ok := keys["cni.dev/valid-attachments"]; ok {
		return v.ValidAttachments, true, nil
	}
	_, given = keys["cni.dev/attachments"]
	return v.Attachments, given, nil
}

// CNIList is a conflist as an operator writes it.
type CNIList struct {
	CNIVersion   string            `json:"cniVersion"`
	CNIVersions  []string          `json:"cniVersions"`
	Name         string            `json:"name"`
	DisableCheck bool              `json:"disableCheck"`
	DisableGC    bool              `json:"disableGC"`
	LoadOnly     bool              `json:"loadOnlyInlinedPlugins"`
	Plugins      []json.RawMessage `json:"plugins"`
}

// CheckCNIList checks a conflist's text: vrouter must be its first plugin, and
// its entry must be one ParseCNI takes.
func CheckCNIList(file string, text []byte) error {
	var list CNIList
	if err := parseJSON(file, text, &list); err != nil {
		return err
	}
	if filepath.Ext(file) != ".conflist" {
		return &Error{file, "", "does not end in .conflist", "runtimes choose the format by the name"}
	}
	if len(list.Plugins) == 0 {
		return &Error{file, "plugins", "is empty", "the first must be " + CNIType}
	}
	var entry map[string]any
	if err := json.Unmarshal(list.Plugins[0], &entry); err != nil {
		return &Error{file, "plugins[0]", err.Error(), ""}
	}
	entry["name"], entry["cniVersion"] = list.Name, list.CNIVersion // as libcni does
	stdin, err := json.Marshal(entry)
	if err != nil {
		return &Error{file, "plugins[0]", err.Error(), ""}
	}
	if _, err := ParseCNI(stdin); err != nil {
		return &Error{file, "plugins[0]", strings.ReplaceAll(err.Error(), "\n", "; "), ""}
	}
	return nil
}
