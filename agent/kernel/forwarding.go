package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// forwardingFile remembers the settings that EnableForwarding has changed, and what
// they were. It lies in the run directory: both end when the machine does.
const forwardingFile = "forwarding.json"

const netSettings = "/proc/sys/net/"

// Forwarding reports whether the kernel routes IPv4 and IPv6 between interfaces;
// pods reach the outside through it.
func Forwarding() (v4, v6 bool, err error) {
	for path, on := range map[string]*bool{"ipv4/ip_forward": &v4, "ipv6/conf/all/forwarding": &v6} {
		now, err := setting(path)
		if err != nil {
			return false, false, fmt.Errorf("read forwarding: %w", err)
		}
		*on = now == "1"
	}
	return v4, v6, nil
}

// EnableForwarding makes the kernel route between interfaces. An interface that
// learns its IPv6 routes from advertisements goes on doing so: without accept_ra=2
// a router ignores them, and the node would lose its way out. RestoreForwarding
// takes back what was changed.
func EnableForwarding(runDir string) error {
	wanted, err := wantedForwarding()
	if err != nil {
		return err
	}
	before, err := remembered(runDir)
	if err != nil {
		return err
	}
	var changes [][2]string
	for _, s := range wanted {
		now, err := setting(s[0])
		if err != nil {
			return err
		}
		if now == "" || now == s[1] {
			continue
		}
		if _, known := before[s[0]]; !known {
			before[s[0]] = now
		}
		changes = append(changes, s)
	}
	if len(changes) == 0 {
		return nil
	}
	err = remember(runDir, before)
	for _, s := range changes {
		err = errors.Join(err, sysctl(s[0], s[1])) // also when it will not be undone
	}
	return err
}

// wantedForwarding are settings and values, in the order to set them in: a router
// that does not accept advertisements forgets the routes it has from them.
func wantedForwarding() (settings [][2]string, err error) {
	_, v6, err := Forwarding()
	if err != nil {
		return nil, err
	}
	links, err := linkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		path := "ipv6/conf/" + l.Attrs().Name + "/accept_ra"
		if now, err := setting(path); !v6 && err == nil && now == "1" {
			settings = append(settings, [2]string{path, "2"})
		}
	}
	return append(settings, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"}), nil
}

// RestoreForwarding gives the settings that EnableForwarding has changed the
// values they had. The interfaces may be gone.
func RestoreForwarding(runDir string) error {
	before, err := remembered(runDir)
	if err != nil {
		return err
	}
	for path, value := range before {
		err = errors.Join(err, sysctl(path, value))
	}
	if err != nil {
		return fmt.Errorf("restore forwarding: %w", err)
	}
	if err := os.Remove(filepath.Join(runDir, forwardingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore forwarding: %w", err)
	}
	return nil
}

// setting reads a value below /proc/sys/net; empty: there is no such setting.
func setting(path string) (string, error) {
	now, err := os.ReadFile(netSettings + path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(now)), err
}

func remembered(runDir string) (map[string]string, error) {
	before := map[string]string{}
	text, err := os.ReadFile(filepath.Join(runDir, forwardingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return before, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settings before the agent: %w", err)
	}
	if json.Unmarshal(text, &before) != nil {
		return map[string]string{}, nil // cut off by a crash: forwarding had not been touched
	}
	return before, nil
}

func remember(runDir string, before map[string]string) error {
	text, err := json.Marshal(before)
	if err == nil {
		err = os.MkdirAll(runDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(runDir, forwardingFile), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the settings before the agent: %w", err)
	}
	return nil
}
