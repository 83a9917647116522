#!/bin/bash
# Builds what a cluster is made of, once, from the Go module proxy and Debian:
# Kubernetes, etcd, CoreDNS, containerd, runc, test images. About ten minutes on
# two cores the first time, nothing afterwards.
#
#   deps.sh [e2e]        e2e: Kubernetes' own end-to-end tests as well
#   deps.sh kube-proxy   kube-proxy and nothing else
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
mkdir -p "$BIN/cni" "$IMG" "$CACHE/src"

exec 9>"$CACHE/lock"
flock 9 # two builds at once would tread on each other

minor=${K8S_VERSION#v1.}; minor=${minor%%.*}
stamp="-X k8s.io/component-base/version.gitVersion=$K8S_VERSION -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor -X k8s.io/component-base/version.gitTreeState=clean"
stamp="$stamp -X k8s.io/client-go/pkg/version.gitVersion=$K8S_VERSION -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=$minor"

# build OUT MODULE PACKAGE [LDFLAGS]
build() {
	[ ! -x "$BIN/$1" ] || return 0
	local began=$SECONDS
	log "building $1 ($3)"
	(cd "$CACHE/src/$2" && CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags "-s -w ${4:-}" -o "$BIN/$1.new" "$3")
	mv "$BIN/$1.new" "$BIN/$1"
	log "built $1 in $((SECONDS - began)) s"
}

packages() {
	local missing=() p
	for p in "$@"; do dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p"); done
	[ ${#missing[@]} = 0 ] && return
	log "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >"$CACHE/apt.log" 2>&1
	apt-get install -q -y --no-install-recommends "${missing[@]}" >>"$CACHE/apt.log" 2>&1 || { tail -20 "$CACHE/apt.log" >&2; die "apt-get install failed"; }
}

[ "${1:-}" = kube-proxy ] || packages openssl curl iproute2 iptables nftables conntrack ipset libseccomp2 jq util-linux procps \
	busybox-static netcat-openbsd bind9-dnsutils iperf iperf3 iputils-ping gcc libc6-dev tcpdump

for m in "$HERE"/modules/*; do
	d=$CACHE/src/$(basename "$m"); mkdir -p "$d"
	cp "$m/go.mod" "$m/go.sum" "$d/"
	[ ! -e "$m/main.go.txt" ] || cp "$m/main.go.txt" "$d/main.go"
done
if [ "${1:-}" = kube-proxy ]; then
	build kube-proxy k8s k8s.io/kubernetes/cmd/kube-proxy "$stamp"
	exit
fi
for c in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy; do
	build $c k8s k8s.io/kubernetes/cmd/$c "$stamp"
done
build etcd k8s go.etcd.io/etcd/server/v3
build agnhost k8s k8s.io/kubernetes/test/images/agnhost
build cni/loopback cni github.com/containernetworking/plugins/plugins/main/loopback
build cni/portmap cni github.com/containernetworking/plugins/plugins/meta/portmap
build cnitool cni github.com/containernetworking/cni/cnitool
build coredns coredns .

if [ ! -x "$CACHE/deb/usr/bin/containerd" ]; then # unpacked, not installed: no service of it is wanted here
	log "unpacking containerd and runc"
	rm -rf "$CACHE/deb.new"; mkdir -p "$CACHE/deb.new"
	(cd "$CACHE/deb.new" && { apt-get download containerd runc >/dev/null 2>&1 || { apt-get update -q >>"$CACHE/apt.log" 2>&1; apt-get download containerd runc >/dev/null; }; }
		for d in *.deb; do dpkg -x "$d" .; done; rm -f -- *.deb)
	mv "$CACHE/deb.new" "$CACHE/deb"
fi

"$HERE/images.sh"

if [ "${1:-}" = e2e ] && [ ! -x "$BIN/e2e.test" ]; then
	log "building e2e.test"
	(cd "$CACHE/src/k8s" && CGO_ENABLED=0 nice -n 5 go test -c -vet=off -trimpath -ldflags "-s -w $stamp" -o "$BIN/e2e.test.new" k8s.io/kubernetes/test/e2e)
	mv "$BIN/e2e.test.new" "$BIN/e2e.test"
fi
log "the cluster's programs are in $CACHE ($(du -sh "$CACHE" | cut -f1))"
