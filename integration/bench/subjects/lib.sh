# shellcheck shell=bash
# What the subjects of this folder have in common: two pods, and between them a
# namespace with the other ends of their veths. Sourced, with $prefix set.

client=$prefix-client
server=$prefix-server
between=$prefix-switch
run=/run/$prefix # processes' files
cpu=1            # of the switching thread; the pods' programs run where they like

fail() {
	echo "$0: $*" >&2
	exit 1
}

# in_ns NAMESPACE COMMAND... runs a command there. (ip netns exec would give it
# other mounts.)
in_ns() {
	nsenter --net="/run/netns/$1" "${@:2}"
}

# pod NAMESPACE ADDRESS TAP makes a pod whose veth ends as TAP in between.
pod() {
	ip netns add "$1"
	ip -n "$1" link set lo up
	ip link add eth0 netns "$1" mtu 1500 type veth peer name "$3" mtu 1500 netns "$between"
	ip -n "$1" addr add "$2/24" dev eth0
	ip -n "$1" link set eth0 up
	ip -n "$between" link set "$3" up
	# XDP receives packets before anybody has filled in their checksums.
	in_ns "$1" ethtool -K eth0 tx off >/dev/null
}

# pods makes both.
pods() {
	mkdir -p "$run"
	ip netns add "$between"
	ip -n "$between" link set lo up
	# Nobody but the pods talks on these links.
	in_ns "$between" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
	pod "$client" 192.0.2.1 client
	pod "$server" 192.0.2.2 server
}

# forwards waits until a ping gets through.
forwards() {
	for _ in $(seq 50); do
		in_ns "$client" ping -c 1 -W 1 -q 192.0.2.2 >/dev/null 2>&1 && return
	done
	fail "no packet gets through; $*"
}

# stop PIDFILE... ends processes and waits for them.
stop() {
	local file pid
	for file in "$@"; do
		[ -s "$file" ] || continue
		pid=$(cat "$file")
		kill "$pid" 2>/dev/null || continue
		timeout 5 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
	done
}

# clear removes everything but processes.
clear_all() {
	local ns
	for ns in "$client" "$server" "$between"; do
		[ ! -e "/run/netns/$ns" ] || ip netns del "$ns"
	done
	rm -rf "$run"
}

# packages NAME... says the versions that run here.
packages() {
	dpkg-query -W -f '${Package} ${Version}\n' "$@"
}
