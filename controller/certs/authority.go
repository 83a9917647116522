package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"
)

// NodeLife is how long the certificate of a node that has enrolled is good.
// Nothing revokes certificates, so it bounds how long a stolen one is of use;
// and it is long enough for a cluster to be without any controller for weeks,
// since agents enroll again when a third of it is left.
const NodeLife = 30 * day

// ServerName is what agents of a cluster call every controller.
const ServerName = "vrcontroller"

// servingLife is that of a certificate made in memory; it is replaced by half time.
const servingLife = 30 * day

// Authority is a certificate authority in memory.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// named is the content of a file, or of what stands for one in messages.
type named struct {
	name string
	text []byte
}

func (n named) decode(kind string) ([]byte, error) {
	block, _ := pem.Decode(n.text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s holds no %s", n.name, kind)
	}
	return block.Bytes, nil
}

// NewAuthority makes an authority: its certificate and its key as PEM.
func NewAuthority(now time.Time) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := authorityTemplate(now)
	der, err := (&Authority{t, k}).sign(t, k.Public(), now)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

func authorityTemplate(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: "vragent certificate authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotAfter:              now.Add(authorityLife),
	}
}

// ParseAuthority reads what NewAuthority made.
func ParseAuthority(cert, key []byte) (*Authority, error) {
	return parseAuthority(named{"ca.crt", cert}, named{"ca.key", key})
}

func parseAuthority(cert, key named) (*Authority, error) {
	der, err := cert.decode("CERTIFICATE")
	if err != nil {
		return nil, err
	}
	a := &Authority{}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("%s: %w", cert.name, err)
	}
	private, err := key.decode("PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key.name, err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok || !a.cert.IsCA {
		return nil, fmt.Errorf("%s and its key are no certificate authority", cert.name)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(a.cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", key.name, cert.name)
	}
	a.key = signer
	return a, nil
}

// sign makes a certificate (DER) of a template, good for a clock that is behind.
func (a *Authority) sign(t *x509.Certificate, public crypto.PublicKey, now time.Time) (der []byte, err error) {
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	t.NotBefore = now.Add(-clockTolerance)
	return x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
}

// leaf signs what is no authority.
func (a *Authority) leaf(t *x509.Certificate, public crypto.PublicKey, now time.Time, life time.Duration) ([]byte, error) {
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	t.NotAfter = now.Add(life)
	return a.sign(t, public, now)
}

// SignNode makes a node's certificate, as PEM. Of the request it takes the key
// and the common name, which the caller has checked to be the node's; anything
// else the request asks for is left out.
func (a *Authority) SignNode(request *x509.CertificateRequest, now time.Time) ([]byte, error) {
	if err := goodKey(request.PublicKey); err != nil {
		return nil, err
	}
	der, err := a.leaf(nodeTemplate(request.Subject.CommonName), request.PublicKey, now, NodeLife)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// goodKey takes the kinds of keys that are worth signing.
func goodKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("the key is neither ECDSA over P-256 or P-384 nor Ed25519")
}

// ServerTLS is that of a controller, under the name of all of them and with a
// certificate that never leaves memory. Clients may be without one, until they
// have enrolled; those that are given are verified.
func (a *Authority) ServerTLS(*slog.Logger) (*tls.Config, error) {
	s := &serving{authority: a}
	if _, err := s.certificate(time.Now()); err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientCAs:  clients,
		ClientAuth: tls.VerifyClientCertIfGiven,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certificate(time.Now())
		},
	}, nil
}

// serving is a certificate that is made anew before it ends.
type serving struct {
	authority *Authority

	mu   sync.Mutex
	pair *tls.Certificate
}

func (s *serving) certificate(now time.Time) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pair != nil && now.Before(s.pair.Leaf.NotAfter.Add(-servingLife/2)) {
		return s.pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := s.authority.leaf(serverTemplate([]string{ServerName}), key.Public(), now, servingLife)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	s.pair = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return s.pair, nil
}
