package hub

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// Credentials make the TLS configuration of the agents' port.
type Credentials interface {
	ServerTLS(*slog.Logger) (*tls.Config, error)
}

// Files name the PEM files of mutual TLS.
type Files struct {
	CA   string // signs the nodes' certificates
	Cert string
	Key  string
}

// ServerTLS reads the files for each handshake, so that a certificate is renewed
// by replacing files; while they cannot be read, the last good ones serve.
func (f Files) ServerTLS(log *slog.Logger) (*tls.Config, error) {
	first, err := f.load()
	if err != nil {
		return nil, err
	}
	var good atomic.Pointer[tls.Config]
	good.Store(first)
	c := first.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if fresh, err := f.load(); err == nil {
			good.Store(fresh)
		} else {
			log.Warn("certificates cannot be read; the last good ones serve", "error", err)
		}
		return good.Load(), nil
	}
	return c, nil
}

func (f Files) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("controller certificate %s, key %s: %w", f.Cert, f.Key, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authority %s: no certificate in it", f.CA)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		NextProtos:   []string{"h2"},
	}, nil
}
