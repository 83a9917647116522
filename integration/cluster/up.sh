#!/bin/bash
# Brings up a real Kubernetes cluster on this machine: a control plane and
# nodes, each in namespaces of its own. Nothing listens on, or is routed from,
# the host's network. No pod network is installed: install.sh does that.
#
#   up.sh [NODES]      default 2; 0 makes a control plane only
set -euo pipefail
. "$(dirname "$0")/lib.sh"
count=${1:-2}
[ "$(id -u)" = 0 ] || die "must be root"
for b in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do [ -x "$BIN/$b" ] || die "$BIN/$b is missing: run deps.sh"; done
! alive "$RUN/cp/outer.pid" || die "a cluster is up already: run down.sh first"
[ ! -d "$RUN" ] && [ ! -e "/run/netns/$CP_NS" ] || "$HERE/down.sh" # remains of one that died
mkdir -p "$RUN/cp/log" "$RUN/nodes" "$RUN/pki"
for v in KUBE_PROXY IMAGE_REPO NODE_NET NODE_NET6 POD_CIDR POD_CIDR6 SVC_CIDR SVC_CIDR6 DNS_IP PFX CACHE BIN IMG; do echo ": \"\${$v:=${!v}}\""; done >"$RUN/settings"
names=(); for i in $(seq 1 "$count"); do names+=("node$i"); done
"$HERE/pki.sh" ${names[@]+"${names[@]}"}

# launch NETNS DIRECTORY UNSHARE-FLAGS COMMAND...: detached, in new namespaces; notes the pids of unshare and of the first process
launch() {
	local ns=$1 dir=$2 flags=$3 pid; shift 3
	# shellcheck disable=SC2086 # flags are words
	setsid nsenter --net="/run/netns/$ns" unshare --mount --pid --fork --kill-child --mount-proc --ipc --uts $flags "$@" </dev/null >>"$dir/outer.log" 2>&1 9>&- &
	echo $! >"$dir/outer.pid"; starttime $! >"$dir/outer.pid.start"
	pid=$(inner_pid $!) || die "$ns did not start: $(cat "$dir/outer.log")"
	echo "$pid" >"$dir/pid"; starttime "$pid" >"$dir/pid.start"
}

ip netns add "$CP_NS"
ip -n "$CP_NS" link set lo up
ip -n "$CP_NS" link add br0 type bridge
ip -n "$CP_NS" addr add "$API_HOST/24" dev br0
nsenter --net="/run/netns/$CP_NS" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/br0/accept_dad; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 >/proc/sys/net/bridge/bridge-nf-call-ip6tables' 2>/dev/null || true
ip -n "$CP_NS" addr add "$NODE_NET6::1/64" dev br0 nodad
ip -n "$CP_NS" link set br0 up
launch "$CP_NS" "$RUN/cp" "" "$HERE/control-plane.sh"
log "control plane started"

for i in $(seq 1 "$count"); do
	n=node$i ns=$PFX-$n nd=$RUN/nodes/$n ip4=$NODE_NET.1$i ip6=$NODE_NET6::1$i
	mkdir -p "$nd"/{log,etc}
	echo "$ip4,$ip6" >"$nd/ip"
	echo "$n" >"$nd/etc/hostname"; printf '127.0.0.1 localhost\n%s %s\n' "$ip4" "$n" >"$nd/etc/hosts"
	echo "nameserver $NODE_NET.1" >"$nd/etc/resolv.conf" # nothing listens there: names outside the cluster fail at once
	printf '%032x\n' $((0x76726b0000 + i)) >"$nd/etc/machine-id"
	mkdir -p "$nd/fs/opt/cni/bin"; cp "$BIN"/cni/* "$nd/fs/opt/cni/bin/"
	ip netns add "$ns"
	ip link add "$PFX-$i" netns "$CP_NS" type veth peer name eth0 netns "$ns"
	ip -n "$CP_NS" link set "$PFX-$i" master br0 up
	ip -n "$ns" addr add "$ip4/24" dev eth0; ip -n "$ns" addr add "$ip6/64" dev eth0 nodad
	ip -n "$ns" link set lo up; ip -n "$ns" link set eth0 up
	ip -n "$ns" route add default via "$NODE_NET.1"; ip -n "$ns" -6 route add default via "$NODE_NET6::1"
	# A cgroup in every hierarchy, below wherever this shell is; a subshell moves itself there and becomes the node.
	: >"$nd/cgroups"
	(
		mapfile -t mine </proc/self/cgroup # all of it first: the file changes as this process moves
		for l in "${mine[@]}"; do
			IFS=: read -r _ ctl path <<<"$l"
			case $ctl in '') m=/sys/fs/cgroup/unified ;; name=*) m=/sys/fs/cgroup/${ctl#name=} ;; *) m=/sys/fs/cgroup/$ctl ;; esac
			[ -d "$m" ] || continue
			path=${path%/}
			for d in "$m$path/$PFX" "$m$path/$PFX/$n"; do
				mkdir -p "$d"
				for f in cpuset.cpus cpuset.mems; do [ ! -e "$d/$f" ] || [ -n "$(cat "$d/$f")" ] || cat "$d/../$f" >"$d/$f"; done
			done
			echo "$m$path/$PFX/$n" >>"$nd/cgroups"
			echo "$BASHPID" >"$m$path/$PFX/$n/cgroup.procs"
		done
		launch "$ns" "$nd" "--cgroup" "$HERE/node.sh" "$n"
	)
done
for _ in $(seq 600); do in_cp kubectl get --raw /readyz >/dev/null 2>&1 && break; sleep 0.1; done
in_cp kubectl get --raw /readyz >/dev/null || die "the API server is not ready; see $RUN/cp/log"
log "API server ready"
for n in ${names[@]+"${names[@]}"}; do
	for _ in $(seq 600); do in_cp kubectl get node "$n" >/dev/null 2>&1 && break; sleep 0.1; done
	in_cp kubectl get node "$n" >/dev/null || die "$n did not register; see $RUN/nodes/$n/log"
done
[ "$count" = 0 ] || log "nodes registered: ${names[*]} (not Ready before a pod network is there)"
