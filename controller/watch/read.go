package watch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch/convert"
)

// document is one YAML document of a file.
type document struct {
	number int // from 1
	line   int // of its first line, from 1
	text   []byte
}

// split cuts a file at its document markers. Documents without content (only
// comments) are left out but counted.
func split(text []byte) ([]document, error) {
	var docs []document
	current := document{number: 1, line: 1}
	end := func() {
		if hasContent(current.text) {
			docs = append(docs, current)
		}
	}
	in := bufio.NewReader(bytes.NewReader(text))
	for line := 1; ; line++ {
		b, err := in.ReadBytes('\n')
		marker := bytes.TrimRight(b, "\r\n")
		switch {
		case bytes.Equal(marker, []byte("---")), bytes.HasPrefix(marker, []byte("--- ")):
			end()
			number := current.number + 1
			if len(docs) == 0 && !hasContent(current.text) {
				number = current.number // a marker before the first document opens it
			}
			current = document{number: number, line: line, text: bytes.TrimPrefix(b, []byte("---"))}
		default:
			current.text = append(current.text, b...)
		}
		if errors.Is(err, io.EOF) {
			end()
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func hasContent(text []byte) bool {
	for _, l := range bytes.Split(text, []byte("\n")) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '#' {
			return true
		}
	}
	return false
}

// parse reads the objects of one file. born stands in for the creation time
// of objects that state none. Every error names its document and field.
func parse(text []byte, born func(objectKey) time.Time) (*plan.Cluster, error) {
	docs, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, errors.New("holds no object; remove the file to remove what it held")
	}
	c := &collector{born: born, out: &plan.Cluster{}}
	for _, d := range docs {
		j, err := yaml.YAMLToJSONStrict(d.text)
		if err != nil {
			return nil, d.broken()
		}
		if err := c.object(j); err != nil {
			return nil, fmt.Errorf("document %d (line %d): %w", d.number, d.line, plain(err))
		}
	}
	return c.out, nil
}

// broken says what is wrong with a document that is no YAML. It is read once
// more where it stands in the file, so that the parser counts the file's lines.
func (d *document) broken() error {
	_, err := yaml.YAMLToJSONStrict(append(bytes.Repeat([]byte("\n"), d.line-1), d.text...))
	if err == nil {
		err = errors.New("is no YAML")
	}
	err = plain(err)
	if strings.HasPrefix(err.Error(), "line ") {
		return fmt.Errorf("document %d: %w", d.number, err)
	}
	return fmt.Errorf("document %d (line %d): %w", d.number, d.line, err)
}

// collector converts objects one after the other.
type collector struct {
	born func(objectKey) time.Time
	out  *plan.Cluster
}

// object decodes one object by its kind. A list is its items.
func (c *collector) object(j []byte) error {
	var head metav1.TypeMeta
	if err := json.Unmarshal(j, &head); err != nil {
		return errors.New("is no Kubernetes object")
	}
	switch head.APIVersion + " " + head.Kind {
	case "v1 List":
		return c.list(j)
	case "v1 Namespace":
		return decode(c, j, "Namespace", convert.Namespace, &c.out.Namespaces)
	case "v1 Node":
		return decode(c, j, "Node", convert.Node, &c.out.Nodes)
	case "v1 Pod":
		return decode(c, j, "Pod", convert.Pod, &c.out.Pods)
	case "v1 Service":
		return decode(c, j, "Service", convert.Service, &c.out.Services)
	case "discovery.k8s.io/v1 EndpointSlice":
		return decode(c, j, "EndpointSlice", convert.Slice, &c.out.Slices)
	case "networking.k8s.io/v1 NetworkPolicy":
		return decode(c, j, "NetworkPolicy", convert.NetworkPolicy, &c.out.Unserved)
	case "networking.k8s.io/v1 Ingress":
		return decode(c, j, "Ingress", convert.Ingress, &c.out.Unserved)
	case v1alpha1.GroupVersion.String() + " VirtualNetwork":
		return decode(c, j, "VirtualNetwork", convert.VirtualNetwork, &c.out.VirtualNetworks)
	case v1alpha1.GroupVersion.String() + " FloatingIPPool":
		return decode(c, j, "FloatingIPPool", convert.Pool, &c.out.Pools)
	case " ":
		return errors.New("field apiVersion, kind: missing")
	default:
		return fmt.Errorf("kind %q of apiVersion %q is not read here: only v1 Namespace, Node, Pod, Service, List, discovery.k8s.io/v1 EndpointSlice, "+
			"networking.k8s.io/v1 NetworkPolicy, Ingress and vragent.io/v1alpha1 VirtualNetwork, FloatingIPPool are", head.Kind, head.APIVersion)
	}
}

func (c *collector) list(j []byte) error {
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ListMeta   `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	if err := strict(j, &list); err != nil {
		return err
	}
	for i, item := range list.Items {
		if err := c.object(item); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
	}
	return nil
}

// decode reads one object strictly, completes and converts it.
func decode[O, T any, P interface {
	*O
	metav1.Object
}](c *collector, j []byte, kind string, reduce func(P) (T, error), into *[]T) error {
	o := P(new(O))
	err := strict(j, o)
	if err == nil {
		err = c.complete(kind, o)
	}
	var value T
	if err == nil {
		value, err = reduce(o)
	}
	switch {
	case errors.Is(err, convert.ErrNotOurs):
		return nil
	case err != nil:
		return fmt.Errorf("%s %s: %w", kind, nameIn(j), err)
	}
	*into = append(*into, value)
	return nil
}

// strict refuses unknown and duplicate fields; the error has the field's path.
func strict(j []byte, v any) error {
	faults, err := strictjson.UnmarshalStrict(j, v)
	return errors.Join(append([]error{err}, faults...)...)
}

// nameIn finds the object's name for an error message.
func nameIn(j []byte) string {
	var o struct {
		Metadata struct{ Namespace, Name any }
	}
	_ = json.Unmarshal(j, &o) // best effort: the message is about another error
	name, _ := o.Metadata.Name.(string)
	if ns, _ := o.Metadata.Namespace.(string); ns != "" {
		return ns + "/" + name
	}
	return name
}

// plain takes the libraries' own words out of an error and puts it on one line.
func plain(err error) error {
	s := err.Error()
	for _, noise := range []string{"error converting YAML to JSON: ", "yaml: ", "json: ", "unmarshal errors:\n  "} {
		s = strings.ReplaceAll(s, noise, "")
	}
	return errors.New(strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", "; ")), " "))
}
