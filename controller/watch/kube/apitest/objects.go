package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Apply creates or changes the objects of a text: YAML documents between
// lines of three dashes.
func (s *Server) Apply(t testing.TB, text string) {
	t.Helper()
	s.each(t, text, func(d document) error { return s.patch(d, "") })
}

// ApplyStatus writes the objects' status.
func (s *Server) ApplyStatus(t testing.TB, text string) {
	t.Helper()
	s.each(t, text, func(d document) error { return s.patch(d, "/status") })
}

// Delete removes the objects of a text, without grace.
func (s *Server) Delete(t testing.TB, text string) {
	t.Helper()
	s.each(t, text, func(d document) error {
		_, err := s.do(context.Background(), request{method: http.MethodDelete, path: d.path(), query: "gracePeriodSeconds=0"})
		return err
	})
}

// Try applies one object; the error is the API server's.
func (s *Server) Try(text string) error {
	d, err := read(text)
	if err != nil {
		return err
	}
	return s.patch(d, "")
}

// Define applies a folder of CustomResourceDefinitions and waits until they are served.
func (s *Server) Define(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in %s: %v", dir, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(t, string(text))
		var definition struct {
			Spec struct {
				Group    string
				Names    struct{ Plural string }
				Versions []struct{ Name string }
			}
		}
		if err := yaml.Unmarshal(text, &definition); err != nil {
			t.Fatal(err)
		}
		spec := definition.Spec
		path := fmt.Sprintf("/apis/%s/%s/%s", spec.Group, spec.Versions[0].Name, spec.Names.Plural)
		s.server.await(t, func(ctx context.Context) error {
			_, err := s.do(ctx, request{method: http.MethodGet, path: path})
			return err
		})
	}
}

// Compact makes etcd forget all revisions but the present one.
func (s *Server) Compact(t testing.TB) {
	t.Helper()
	var status struct{ Header struct{ Revision string } }
	if err := s.askStore(t.Context(), "/v3/maintenance/status", "{}", &status); err != nil {
		t.Fatal(err)
	}
	order := fmt.Sprintf(`{"revision": %q, "physical": true}`, status.Header.Revision)
	if err := s.askStore(t.Context(), "/v3/kv/compaction", order, nil); err != nil {
		t.Fatal(err)
	}
}

// askStore uses etcd's JSON gateway.
func (s *Server) askStore(ctx context.Context, path, body string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.etcd+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	text, err := drain(response)
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}

// document is one object and where it lives.
type document struct {
	text       []byte
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
}

func read(text string) (document, error) {
	d := document{text: []byte(text)}
	err := yaml.Unmarshal(d.text, &d)
	return d, err
}

func (s *Server) each(t testing.TB, text string, do func(document) error) {
	t.Helper()
	for _, part := range strings.Split("\n"+text, "\n---") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		d, err := read(part)
		if err == nil {
			err = do(d)
		}
		if err != nil {
			t.Fatalf("%s %s/%s: %v", d.Kind, d.Metadata.Namespace, d.Metadata.Name, err)
		}
	}
}

func (s *Server) patch(d document, under string) error {
	_, err := s.do(context.Background(), request{
		method: http.MethodPatch, path: d.path() + under, query: "fieldManager=test&force=true&fieldValidation=Strict", body: d.text,
	})
	return err
}

// path follows Kubernetes' rule for resource names, which all kinds here obey.
func (d document) path() string {
	root := "/apis/" + d.APIVersion
	if !strings.Contains(d.APIVersion, "/") {
		root = "/api/" + d.APIVersion
	}
	if d.Metadata.Namespace != "" {
		root += "/namespaces/" + d.Metadata.Namespace
	}
	plural := strings.ToLower(d.Kind)
	switch {
	case strings.HasSuffix(plural, "y"):
		plural = strings.TrimSuffix(plural, "y") + "ies"
	case strings.HasSuffix(plural, "s"):
		plural += "es"
	default:
		plural += "s"
	}
	return root + "/" + plural + "/" + url.PathEscape(d.Metadata.Name)
}

type request struct {
	method, path, query string
	body                []byte // server-side apply
}

// do is one request with all rights.
func (s *Server) do(ctx context.Context, r request) ([]byte, error) {
	client, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	in, err := http.NewRequestWithContext(ctx, r.method, s.Config.Host+r.path+"?"+r.query, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	in.Header.Set("Content-Type", "application/apply-patch+yaml")
	response, err := client.Do(in)
	if err != nil {
		return nil, err
	}
	text, err := drain(response)
	var status struct{ Message string }
	if err != nil && json.Unmarshal(text, &status) == nil && status.Message != "" {
		err = fmt.Errorf("%s", status.Message)
	}
	return text, err
}
