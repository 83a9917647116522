#!/bin/bash
# First process of a node: private mounts, then containerd, kubelet and, if
# wanted, kube-proxy, each started again when it ends. up.sh starts it in its own
# namespaces and cgroups. Killing it ends every process of the node, containers
# included, and drops all its mounts. A pause file of a program's name keeps that
# one down, as in the control plane.
#
#   node.sh NAME
set -u
. "$(dirname "$0")/lib.sh"
N=$1 ND=$RUN/nodes/$1 P=$RUN/pki
L=$ND/log; exec >>$L/init.log 2>&1
NODE_IP=$(cat $ND/ip); export PATH=$BIN:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
hostname $N
ip link set lo up

# /sys of this network namespace, with this node's cgroups (cgroup namespace: our own cgroup is the root of each hierarchy)
v1=$(awk -F: '$2!="" && $2!~/=/ {print $2}' /proc/self/cgroup)
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for c in $v1; do mkdir -p /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c; done
for c in $(awk -F: '$2~/^name=/ {print substr($2,6)}' /proc/self/cgroup); do mkdir -p /sys/fs/cgroup/$c; mount -t cgroup -o none,name=$c cgroup /sys/fs/cgroup/$c; done
grep -q '^0::' /proc/self/cgroup && { mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; }
mount -t bpf bpf /sys/fs/bpf 2>/dev/null

# the node's own copy of every path that kubelet, containerd, CNI plugins and host-path DaemonSets write
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/netns /run/lock
for d in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers /etc/cni/net.d /opt/cni/bin /etc/containerd /var/lib/vragent; do
  mkdir -p $d $ND/fs$d; mount --bind $ND/fs$d $d
done
[ -e /etc/hosts ] || : >/etc/hosts
for f in hosts resolv.conf hostname machine-id; do [ -e /etc/$f ] || : >/etc/$f; mount --bind $ND/etc/$f /etc/$f; done
# kubelet insists on these (host-wide!) sysctls and writes them when they differ: show it the values it wants instead
mkdir -p $ND/sysctl
for kv in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  f=$ND/sysctl/$(echo ${kv%=*} | tr / _); echo ${kv#*=} >$f; mount --bind $f /proc/sys/${kv%=*}
done
mount --make-rshared /          # Bidirectional / HostToContainer mount propagation

# this network namespace's settings
w() { echo $2 >/proc/sys/$1; } 2>/dev/null
w net/ipv4/conf/all/rp_filter 0; w net/ipv4/conf/default/rp_filter 0
w net/bridge/bridge-nf-call-iptables 1; w net/bridge/bridge-nf-call-ip6tables 1
w net/ipv4/ping_group_range "0 2147483647"

keep() {
	local n=$1; shift
	(
		while :; do
			while [ -e $ND/$n.pause ]; do sleep 0.2; done
			"$@" >>$L/$n.log 2>&1 &
			echo $! >$ND/$n.pid
			wait $!; echo "$(date +%T) $n ended with $?"
			sleep 1
		done
	) &
}

# ---- containerd ----
export PATH=$CACHE/deb/usr/sbin:$CACHE/deb/usr/bin:$PATH
cat >/etc/containerd/config.toml <<T
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs","io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.devmapper","io.containerd.tracing.processor.v1.otlp","io.containerd.internal.v1.tracing"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$IMAGE_REPO/pause:3.10.1"
  restrict_oom_score_adj = true     # no CAP_SYS_RESOURCE here: a lower score than containerd's own cannot be set
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
T
keep containerd containerd --config /etc/containerd/config.toml
for i in $(seq 300); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
echo "$(date +%T.%N) containerd up"
for t in $IMG/*.tar $OUR_IMG/*.tar; do [ -e $t ] && ctr -n k8s.io images import $t >/dev/null || echo "import of $t failed"; done
echo "$(date +%T.%N) images imported"

# ---- kubelet ----
cat >/var/lib/kubelet/config.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
clusterDomain: cluster.local
clusterDNS: ["$DNS_IP"]
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
nodeStatusUpdateFrequency: 5s
maxPods: 110
enableDebuggingHandlers: true
makeIPTablesUtilChains: false
serializeImagePulls: false
Y
until curl -sko /dev/null $API/healthz; do sleep 0.2; done
echo "$(date +%T.%N) apiserver reachable"
keep kubelet $BIN/kubelet --config=/var/lib/kubelet/config.yaml --kubeconfig=$P/$N.kubeconfig --hostname-override=$N --node-ip=$NODE_IP --v=${KUBELET_V:-2} ${KUBELET_ARGS:-}

# ---- kube-proxy ----
if [ $KUBE_PROXY != none ]; then
  cat >/run/kube-proxy.yaml <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $KUBE_PROXY
clientConnection: {kubeconfig: $P/proxy.kubeconfig}
clusterCIDR: "$POD_CIDR,$POD_CIDR6"
hostnameOverride: $N
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, udpTimeout: 0s, udpStreamTimeout: 0s}
Y
  keep kube-proxy $BIN/kube-proxy --config=/run/kube-proxy.yaml --v=2
fi
while :; do wait; sleep 1; done
