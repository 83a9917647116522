package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vragent/vragent/conf"
)

// What is read, in the controllers' namespace.
const (
	configMap = "vragent-ca"
	service   = "vrcontroller"
	portName  = "southbound"
)

// answerTime bounds the API server's answer to anything but a watch.
const answerTime = 10 * time.Second

// api asks the API server with the token and the authority as they are now:
// both are replaced while we run.
type api struct {
	// Set once by newAPI.
	cfg    conf.Kubernetes
	token  string
	client *http.Client
}

func newAPI(cfg conf.Kubernetes) (*api, error) {
	token, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("token of the service account: %w (kubernetes.tokenFile)", err)
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the API server: %w (kubernetes.caFile)", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authority of the API server: no certificate in %s (kubernetes.caFile)", cfg.CAFile)
	}
	return &api{cfg: cfg, token: strings.TrimSpace(string(token)), client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: answerTime,
		DialContext: (&net.Dialer{Timeout: answerTime}).DialContext, DisableKeepAlives: true,
	}}}, nil
}

// get asks for an object and reads it into v.
func (a *api) get(ctx context.Context, object, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	body, err := a.open(ctx, object, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", object, err)
	}
	return nil
}

// open asks for an object; errors say what to do.
func (a *api) open(ctx context.Context, object, path string) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(a.cfg.APIServer, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+a.token)
	q.Header.Set("Accept", "application/json")
	r, err := a.client.Do(q)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // without the URL, which is long
		}
		return nil, fmt.Errorf("the API server %s does not answer: %w (is kubernetes.apiServer right, and reachable without us?)", a.cfg.APIServer, err)
	}
	if r.StatusCode == http.StatusOK {
		return r.Body, nil
	}
	defer r.Body.Close()
	switch r.StatusCode {
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s does not exist (are the controllers installed, and in namespace %s?)", object, a.cfg.Namespace)
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("the API server refuses the token in %s: expired, or of another cluster (restart the pod)", a.cfg.TokenFile)
	case http.StatusForbidden:
		return nil, fmt.Errorf("the service account may not read %s (apply the manifest's Role and RoleBinding)", object)
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, 200))
	return nil, fmt.Errorf("read %s: the API server answers %s: %s", object, r.Status, strings.TrimSpace(string(text)))
}

// authority reads the controllers' certificate authority.
func (a *api) authority(ctx context.Context) (string, error) {
	object := fmt.Sprintf("ConfigMap %s/%s", a.cfg.Namespace, configMap)
	var m struct {
		Data map[string]string `json:"data"`
	}
	if err := a.get(ctx, object, fmt.Sprintf("/api/v1/namespaces/%s/configmaps/%s", a.cfg.Namespace, configMap), &m); err != nil {
		return "", err
	}
	if m.Data["ca.crt"] == "" {
		return "", fmt.Errorf("%s has no ca.crt (delete it and restart the controllers: they make it)", object)
	}
	return m.Data["ca.crt"], nil
}

// sliceList is the list of endpoint slices, as far as it matters here.
type sliceList struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []endpointSlice `json:"items"`
}

type endpointSlice struct {
	AddressType string `json:"addressType"`
	Endpoints   []struct {
		Addresses  []string `json:"addresses"`
		Conditions struct {
			Ready   *bool `json:"ready"` // nil: ready
			Serving *bool `json:"serving"`
		} `json:"conditions"`
	} `json:"endpoints"`
	Ports []struct {
		Name *string `json:"name"`
		Port *int    `json:"port"`
	} `json:"ports"`
}

// controllers reads where the controllers are, and the version of that.
func (a *api) controllers(ctx context.Context) (addresses []string, version string, err error) {
	var list sliceList
	if err := a.get(ctx, "EndpointSlices of Service "+a.cfg.Namespace+"/"+service, a.slices(nil), &list); err != nil {
		return nil, "", err
	}
	// A controller that has both is one controller: one family is enough.
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, s := range list.Items {
			if s.AddressType == family {
				addresses = append(addresses, s.addresses()...)
			}
		}
		if len(addresses) > 0 {
			break
		}
	}
	if len(addresses) == 0 {
		return nil, list.Metadata.ResourceVersion, fmt.Errorf("Service %s/%s has no endpoint that is ready, with a port named %s (do the controllers run? kubectl -n %s get pods)",
			a.cfg.Namespace, service, portName, a.cfg.Namespace)
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), list.Metadata.ResourceVersion, nil
}

func (a *api) slices(more url.Values) string {
	query := url.Values{"labelSelector": {"kubernetes.io/service-name=" + service}}
	for k, v := range more {
		query[k] = v
	}
	return fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?%s", a.cfg.Namespace, query.Encode())
}

// addresses are those of controllers that take streams.
func (s *endpointSlice) addresses() []string {
	port := 0
	for _, p := range s.Ports {
		if p.Name != nil && *p.Name == portName && p.Port != nil {
			port = *p.Port
		}
	}
	var out []string
	for _, e := range s.Endpoints {
		ready, serving := e.Conditions.Ready == nil || *e.Conditions.Ready, e.Conditions.Serving != nil && *e.Conditions.Serving
		if port != 0 && (ready || serving) && len(e.Addresses) > 0 {
			out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)))
		}
	}
	return out
}

// watch waits until the slices move, for as long as ctx lives. A server that
// refuses or ends the watch ends the waiting: the next look says why.
func (a *api) watch(ctx context.Context, version string) {
	path := a.slices(url.Values{"watch": {"1"}, "resourceVersion": {version}})
	body, err := a.open(ctx, "EndpointSlices", path)
	if err != nil {
		select { // a watch that is forbidden must not become a busy poll
		case <-ctx.Done():
		case <-time.After(2 * retryAfter):
		}
		return
	}
	defer body.Close()
	_, _ = body.Read(make([]byte, 1))
}
