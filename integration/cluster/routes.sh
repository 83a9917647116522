#!/bin/bash
# Keeps routes from the control plane to pods, as a cloud's route table would:
# the API server is no node here, and yet it is to reach pods (proxy, webhooks).
# Each block of the pods' subnets is routed to the node that holds it.
set -u
. "$(dirname "$0")/lib.sh"
export KUBECONFIG=$KCFG
"$BIN/kubectl" get ipblocks -w -o jsonpath='{.spec.network} {.spec.prefix} {.spec.node}{"\n"}' | while read -r network prefix node; do
	[ "$network" = k8s-default-pod-network ] || continue
	case $prefix in
	*:*) ip -6 route replace "$prefix" via "$NODE_NET6::1${node#node}" ;;
	*) ip route replace "$prefix" via "$NODE_NET.1${node#node}" ;;
	esac
done
sleep 2 # the kind is not known yet, or the API server has gone away
