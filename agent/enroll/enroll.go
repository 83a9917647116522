// Package enroll gives an agent in a cluster its place: from the API server it
// learns the controllers' addresses and their authority, and from a controller it
// gets this node's certificate, and a new one in time. Run's goroutine does it
// all; what is known lies in one file, so that a restart needs neither of the
// two. It does not keep streams: see agent/dial.
package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vragent/vragent/conf"
)

// ServerName is what a controller's certificate says, wherever it runs.
const ServerName = "vrcontroller"

// Sign has the controller at address sign a certificate request (PKCS#10, DER).
type Sign func(ctx context.Context, address string, t *tls.Config, token string, csr []byte) (pem []byte, err error)

// Config says who asks, and where.
type Config struct {
	Node      string
	StateDir  string
	Addresses []string // of the controllers; empty: of Service vrcontroller
	conf.Kubernetes
	Sign Sign
	Log  *slog.Logger
}

// Keeper keeps what an agent needs to reach the controllers.
type Keeper struct {
	// Set once by New.
	cfg     Config
	file    string
	changed chan struct{}

	// Written by Run's goroutine, read by anyone under mu.
	mu     sync.Mutex
	known  known
	api    string // why the API server was of no use last; empty: it was
	signer string // the same of the controllers as signers

	// Owned by Run's goroutine.
	version string // resource version of the endpoint slices
}

// New reads what an earlier agent knew.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, file: filepath.Join(cfg.StateDir, FileName), changed: make(chan struct{}, 1)}
	known, err := read(k.file)
	if err != nil {
		cfg.Log.Warn("what was known of the controllers cannot be read; it will be learned again", "file", k.file, "error", err)
	}
	if known.identity != nil && known.identity.Leaf.Subject.CommonName != cfg.Node {
		cfg.Log.Warn("the certificate is another node's; this one enrolls anew", "node", cfg.Node, "was", known.identity.Leaf.Subject.CommonName)
		known.drop()
	}
	if len(cfg.Addresses) > 0 {
		known.Addresses = cfg.Addresses
	}
	k.known = known
	return k
}

// Addresses returns where the controllers are: nowhere, until there is a
// certificate to show them.
func (k *Keeper) Addresses() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known.identity == nil {
		return nil
	}
	return slices.Clone(k.known.Addresses)
}

// Changed has a value when Addresses may say something new.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// TLS returns the identity of this node and trust in the controllers.
func (k *Keeper) TLS(string) (*tls.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known.identity == nil {
		return nil, errors.New("this node has no certificate yet")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{*k.known.identity}, RootCAs: k.known.pool, ServerName: ServerName, MinVersion: tls.VersionTLS13,
	}, nil
}

// State says whether this node can prove who it is, and what stands in the way.
func (k *Keeper) State(now time.Time) (ok bool, sentence string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.known.identity
	var faults []string
	for _, f := range []string{k.api, k.signer} {
		if f != "" {
			faults = append(faults, f)
		}
	}
	switch why := strings.Join(faults, "; "); {
	case id == nil && why == "":
		return false, "this node enrolls"
	case id == nil:
		return false, "this node is not enrolled: " + why
	case now.After(id.Leaf.NotAfter):
		return false, fmt.Sprintf("the certificate of this node has expired on %s: %s", id.Leaf.NotAfter.UTC().Format(time.DateTime), why)
	case k.signer != "":
		return false, fmt.Sprintf("the certificate of this node, valid until %s, is not renewed: %s", id.Leaf.NotAfter.UTC().Format(time.DateTime), k.signer)
	case why != "":
		return true, "enrolled; what is known of the controllers serves meanwhile: " + why
	default:
		return true, "enrolled, " + id.Leaf.NotAfter.UTC().Format("certificate valid until "+time.DateTime)
	}
}

const (
	retryAfter = 3 * time.Second // something is missing
	lookAfter  = 4 * time.Minute // nothing is, and nothing has moved: the CA may have
	leastPause = time.Second
)

// Run keeps everything known up to date until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		api, apiErr := k.look(ctx)
		var signErr error
		if now := time.Now(); k.due(now) {
			signErr = k.enroll(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		k.note(apiErr, signErr)
		k.rest(ctx, api, apiErr != nil || signErr != nil)
	}
	return nil
}

