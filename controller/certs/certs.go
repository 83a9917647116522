// Package certs makes the certificates of controller and nodes: a certificate
// authority of our own, one server certificate, one client certificate per
// node. State is in the directory's files alone, or, in a cluster, with whoever
// keeps the Authority's PEM; an authority that exists is used and never
// replaced. It does not distribute anything.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	day            = 24 * time.Hour
	authorityLife  = 3650 * day
	leafLife       = 825 * day
	clockTolerance = time.Hour // nodes whose clock is behind
)

// Names of the files; a node's are <node>.crt and <node>.key.
const (
	authority  = "ca"
	controller = "controller"
)

// Request says what must exist afterwards.
type Request struct {
	Dir       string
	Addresses []string // of the controller, IP addresses and host names; none: no controller certificate
	Nodes     []string
	Renew     bool // make new leaf certificates even where there are some
}

// Result says of each certificate file what happened to it.
type Result struct {
	File string
	Made bool // else it was there before
}

// Make makes what is missing.
func Make(r Request, now time.Time) ([]Result, error) {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, err
	}
	m := &maker{dir: r.Dir, renew: r.Renew, now: now}
	if err := m.authority(); err != nil {
		return m.done, fmt.Errorf("certificate authority: %w", err)
	}
	if len(r.Addresses) > 0 {
		if err := m.leaf(controller, serverTemplate(r.Addresses)); err != nil {
			return m.done, fmt.Errorf("controller certificate: %w", err)
		}
	}
	for _, n := range r.Nodes {
		if n == authority || n == controller || n == "" || filepath.Base(n) != n {
			return m.done, fmt.Errorf("%q cannot be the name of a node here", n)
		}
		if err := m.leaf(n, nodeTemplate(n)); err != nil {
			return m.done, fmt.Errorf("certificate of node %s: %w", n, err)
		}
	}
	return m.done, nil
}

func serverTemplate(addresses []string) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: ServerName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, a := range addresses {
		if ip := net.ParseIP(a); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, a)
		}
	}
	return t
}

// nodeTemplate names the node in the common name; it serves for nothing but
// to be a client.
func nodeTemplate(node string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: node},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// maker is one Make at work.
type maker struct {
	dir   string
	renew bool
	now   time.Time
	ca    *Authority // nil: not made yet
	done  []Result
}

func (m *maker) path(name, ext string) string { return filepath.Join(m.dir, name+ext) }

// authority loads the authority, or makes one where there is neither file.
func (m *maker) authority() error {
	hasCert, hasKey := exists(m.path(authority, ".crt")), exists(m.path(authority, ".key"))
	switch {
	case hasCert && hasKey:
		m.done = append(m.done, Result{m.path(authority, ".crt"), false})
		return m.loadAuthority()
	case hasCert || hasKey:
		return fmt.Errorf("only one of %s and %s is there; without both no certificate can be made",
			m.path(authority, ".crt"), m.path(authority, ".key"))
	}
	if err := m.make(authority, authorityTemplate(m.now)); err != nil {
		return err
	}
	return m.loadAuthority()
}

func (m *maker) loadAuthority() (err error) {
	cert, err := os.ReadFile(m.path(authority, ".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(m.path(authority, ".key"))
	if err != nil {
		return err
	}
	m.ca, err = parseAuthority(named{m.path(authority, ".crt"), cert}, named{m.path(authority, ".key"), key})
	return err
}

// leaf makes a certificate unless a good one is there.
func (m *maker) leaf(name string, t *x509.Certificate) error {
	if !m.renew && m.serves(name, t) {
		m.done = append(m.done, Result{m.path(name, ".crt"), false})
		return nil
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	t.NotAfter = m.now.Add(leafLife)
	return m.make(name, t)
}

// serves tells whether the certificate that is there does what is asked.
func (m *maker) serves(name string, t *x509.Certificate) bool {
	raw, err := readPEM(m.path(name, ".crt"), "CERTIFICATE")
	if err != nil || !exists(m.path(name, ".key")) {
		return false
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil || c.CheckSignatureFrom(m.ca.cert) != nil || m.now.After(c.NotAfter) || c.Subject.CommonName != t.Subject.CommonName {
		return false
	}
	for _, ip := range t.IPAddresses {
		if c.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	for _, n := range t.DNSNames {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// make signs a certificate for a new key and writes both, the key first. The
// authority signs itself.
func (m *maker) make(name string, t *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := m.ca
	if ca == nil {
		ca = &Authority{t, key}
	}
	cert, err := ca.sign(t, key.Public(), m.now)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(m.path(name, ".key"), "PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	if err := writePEM(m.path(name, ".crt"), "CERTIFICATE", cert, 0o644); err != nil {
		return err
	}
	m.done = append(m.done, Result{m.path(name, ".crt"), true})
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return named{path, b}.decode(kind)
}

// writePEM replaces a file as a whole; its mode is right from the start.
func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	t, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // fails once renamed, as it should
	if err := errors.Join(t.Chmod(mode), pem.Encode(t, &pem.Block{Type: kind, Bytes: der}), t.Sync(), t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), path)
}
