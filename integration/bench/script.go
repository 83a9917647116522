package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vragent/vragent/integration/testbed"
)

// script is a subject that is built by a shell script in subjects/. README.md
// says what it has to do.
type script struct {
	site
	name, said string
}

func newScript(name string) func(*options) subject {
	return func(o *options) subject { return &script{site: newSite(o, name+"-load", testbed.Config{}), name: name} }
}

func (s *script) run(ctx context.Context, verb string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(s.o.root, "integration/bench/subjects", s.name+".sh"), verb, s.prefix())
	var out, complaints strings.Builder
	c.Stdout, c.Stderr = &out, &complaints
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s.sh %s: %w: %s", s.name, verb, err, strings.TrimSpace(complaints.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *script) prefix() string { return "vragent-bench-" + s.name }

func (s *script) place(name string) *testbed.Place {
	return &testbed.Place{Name: name, Netns: filepath.Join("/run/netns", s.prefix()+"-"+name)}
}

func (s *script) up(ctx context.Context) error {
	if err := s.down(ctx); err != nil {
		return err
	}
	said, err := s.run(ctx, "up")
	if err != nil {
		return err
	}
	s.said = said
	client, server := s.place("client"), s.place("server")
	for _, p := range []*testbed.Place{client, server} {
		if err := tune(p); err != nil {
			return err
		}
	}
	s.client = client
	s.ends[local] = end{server, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), port), "eth0"}
	if err := s.serve(ctx, server); err != nil {
		return err
	}
	return s.reachable(ctx, reachLimit)
}

// down ends the servers, which live in the script's namespaces, before the script
// removes those.
func (s *script) down(ctx context.Context) error {
	err := testbed.StopAll(ctx, s.place("client"), s.place("server"))
	_, scriptErr := s.run(ctx, "down")
	return errors.Join(err, scriptErr, s.lab.Down(ctx))
}

func (s *script) settings(context.Context) string { return s.said + "\n" + tuning }
