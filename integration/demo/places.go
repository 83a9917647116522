package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vragent/vragent/integration/testbed"
)

const placeScript = `#!/bin/sh
# Runs a command in the network of %[1]s; without one, a shell.
%[2]sexport PATH="%[3]s:$PATH"
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
exec nsenter --net=%[4]s -- "$@"
`

// writePlaces writes build/demo/<place> for every place one may want to look at.
func (d *demo) writePlaces() error {
	places := []*testbed.Place{d.Outside, d.Nodes["node1"].Place, d.Nodes["node2"].Place}
	for _, p := range pods {
		places = append(places, d.Pod(p.name).Place)
	}
	if err := os.MkdirAll(d.build, 0o755); err != nil {
		return err
	}
	for _, p := range places {
		if err := d.writePlace(p.Name, p); err != nil {
			return err
		}
	}
	return d.writePlace("controller", d.Underlay)
}

func (d *demo) writePlace(name string, p *testbed.Place) error {
	env := ""
	for _, e := range p.Env {
		env += "export " + e + "\n"
	}
	text := fmt.Sprintf(placeScript, name, env, d.Bin, p.Netns)
	return os.WriteFile(filepath.Join(d.build, name), []byte(text), 0o755)
}

// writePIDs writes build/demo/pids: name and pid, a line for each process.
func (d *demo) writePIDs() error {
	var text strings.Builder
	for _, p := range d.Processes() {
		fmt.Fprintln(&text, p.Name, p.PID)
	}
	for _, p := range d.daemons {
		fmt.Fprintln(&text, p.Name, p.PID())
	}
	return os.WriteFile(filepath.Join(d.build, "pids"), []byte(text.String()), 0o644)
}
