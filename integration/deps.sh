#!/bin/sh
# Installs the Debian packages that `make demo`, `make test` or `make bench`
# needs, when they are missing. Nothing to do is the usual case and takes no time.
#
#   integration/deps.sh demo|test|bench
set -eu

demo="iproute2 iptables util-linux curl tcpdump"
test="$demo gcc libc6-dev spin tshark ethtool iperf3 traceroute iputils-ping netcat-openbsd jq"
# What we are measured against: Open vSwitch, and DPDK's testpmd with its AF_XDP driver.
bench="$test nftables ipset openvswitch-switch dpdk-dev librte-net-af-xdp23"

case "${1:-}" in
demo) want=$demo ;;
test) want=$test ;;
bench) want=$bench ;;
*) echo "usage: $0 demo|test|bench" >&2; exit 2 ;;
esac

missing=""
for package in $want; do
	dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "these Debian packages are missing, and only root can install them:$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# tshark asks whether everybody may capture packets: no.
echo "wireshark-common wireshark-common/install-setuid boolean false" | debconf-set-selections
# No package starts a service: the benchmark runs its own Open vSwitch.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing
