#!/bin/bash
# First process of the control plane: etcd, API server, controller manager,
# scheduler, each started again when it ends. Killing it ends them all. A pause
# file of a program's name keeps that one down (tests of outages).
set -u
. "$(dirname "$0")/lib.sh"
L=$RUN/cp/log; mkdir -p "$L"; exec >>"$L/init.log" 2>&1
mount --make-rprivate /
hostname "$PFX-cp"; ip link set lo up
P=$RUN/pki
keep() {
	local n=$1; shift
	(
		while :; do
			while [ -e "$RUN/cp/$n.pause" ]; do sleep 0.2; done
			"$@" >>"$L/$n.log" 2>&1 &
			echo $! >"$RUN/cp/$n.pid"
			wait $!; echo "$(date +%T) $n ended with $?"
			sleep 0.5
		done
	) &
}
# Test data: no fsync, and in memory, so that the disk is out of the picture.
mkdir -p "$RUN/cp/etcd"; mount -t tmpfs -o size=512m,mode=700 etcd "$RUN/cp/etcd"
keep etcd "$BIN/etcd" --name t --data-dir "$RUN/cp/etcd" --unsafe-no-fsync --log-level warn \
	--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster t=http://127.0.0.1:2380
keep kube-apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$API_HOST" \
	--service-cluster-ip-range="$SVC_CIDR,$SVC_CIDR6" --service-node-port-range=30000-32767 \
	--client-ca-file="$P/ca.crt" --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" \
	--kubelet-client-certificate="$P/kubelet-client.crt" --kubelet-client-key="$P/kubelet-client.key" --kubelet-preferred-address-types=InternalIP \
	--service-account-key-file="$P/sa.key" --service-account-signing-key-file="$P/sa.key" --service-account-issuer=https://kubernetes.default.svc.cluster.local \
	--requestheader-client-ca-file="$P/ca.crt" --requestheader-allowed-names=front-proxy --requestheader-extra-headers-prefix=X-Remote-Extra- \
	--requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User --proxy-client-cert-file="$P/front-proxy.crt" --proxy-client-key-file="$P/front-proxy.key" \
	--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --endpoint-reconciler-type=master-count --profiling=false
keep kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$P/kcm.kubeconfig" --authentication-kubeconfig="$P/kcm.kubeconfig" --authorization-kubeconfig="$P/kcm.kubeconfig" \
	--bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true --root-ca-file="$P/ca.crt" --service-account-private-key-file="$P/sa.key" \
	--cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" --allocate-node-cidrs=false --service-cluster-ip-range="$SVC_CIDR,$SVC_CIDR6" \
	--node-monitor-grace-period=20s --profiling=false
keep kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$P/sched.kubeconfig" --authentication-kubeconfig="$P/sched.kubeconfig" --authorization-kubeconfig="$P/sched.kubeconfig" \
	--bind-address=127.0.0.1 --leader-elect=false --profiling=false
keep routes "$HERE/routes.sh"
while :; do wait; sleep 1; done
