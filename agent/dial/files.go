package dial

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// Files are controllers at fixed addresses and certificates in PEM files.
type Files struct {
	List []string // host:port
	CA   string
	Cert string
	Key  string
}

// Addresses returns the fixed addresses.
func (f *Files) Addresses() []string { return f.List }

// Changed never has a value: addresses stay until a restart.
func (f *Files) Changed() <-chan struct{} { return nil }

// TLS reads the certificates anew: they may have been replaced meanwhile.
func (f *Files) TLS(address string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w (controller.cert, controller.key)", err)
	}
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w (controller.ca)", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("certificate authority %s: %w", f.CA, errors.New("no certificate in it"))
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("controller address %s: %w", address, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13}, nil
}
