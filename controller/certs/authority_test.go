package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"testing"
	"time"
)

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	cert, key, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(key, cert); err == nil {
		t.Error("the key as certificate")
	}
	return a
}

func csr(t *testing.T, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "n1", Organization: []string{"system:masters"}}, DNSNames: []string{ServerName},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A node gets its name and its key signed, and nothing else it asks for.
func TestSignNode(t *testing.T) {
	a := newAuthority(t)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, key := range []crypto.Signer{p224, weak} {
		if _, err := a.SignNode(csr(t, key), now); err == nil {
			t.Errorf("signed a %T", key)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, key := range []crypto.Signer{p256, edwards} {
		text, err := a.SignNode(csr(t, key), now)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(use x509.ExtKeyUsage, at time.Time) error {
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: at})
			return err
		}
		if err := verify(x509.ExtKeyUsageClientAuth, now.Add(NodeLife)); err != nil {
			t.Error(err)
		}
		if verify(x509.ExtKeyUsageServerAuth, now) == nil || verify(x509.ExtKeyUsageClientAuth, now.Add(NodeLife+time.Second)) == nil {
			t.Error("serves for more than to be a client for its time")
		}
		if c.Subject.CommonName != "n1" || len(c.Subject.Organization)+len(c.DNSNames) != 0 || c.IsCA {
			t.Error(c.Subject, c.DNSNames)
		}
	}
}

// The certificate in memory is made anew before it ends.
func TestServingCertificate(t *testing.T) {
	a := newAuthority(t)
	s := &serving{authority: a}
	first, err := s.certificate(now)
	if err != nil || first.Leaf.VerifyHostname(ServerName) != nil {
		t.Fatal(err)
	}
	if same, _ := s.certificate(now.Add(servingLife/2 - time.Hour)); same != first {
		t.Error("made anew too early")
	}
	next, err := s.certificate(now.Add(servingLife/2 + time.Hour))
	if err != nil || next == first || !next.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not made anew", err)
	}
	if c, err := a.ServerTLS(slog.New(slog.DiscardHandler)); err != nil || c.ClientCAs == nil {
		t.Error(err)
	}
}
