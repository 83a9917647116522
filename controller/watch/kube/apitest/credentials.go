package apitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// admin is the token of a member of system:masters.
const admin = "everything"

// credentials writes a certificate for the loopback, its key, which also signs
// service account tokens, an administrator's token and a kubeconfig.
func (s *Server) credentials(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "apitest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.api, s.Kubeconfig = reserve(t), s.path("kubeconfig")
	s.Config = &rest.Config{
		Host: "https://" + s.api, BearerToken: admin, TLSClientConfig: rest.TLSClientConfig{CAData: certificate},
		QPS: -1, WarningHandler: rest.NoWarnings{},
	}
	for name, text := range map[string][]byte{
		"serving.crt": certificate,
		"serving.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
		"tokens.csv":  []byte(admin + ",admin,1,system:masters\n"),
		"kubeconfig":  fmt.Appendf(nil, kubeconfig, s.Config.Host, s.path("serving.crt"), admin),
	} {
		if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: apitest, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: admin, user: {token: %q}}]
contexts: [{name: apitest, context: {cluster: apitest, user: admin}}]
current-context: apitest
`
