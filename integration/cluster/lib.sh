# Settings and small functions of every script here; sourced, never run. Each
# setting can be overridden from the environment.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)

# --- versions; the go.mod/go.sum pairs under modules/ pin everything else ---
: "${K8S_VERSION:=v1.34.4}"
: "${CNI_VERSION:=v1.3.0}"

# --- places ---
# What is built once and kept: Kubernetes, DNS, test images. Named by a hash of what it is built from.
recipe=$(cd "$HERE" && { echo "$K8S_VERSION"; cat modules/*/go.mod modules/*/go.sum modules/*/*.txt images.sh; } | sha256sum | cut -c1-12)
: "${CLUSTER_CACHE:=/var/cache/vragent-cluster}"
CACHE=$CLUSTER_CACHE/$recipe
BIN=$CACHE/bin
IMG=$CACHE/img
OUR_IMG=$ROOT/build/image                # what `make image` makes
: "${RUN:=$ROOT/build/cluster}"          # state of the running cluster; removed by down.sh
[ ! -s "$RUN/settings" ] || . "$RUN/settings"

# --- shape of the cluster ---
: "${PFX:=vrk}"                          # prefix of names of namespaces, interfaces, cgroups
: "${NODE_NET:=172.31.0}"                # /24 that joins the nodes; .1 = control plane, .1N = node N
: "${NODE_NET6:=fd00:172:31:0}"
: "${POD_CIDR:=10.32.0.0/12}"
: "${POD_CIDR6:=fd00:10:32::/64}"
: "${SVC_CIDR:=10.96.0.0/16}"
: "${SVC_CIDR6:=fd00:10:96::/112}"
: "${DNS_IP:=10.96.0.10}"
: "${KUBE_PROXY:=none}"                  # none: we replace it; iptables | nftables: it runs beside us
: "${IMAGE_REPO:=test.invalid/e2e}"      # images are imported, never pulled: the name is made up

CP_NS=$PFX-cp
API_HOST=$NODE_NET.1
API=https://$API_HOST:6443
KCFG=$RUN/pki/admin.kubeconfig

log() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
die() { log "error: $*"; exit 1; }

# in_cp COMMAND...: run in the control plane's network namespace, as the cluster's administrator
in_cp() { nsenter --net="/run/netns/$CP_NS" env KUBECONFIG="$KCFG" PATH="$BIN:$PATH" "$@"; }
# in_node NODE COMMAND...: run in a node: its mounts, processes, network, names
in_node() { local n=$1; shift; nsenter -t "$(cat "$RUN/nodes/$n/pid")" -m -p -n -u -i env PATH="$BIN:$CACHE/deb/usr/bin:$PATH" "$@"; }

# A pid file holds a pid and, beside it, its start time: pids are used again.
starttime() { awk '{sub(/^.*\) /,""); if ($1 != "Z") print $20}' "/proc/$1/stat" 2>/dev/null; } # nothing for a zombie
alive() { local p s; [ -s "$1" ] && read -r p <"$1" && s=$(starttime "$p") && [ -n "$s" ] && [ "$s" = "$(cat "$1.start" 2>/dev/null)" ]; }

# inner_pid OUTER: pid of the namespace's first process (child of unshare --fork)
inner_pid() { local c; for _ in $(seq 100); do c=$(pgrep -P "$1" | head -1); [ -n "$c" ] && { echo "$c"; return; }; sleep 0.05; done; return 1; }
