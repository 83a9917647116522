package convert

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/controller/plan"
)

// Annotations that are read.
const (
	isolation        = "opencontrail.org/isolation"         // of namespaces
	serviceIsolation = "opencontrail.org/isolation.service" // of namespaces
	network          = "opencontrail.org/network"           // of pods and namespaces
	fipPool          = "opencontrail.org/fip-pool"          // of services and namespaces
	addresses        = "vragent.io/addresses"               // of pods
	podIO            = "vragent.io/io"                      // of pods
	ingressClass     = "kubernetes.io/ingress.class"        // older than spec.ingressClassName
)

// examples are what a broken annotation is answered with.
var examples = map[string]string{
	isolation:        `"true"`,
	serviceIsolation: `"false"`,
	network:          `{"domain":"default-domain","project":"k8s-demo","name":"red"}`,
	fipPool:          `{"domain":"default-domain","project":"k8s-demo","network":"public","name":"outside"}`,
	addresses:        `["192.0.2.10","2001:db8::10"]`,
	podIO:            `tap`,
}

// annotations are read into values; what is broken reads as if it were not
// there and leaves a sentence.
type annotations struct {
	of     map[string]string
	faults *[]string
}

func (a annotations) fault(name string, err error) {
	*a.faults = append(*a.faults, fmt.Sprintf("annotation %s: %v; an example: %s", name, err, examples[name]))
}

func (a annotations) flag(name string, absent bool) bool {
	switch text, given := a.of[name]; {
	case !given:
		return absent
	case strings.EqualFold(text, "true"):
		return true
	case strings.EqualFold(text, "false"):
		return false
	default:
		a.fault(name, fmt.Errorf("%q is neither true nor false", text))
		return absent
	}
}

func (a annotations) network() *plan.FQName {
	name := a.fqName(network)
	if name != nil && name.Network != "" {
		a.fault(network, errors.New(`"network" is a part of a pool's name, not of a network's`))
		return nil
	}
	return name
}

func (a annotations) pool() *plan.FQName { return a.fqName(fipPool) }

// fqName reads a fully qualified name: a JSON object of which only the name
// must be there.
func (a annotations) fqName(annotation string) *plan.FQName {
	text, given := a.of[annotation]
	if !given {
		return nil
	}
	name := &plan.FQName{}
	err := decode(text, name)
	if err == nil && name.Name == "" {
		err = errors.New(`"name" is missing`)
	}
	if err != nil {
		a.fault(annotation, err)
		return nil
	}
	return name
}

// io is how the pod's packets come to its node's workers.
func (a annotations) io() string {
	switch text := a.of[podIO]; text {
	case "", "veth", "tap":
		return text
	default:
		a.fault(podIO, fmt.Errorf("%q is neither veth nor tap", text))
		return ""
	}
}

// addresses are a JSON list, or separated by commas.
func (a annotations) addresses() []netip.Addr {
	text, given := a.of[addresses]
	if !given {
		return nil
	}
	list := strings.Split(text, ",")
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		list = nil
		if err := decode(text, &list); err != nil {
			a.fault(addresses, err)
			return nil
		}
	}
	out, err := onePerFamily(list)
	if err != nil {
		a.fault(addresses, err)
		return nil
	}
	return out
}

func onePerFamily(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range list {
		ip, err := address(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		for _, other := range out {
			if other.Is4() == ip.Is4() {
				return nil, fmt.Errorf("%v and %v are of one family; a pod has one address of each", other, ip)
			}
		}
		out = append(out, ip)
	}
	if len(out) == 0 {
		return nil, errors.New("names no address")
	}
	return out, nil
}

// decode reads JSON strictly. Contrail's documents write it with single
// quotes; those are taken where no others are.
func decode(text string, into any) error {
	if !strings.Contains(text, `"`) {
		text = strings.ReplaceAll(text, "'", `"`)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var wrong *json.UnmarshalTypeError
	switch err := d.Decode(into); {
	case errors.As(err, &wrong):
		return fmt.Errorf("%q cannot be read: %s is of the wrong type, %s", text, cmp.Or(wrong.Field, "it"), wrong.Value)
	case err != nil:
		return fmt.Errorf("%q cannot be read: %s", text, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%q goes on behind its end", text)
	}
	return nil
}
