package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/converge"
	"github.com/vragent/vragent/controller/hub"
	"github.com/vragent/vragent/controller/lease"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch"
	"github.com/vragent/vragent/controller/watch/kube"
	"github.com/vragent/vragent/controller/write"
)

// parts are what differs between a directory of manifests and a live cluster.
type parts struct {
	source  converge.Source
	store   converge.Store
	tls     hub.Credentials
	enroll  *hub.Enrollment
	runs    []func(context.Context) error
	cluster func() *api.APIServer // nil: there is none
	close   func()
}

// manifests is a controller on its own: a directory, a file of leases,
// certificates in files.
func manifests(c *conf.Controller, log *slog.Logger) (*parts, error) {
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return nil, err
	}
	source := watch.New(c.Manifests, log)
	return &parts{
		source: source, store: store, tls: hub.Files(c.TLS),
		runs:  []func(context.Context) error{source.Run},
		close: func() { store.Close() },
	}, nil
}

// kubernetes is one of several replicas: the API server is source, store and
// authority. It waits for the API server where it cannot do without.
func kubernetes(ctx context.Context, c *conf.Controller, log *slog.Logger) (*parts, error) {
	config, err := kube.Load(c.Kubernetes.Kubeconfig)
	if err != nil {
		return nil, err
	}
	if c.Kubernetes.APIServer != "" {
		config.Host = c.Kubernetes.APIServer
	}
	source, err := kube.New(config, log)
	if err != nil {
		return nil, err
	}
	writer, err := write.New(write.Config{
		REST: config, Namespace: c.Kubernetes.Namespace, LeaseName: c.Kubernetes.LeaseName,
		Identity: identity(), Account: c.Kubernetes.AgentAccount, Pod: source.PodOf, Log: log,
	})
	if err != nil {
		return nil, err
	}
	cert, key, err := writer.Authority(ctx, certs.NewAuthority)
	if err != nil {
		return nil, err
	}
	authority, err := certs.ParseAuthority(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate authority in Secret %s/vragent-ca: %w", c.Kubernetes.Namespace, err)
	}
	return &parts{
		source: source, store: ipBlocks{writer, source}, tls: authority,
		enroll:  &hub.Enrollment{Tokens: writer, Signer: authority},
		runs:    []func(context.Context) error{source.Run, writer.Run},
		cluster: func() *api.APIServer { return apiServer(config.Host, source.Status(), writer.Leader()) },
		close:   func() {},
	}, nil
}

// ipBlocks are leases that count once the API server says so; the leader makes
// them.
type ipBlocks struct {
	*write.Writer
	source *kube.Source
}

// Leases are those the API server has told of.
func (b ipBlocks) Leases() []plan.Lease {
	leases, _ := b.source.Leases()
	return leases
}

// identity is this replica's among all that ever ran: a successor in the same
// pod is another one.
func identity() string {
	host, _ := os.Hostname()
	return cmp.Or(os.Getenv("POD_NAME"), host, "vrcontroller") + "_" + rand.Text()
}

func apiServer(address string, s kube.Status, l write.Leader) *api.APIServer {
	out := &api.APIServer{
		Address: address, Connected: s.Connected, Since: s.Since, Error: s.Error, Waiting: s.Waiting,
		Leader: api.Leader{Name: l.Name, Self: l.Self, Since: l.Since},
	}
	if out.Connected && l.Error != "" {
		out.Connected, out.Since, out.Error = false, l.Asked, l.Error
	}
	return out
}
