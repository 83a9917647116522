#!/bin/sh
# Installs the Debian packages that `make demo` or `make test` needs, when they
# are missing. Nothing to do is the usual case and takes no time.
#
#   integration/deps.sh demo|test
set -eu

demo="iproute2 iptables util-linux curl tcpdump"
test="$demo gcc libc6-dev tshark ethtool iperf3 traceroute iputils-ping netcat-openbsd jq"

case "${1:-}" in
demo) want=$demo ;;
test) want=$test ;;
*) echo "usage: $0 demo|test" >&2; exit 2 ;;
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
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing
