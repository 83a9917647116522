package verbs

import (
	"errors"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/plugin/veth"
)

// startAgent is what to do when the agent does not answer.
const startAgent = "start vragent on this node, or look into its log"

// asCNI gives an error the code a runtime acts on. The message is the whole
// chain in one line; the fix goes into details.
func asCNI(err error) error {
	if err == nil {
		return nil
	}
	message := strings.ReplaceAll(err.Error(), "\n", "; ")
	if known, ok := errors.AsType[*types.Error](err); ok {
		return known
	}
	if refusal, ok := errors.AsType[*rpc.Error](err); ok {
		if refusal.Fix != "" {
			message = strings.Replace(message, " ("+refusal.Fix+")", "", 1)
		}
		return types.NewError(refusal.Code, message, refusal.Fix)
	}
	if _, ok := errors.AsType[*unreachable](err); ok {
		return types.NewError(types.ErrTryAgainLater, message, startAgent)
	}
	if _, ok := errors.AsType[*conf.Error](err); ok {
		return types.NewError(types.ErrInvalidNetworkConfig, message, "")
	}
	if errors.Is(err, veth.ErrNetns) {
		return types.NewError(types.ErrInvalidNetNS, message, "")
	}
	return types.NewError(types.ErrInternal, message, "")
}
