#!/bin/bash
# What of a node a pod network might leave behind, in a form that two moments
# can be compared by: no counters, no indexes.
#
#   snapshot.sh NODE
set -u
. "$(dirname "$0")/lib.sh"
look() {
	set +e
	section() { echo "== $*"; }
	section links; ip -br link | awk '{sub(/@.*/, "", $1); print $1}' | sort
	section addresses; ip -br addr | awk '{sub(/@.*/, "", $1); $2 = ""; print}' | sort
	section qdiscs; tc qdisc show | sed 's/ refcnt [0-9]*//' | sort
	for f in -4 -6; do
		section "rules $f"; ip $f rule
		section "routes $f"; ip $f route show table all | sed 's/ expires [0-9a-z]*//' | sort
		section "neighbours for others $f"; ip $f neigh show proxy
	done
	for save in iptables-nft-save ip6tables-nft-save iptables-legacy-save ip6tables-legacy-save; do
		section "$save"; for table in nat filter mangle raw; do $save -t $table 2>/dev/null | grep -E '^(-A|:.* -)' | sed 's/ \[.*//'; done
	done
	section "nft"; nft list tables | grep -vE ' (nat|filter|mangle|raw)$'
	section "files"; find /sys/fs/bpf /run/vragent /var/lib/vragent /etc/cni/net.d /opt/cni/bin -printf '%p\n' 2>/dev/null | sort
	section "mounts"; awk '{print $2, $3}' /proc/mounts | grep -E 'vragent|/bpf' | sort
	section "settings"; sysctl -a -r '^net\.(ipv[46]\.(conf|ip_|neigh|fib)|core\.bpf)' 2>/dev/null | sort
	echo "rcu_expedited = $(cat /sys/kernel/rcu_expedited)"
}
in_node "$1" bash -c "$(declare -f look); look"
