#!/bin/bash
# Makes the images that tests run in pods, from this machine's own files: no
# registry, no Docker engine.
#
#   pause    the pause.c of Kubernetes, static
#   busybox  Debian's busybox-static
#   agnhost  Kubernetes' test program, with the tools its tests call (sh, curl, nc, ip, ss, dig, iperf)
#   coredns  cluster DNS
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ ! -e "$IMG/complete" ] || exit 0
work=$(mktemp -d "$CACHE/img-work.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$ROOT" && CGO_ENABLED=0 go build -o "$BIN/pack" ./packaging/pack)

# take ROOT PROGRAM...: copies programs with their shared libraries
take() {
	local root=$1 p l; shift
	for p in "$@"; do
		p=$(command -v "$p"); install -D -m755 "$(readlink -f "$p")" "$root$p"
		{ ldd "$p" 2>/dev/null || true; } | grep -oE '/[^ )]+' | while read -r l; do
			[ -e "$root$l" ] || install -D -m755 "$(readlink -f "$l")" "$root$l"
		done
	done
}
tree() {
	mkdir -p "$1"/{tmp,etc,proc,sys,dev,run,var/run,root}; chmod 1777 "$1/tmp"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
	echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}
busybox() {
	local a; install -D -m755 /bin/busybox "$1/bin/busybox"; mkdir -p "$1"/{usr/bin,sbin,usr/sbin}
	for a in $(/bin/busybox --list); do [ -e "$1/bin/$a" ] || ln -s busybox "$1/bin/$a"; done
}

kubernetes=$(cd "$CACHE/src/k8s" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)

r=$work/pause; mkdir -p "$r"
gcc -Os -static -s -DVERSION=test -o "$r/pause" "$kubernetes/build/pause/linux/pause.c"
"$BIN/pack" -root "$r" -o "$IMG/pause.tar" -tag "$IMAGE_REPO/pause:3.10.1" -entrypoint /pause -user 65535:65535

r=$work/busybox; tree "$r"; busybox "$r"
"$BIN/pack" -root "$r" -o "$IMG/busybox.tar" -tag "$IMAGE_REPO/busybox:1.37.0-1" -tag "$IMAGE_REPO/busybox:1" -cmd sh

r=$work/agnhost; tree "$r"; busybox "$r"
rm -f "$r"/bin/{nc,ip,nslookup,sh,ping}   # busybox's sh would run its own nc instead of the real one
echo 'user-defined-in-image:x:1000:1000::/:/bin/sh' >>"$r/etc/passwd"
echo 'group-defined-in-image:x:50000:user-defined-in-image' >>"$r/etc/group"
take "$r" curl nc ip ss dig nslookup getent iperf iperf3 bash dash ping
ln -s dash "$r/bin/sh"; [ -e "$r/bin/dash" ] || ln -s ../usr/bin/dash "$r/bin/dash"
install -D -m755 "$BIN/agnhost" "$r/agnhost"; ln -s agnhost "$r/agnhost-2"; mkdir -p "$r/uploads" "$r/usr/local/bin"
d=$kubernetes/test/images/agnhost
install -m644 "$d/porter/localhost.crt" "$d/porter/localhost.key" "$r/"
"$BIN/pack" -root "$r" -o "$IMG/agnhost.tar" -tag "$IMAGE_REPO/agnhost:$(cat "$d/VERSION")" -tag "$IMAGE_REPO/agnhost:1" -tag "$IMAGE_REPO/jessie-dnsutils:1.7" -entrypoint /agnhost -cmd pause

r=$work/coredns; mkdir -p "$r/etc"; cp "$BIN/coredns" "$r/"
"$BIN/pack" -root "$r" -o "$IMG/coredns.tar" -tag "$IMAGE_REPO/coredns:1" -entrypoint /coredns
touch "$IMG/complete"