// look asks the API server and takes over what it says.
func (k *Keeper) look(ctx context.Context) (*api, error) {
	api, err := newAPI(k.cfg.Kubernetes)
	if err != nil {
		return nil, err
	}
	ca, caErr := api.authority(ctx)
	addresses, addrErr := k.cfg.Addresses, error(nil)
	if len(addresses) == 0 {
		addresses, k.version, addrErr = api.controllers(ctx)
	}
	err = errors.Join(caErr, addrErr)
	return api, errors.Join(err, k.learn(ca, addresses))
}

// learn takes over an authority and addresses; empty ones change nothing.
func (k *Keeper) learn(ca string, addresses []string) error {
	k.mu.Lock()
	next := k.known
	k.mu.Unlock()
	moved := false
	if ca != "" && ca != next.CA {
		if next.CA != "" {
			k.cfg.Log.Warn("the controllers have another certificate authority now")
		}
		if err := next.trust(ca); err != nil {
			return fmt.Errorf("ConfigMap %s/%s: %w", k.cfg.Namespace, configMap, err)
		}
		moved = true
	}
	if len(addresses) > 0 && !slices.Equal(addresses, next.Addresses) {
		k.cfg.Log.Info("controllers", "addresses", addresses)
		next.Addresses, moved = addresses, true
	}
	if !moved {
		return nil
	}
	return k.take(next)
}

// take makes next what is known, here and in the file.
func (k *Keeper) take(next known) error {
	k.mu.Lock()
	k.known = next
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
	return next.write(k.file)
}

// due says whether a certificate is wanted: there is none, it has lived two
// thirds of its life, or the authority that signed it is not trusted any more.
func (k *Keeper) due(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.known.identity
	return id == nil || !now.Before(renewal(id.Leaf)) || k.known.verify(id.Leaf) != nil
}

func renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// enroll has one of the controllers sign a new key.
func (k *Keeper) enroll(ctx context.Context) error {
	k.mu.Lock()
	next := k.known
	k.mu.Unlock()
	if next.pool == nil || len(next.Addresses) == 0 {
		return nil // the API server's fault, and said so
	}
	token, err := os.ReadFile(k.cfg.EnrollTokenFile)
	if err != nil {
		return fmt.Errorf("token to enroll with: %w (project a service account token of audience vragent there)", err)
	}
	key, csr, err := request(k.cfg.Node)
	if err != nil {
		return fmt.Errorf("certificate request: %w", err)
	}
	t := &tls.Config{RootCAs: next.pool, ServerName: ServerName, MinVersion: tls.VersionTLS13}
	var refusals []error
	for _, i := range rand.Perm(len(next.Addresses)) {
		address := next.Addresses[i]
		cert, err := k.cfg.Sign(ctx, address, t, strings.TrimSpace(string(token)), csr)
		if err == nil {
			err = next.identify(string(cert), key, k.cfg.Node)
		}
		if err == nil {
			k.cfg.Log.Info("enrolled", "controller", address, "until", next.identity.Leaf.NotAfter)
			return k.take(next)
		}
		refusals = append(refusals, fmt.Errorf("controller %s does not enroll node %s: %w", address, k.cfg.Node, err))
	}
	return errors.Join(refusals...)
}

// note keeps the faults for State and logs those that are new.
func (k *Keeper) note(api, signer error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range []struct {
		was *string
		now error
	}{{&k.api, api}, {&k.signer, signer}} {
		text := ""
		if f.now != nil {
			text = strings.ReplaceAll(f.now.Error(), "\n", "; ")
		}
		if text != "" && text != *f.was {
			k.cfg.Log.Warn("enrollment", "error", text)
		}
		*f.was = text
	}
}

// rest waits until there is something to do.
func (k *Keeper) rest(ctx context.Context, api *api, missing bool) {
	pause := lookAfter
	k.mu.Lock()
	if id := k.known.identity; id != nil {
		pause = min(pause, max(time.Until(renewal(id.Leaf)), leastPause))
	}
	k.mu.Unlock()
	pause = pause/2 + rand.N(pause/2)
	if missing {
		pause = retryAfter/2 + rand.N(retryAfter)
	}
	limit, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	least := time.After(leastPause)
	if !missing && len(k.cfg.Addresses) == 0 {
		// Ends early when the slices move; a watch that fails is an early look.
		api.watch(limit, k.version)
	} else {
		<-limit.Done()
	}
	select {
	case <-ctx.Done():
	case <-least:
	}
}
