#!/bin/bash
# The tests that show most in a few minutes, on a cluster of their own, which is
# removed afterwards, whatever happens.
#
#   smoke.sh IMAGE
set -euo pipefail
export PFX=vrs NODE_NET=172.29.0 NODE_NET6=fd00:172:29:0
export RUN; RUN=$(cd "$(dirname "$0")/../.." && pwd)/build/cluster-smoke
here=$(cd "$(dirname "$0")" && pwd)
trap '"$here/down.sh" --keep-logs' EXIT
"$here/up.sh" 2
"$here/install.sh" "$1"
cd "$here/../.."
go test -count=1 -v -timeout 12m -run "${SMOKE:-TestPodsReachEachOther|TestScaleUnderTraffic|TestDNSAndAPI|TestKubeletPaths|TestNodePorts|TestIsolation|TestOverlappingNetworks|TestLoadBalancerAddress|TestFastpathCrashes}" ./integration/cluster
