#!/bin/bash
# DPDK's testpmd over net_af_xdp between two pods: every frame goes out of the other port as it came. The
# bare limit of forwarding in user space.
#
#   testpmd.sh up|down PREFIX
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 up|down PREFIX" >&2; exit 2; }
prefix=$2
. "$(dirname "$0")/lib.sh"

# Copy mode is all a veth has; force_copy saves the attempt. --no-huge: the memory
# of AF_XDP is mapped in pages anyway. A burst of 32 is what the kernel sends in
# one call; 64 was no faster, 256 slower. busy_budget=0 (no busy polling, of which a
# veth knows nothing) made no difference.
memory="--no-huge -m 512"
device="force_copy=1"
forward="--forward-mode=io --nb-cores=1 --burst=32 --rxd=2048 --txd=2048 --total-num-mbufs=32768"

up() {
	command -v dpdk-testpmd >/dev/null || fail "testpmd is not installed (integration/deps.sh bench)"
	pods
	mkfifo "$run/stdin" # its end would end testpmd; opened for reading and writing, it has none
	# shellcheck disable=SC2086 # lists of words
	nsenter --net="/run/netns/$between" dpdk-testpmd --lcores "0,$cpu" --main-lcore 0 $memory --no-pci --no-telemetry \
		--file-prefix "$prefix" \
		--vdev "net_af_xdp0,iface=client,$device" --vdev "net_af_xdp1,iface=server,$device" \
		-- $forward --no-lsc-interrupt --auto-start <>"$run/stdin" >"$run/testpmd.log" 2>&1 &
	echo $! >"$run/testpmd.pid"
	forwards "testpmd says: $(tail -3 "$run/testpmd.log" 2>/dev/null)"
	packages dpdk-dev librte-net-af-xdp23
	echo "dpdk-testpmd $memory --vdev net_af_xdp,$device -- $forward; forwards on processor $cpu alone"
	echo "pods: ethtool -K eth0 tx off"
}

down() {
	stop "$run/testpmd.pid"
	clear_all
	rm -rf "/run/dpdk/$prefix"
}

case $1 in
up) up ;;
down) down ;;
*) fail "up or down?" ;;
esac
