package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// FileName is the file's name in the state directory.
const FileName = "enrollment.json"

// known is what the file remembers, and what is made of it. A value is not
// changed once others can see it.
type known struct {
	Addresses   []string `json:"addresses"`
	CA          string   `json:"ca"` // PEM, like the others
	Certificate string   `json:"certificate,omitempty"`
	Key         string   `json:"key,omitempty"`

	pool     *x509.CertPool   // of CA; nil: none yet
	identity *tls.Certificate // with its Leaf; nil: none yet
}

// trust takes an authority; it may be a bundle of several.
func (k *known) trust(ca string) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return errors.New("ca.crt has no certificate in it (delete it and restart the controllers: they make it)")
	}
	k.CA, k.pool = ca, pool
	return nil
}

// identify takes a certificate, if it is the node's and of the authority.
func (k *known) identify(cert, key, node string) error {
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if pair.Leaf == nil {
		return errors.New("its answer has no certificate")
	}
	if name := pair.Leaf.Subject.CommonName; name != node {
		return fmt.Errorf("its certificate is for node %q", name)
	}
	if err := k.verify(pair.Leaf); err != nil {
		return fmt.Errorf("its certificate is not of the authority in ConfigMap %s: %w", configMap, err)
	}
	k.Certificate, k.Key, k.identity = cert, key, &pair
	return nil
}

func (k *known) verify(leaf *x509.Certificate) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: k.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// drop forgets the certificate.
func (k *known) drop() { k.Certificate, k.Key, k.identity = "", "", nil }

// read reads the file. What it returns is right also beside an error.
func read(file string) (known, error) {
	var k known
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return known{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return known{}, err
	}
	if err := k.trust(k.CA); err != nil {
		return known{}, err
	}
	if k.Certificate == "" {
		return k, nil
	}
	pair, err := tls.X509KeyPair([]byte(k.Certificate), []byte(k.Key))
	if err != nil {
		k.drop()
		return k, err
	}
	k.identity = &pair
	return k, nil
}

// write replaces the file whole, for root only: it holds the key.
func (k *known) write(file string) error {
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(file, append(text, '\n')); err != nil {
		return fmt.Errorf("remember the controllers: %w (make room, or make stateDir writable)", err)
	}
	return nil
}

func replace(file string, text []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".enrollment-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// request makes a key and asks for its certificate.
func request(node string) (keyPEM string, csr []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, err
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), csr, err
}
