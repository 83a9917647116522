#!/bin/bash
# Installs vragent and cluster DNS into the running cluster, as a user would:
# the manifest, with this cluster's addresses, applied by kubectl. Waits until
# all nodes are Ready. What the nodes were like before is kept in their folders.
#
#   install.sh IMAGE
set -euo pipefail
. "$(dirname "$0")/lib.sh"
image=$1 began=$SECONDS
k() { in_cp kubectl "$@"; }
replace=false; [ "$KUBE_PROXY" != none ] || replace=true
(cd "$ROOT" && packaging/render.sh --set image="$image" --set apiServer="$API" --set kubeProxyReplacement=$replace \
	--set-json podSubnets="[\"$POD_CIDR\",\"$POD_CIDR6\"]" --set-json serviceSubnets="[\"$SVC_CIDR\",\"$SVC_CIDR6\"]" \
	${EXTRA_VALUES:-}) >"$RUN/vragent.yaml"
for d in "$RUN"/nodes/*; do [ -s "$d/before" ] || "$HERE/snapshot.sh" "$(basename "$d")" >"$d/before"; done # what uninstalling has to restore
k apply --server-side -f "$RUN/vragent.yaml" >"$RUN/apply.log" || { cat "$RUN/apply.log" >&2; die "kubectl apply failed"; }
log "applied; waiting for the nodes"
k -n vragent-system rollout status deploy/vrcontroller --timeout=120s >&2
k -n vragent-system rollout status ds/vragent --timeout=120s >&2
k wait --for=condition=Ready node --all --timeout=120s >&2
sed "s|@REPO@|$IMAGE_REPO|; s|@DNS_IP@|$DNS_IP|" "$HERE/manifests/coredns.yaml" | k apply -f - >/dev/null
k -n kube-system rollout status deploy/coredns --timeout=120s >&2
log "the cluster is ready after $((SECONDS - began)) s"
cat >&2 <<T

  sudo $HERE/kubectl get pods -A -o wide
  sudo $HERE/on node1 vragent status
T
