package verbs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/plugin/veth"
)

func TestCodes(t *testing.T) {
	refusal := &rpc.Error{Code: 11, Message: "no block of addresses", Fix: "is the controller up?"}
	for want, err := range map[types.Error]error{
		{Code: 11, Msg: "attach: no block of addresses", Details: "is the controller up?"}: fmt.Errorf("attach: %w", refusal),
		{Code: 11, Msg: "a: vragent does not answer on /s: x", Details: startAgent}:        fmt.Errorf("a: %w", &unreachable{"/s", errors.New("x")}),
		{Code: 7, Msg: "f: k: c; f: l: d"}:                                                 errors.Join(&conf.Error{File: "f", Key: "k", Cause: "c"}, &conf.Error{File: "f", Key: "l", Cause: "d"}),
		{Code: 8, Msg: "/x is no usable network namespace"}:                                fmt.Errorf("/x %w", veth.ErrNetns),
		{Code: 999, Msg: "create veth: file exists"}:                                       errors.New("create veth: file exists"),
		{Code: 4, Msg: "m", Details: "d"}:                                                  types.NewError(4, "m", "d"),
	} {
		got, ok := errors.AsType[*types.Error](asCNI(err))
		if !ok || *got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if asCNI(nil) != nil {
		t.Error("no error became one")
	}
}

// FuzzStdin: whatever a runtime sends, every verb's reading of it ends in a
// value or an error; a plan read from prevResult survives being said again.
func FuzzStdin(f *testing.F) {
	for _, v := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		ip := `{"interface":1,"address":"192.0.2.1/32","gateway":"169.254.1.1"}`
		if v == "0.4.0" {
			ip = strings.Replace(ip, "{", `{"version":"4",`, 1)
		}
		f.Add(fmt.Appendf(nil, `{"cniVersion":%q,"name":"n","type":"vrouter","prevResult":{"cniVersion":%q,"interfaces":[{"name":"tap1"},`+
			`{"name":"eth0","mac":"02:00:00:00:00:01","mtu":1400,"sandbox":"/run/netns/x"}],"ips":[%s],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]}}`, v, v, ip),
			"IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_NAMESPACE=b")
	}
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"n","type":"vrouter","cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}`), "K8S_POD_NAME")
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"n","type":"vrouter","prevResult":{"cniVersion":"1.1.0","interfaces":[null],"ips":[null],"routes":[null]}}`), "=;=")
	f.Fuzz(func(t *testing.T, stdin []byte, cniArgs string) {
		_, _ = parsePodArgs(cniArgs)
		config, err := conf.ParseCNI(stdin)
		if err != nil {
			if known, ok := errors.AsType[*types.Error](asCNI(err)); !ok || known.Code != types.ErrInvalidNetworkConfig {
				t.Fatalf("%v has no code", err)
			}
			return
		}
		_, _, _ = config.Valid(stdin)
		c := &call{args: &skel.CmdArgs{Netns: "/run/netns/x"}, conf: config, owner: veth.Owner{ContainerID: "c", Ifname: "eth0"}}
		plan, err := c.planOf()
		if err != nil || plan.Validate() != nil {
			return
		}
		again, err := c.repeat(plan)
		if err != nil || again.Tap != plan.Tap || again.MAC != plan.MAC || !slices.Equal(again.Addrs, plan.Addrs) || !slices.Equal(again.Routes, plan.Routes) {
			t.Fatalf("%+v became %+v (%v)", plan, again, err)
		}
	})
}

// repeat says a plan as ADD's result and reads it as CHECK would.
func (c *call) repeat(plan *veth.Plan) (*veth.Plan, error) {
	result, err := c.result(plan, nil).GetAsVersion(c.conf.CNIVersion)
	if err != nil {
		return nil, err
	}
	if _, err := current.NewResultFromResult(result); err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := result.PrintTo(&text); err != nil {
		return nil, err
	}
	if _, err := version.NewResult(c.conf.CNIVersion, []byte(text.String())); err != nil {
		return nil, err
	}
	config := *c.conf
	config.PrevResult = []byte(text.String())
	return (&call{args: c.args, conf: &config, owner: c.owner}).planOf()
}
