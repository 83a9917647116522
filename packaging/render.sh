#!/bin/bash
# Renders the Helm chart to a plain manifest on standard output; arguments go to
# `helm template`. Needs no Helm: the module proxy has it.
#
#   render.sh [--set KEY=VALUE …]
set -euo pipefail
cd "$(dirname "$0")"
helm=${HELM:-$(command -v helm || true)}
[ -n "$helm" ] || helm="go run helm.sh/helm/v3/cmd/helm@v3.19.0"
exec $helm template vragent helm/vragent --namespace vragent-system --include-crds --kube-version 1.34.0 --set createNamespace=true "$@"
