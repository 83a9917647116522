#!/bin/bash
# Makes the image of vragent: an OCI archive of the static programs and the
# iptables of this Debian, without a Docker daemon.
#
#   image.sh BIN-DIRECTORY OUTPUT.tar NAME:VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 out=$2 tag=$3
mkdir -p "$(dirname "$out")"
root=$(mktemp -d "$(dirname "$out")/.root.XXXXXX")
trap 'rm -rf "$root"' EXIT

for p in vragent vrcontroller vrouter; do install -D -m755 "$bin/$p" "$root/usr/local/bin/$p"; done
mkdir -p "$root"/{etc,run,tmp,proc,sys,dev,var/lib}
printf 'root:x:0:0:root:/root:/sbin/nologin\nvrcontroller:x:65532:65532::/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nvrcontroller:x:65532:\n' >"$root/etc/group"

# iptables is the one program that the agent calls; it needs its libraries.
command -v iptables >/dev/null || { echo "image.sh: iptables is not installed here (apt-get install iptables)" >&2; exit 1; }
mkdir -p "$root/usr/sbin"
for p in xtables-nft-multi xtables-legacy-multi; do
	from=$(readlink -f "/usr/sbin/$p")
	install -m755 "$from" "$root/usr/sbin/$p"
	ldd "$from" | grep -oE '/[^ )]+' | while read -r l; do [ -e "$root$l" ] || install -D -m755 "$(readlink -f "$l")" "$root$l"; done
done
for p in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
	ln -s xtables-nft-multi "$root/usr/sbin/$p"
	ln -s xtables-legacy-multi "$root/usr/sbin/${p/tables/tables-legacy}"
done
modules=$(dirname "$(find /usr/lib -path '*/xtables/libxt_comment.so' -print -quit)")
mkdir -p "$root$modules"; cp "$modules"/*.so "$root$modules/"

go run ./packaging/pack -root "$root" -o "$out" -tag "$tag" -arch "$(go env GOARCH)" -cmd vragent,help
