#!/bin/bash
# The cluster's certificate authority and everybody's credentials, with openssl.
#
#   pki.sh NODE...
set -euo pipefail
. "$(dirname "$0")/lib.sh"
mkdir -p "$RUN/pki"; cd "$RUN/pki"; umask 077
key() { [ -s "$1.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
if [ ! -s ca.crt ]; then
	key ca
	openssl req -x509 -new -key ca.key -subj /CN=test-ca -days 365 -out ca.crt \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
fi
# cert NAME SUBJECT [ALTERNATIVE-NAMES]
cert() {
	[ ! -s "$1.crt" ] || return 0
	key "$1"
	{ echo "keyUsage=critical,digitalSignature"; echo "extendedKeyUsage=clientAuth,serverAuth"; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
	openssl req -new -key "$1.key" -subj "$2" 2>/dev/null |
		openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 365 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
	rm -f "$1.ext"
}
kubeconfig() {
	cat >"$1.kubeconfig" <<Y
apiVersion: v1
kind: Config
current-context: t
clusters: [{name: t, cluster: {server: "$API", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: t, user: {client-certificate: $RUN/pki/$1.crt, client-key: $RUN/pki/$1.key}}]
contexts: [{name: t, context: {cluster: t, user: t}}]
Y
}
first=${SVC_CIDR%.*}.1 first6=${SVC_CIDR6%::*}::1
cert apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$API_HOST,IP:$NODE_NET6::1,IP:$first,IP:$first6,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
cert admin /O=system:masters/CN=admin; kubeconfig admin
cert kubelet-client /O=system:masters/CN=apiserver-kubelet-client
cert front-proxy /CN=front-proxy
cert kcm /CN=system:kube-controller-manager; kubeconfig kcm
cert sched /CN=system:kube-scheduler; kubeconfig sched
cert proxy /CN=system:kube-proxy; kubeconfig proxy
key sa
for n in "$@"; do cert "$n" "/O=system:nodes/CN=system:node:$n" "DNS:$n"; kubeconfig "$n"; done
