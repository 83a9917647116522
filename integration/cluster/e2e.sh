#!/bin/bash
# Runs Kubernetes' own end-to-end tests (deps.sh e2e builds them) on the running
# cluster. Without arguments: the conformance tests of [sig-network] Services,
# DNS and Networking, and what else of [sig-network] there is, but for those
# that SKIPPED.md lists.
#
#   e2e.sh [FOCUS-REGEX [FLAGS-OF-GINKGO...]]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ -x "$BIN/e2e.test" ] || "$HERE/deps.sh" e2e
focus=${1:-'\[sig-network\].*\[Conformance\]'}
[ $# = 0 ] || shift
skip=$(sed -n 's/^- `\(.*\)`.*/\1/p' "$HERE/SKIPPED.md" | sed 's/[][()+?.*]/\\&/g' | paste -sd'|')
results=$ROOT/build/cluster-results; mkdir -p "$results"
# every registry the tests know is replaced by the made-up one of the imported images
for r in gcAuthenticatedRegistry promoterE2eRegistry buildImageRegistry invalidRegistry gcEtcdRegistry gcRegistry sigStorageRegistry privateRegistry dockerLibraryRegistry cloudProviderGcpRegistry; do echo "$r: $IMAGE_REPO"; done >"$RUN/repos.yaml"
in_cp env KUBE_TEST_REPO_LIST="$RUN/repos.yaml" "$BIN/e2e.test" --ginkgo.no-color --ginkgo.focus="$focus" ${skip:+--ginkgo.skip="$skip"} --ginkgo.timeout=60m "$@" \
	--kubeconfig="$KCFG" --provider=skeleton --report-dir="$results" --system-pods-startup-timeout=30s --dump-logs-on-failure=false
