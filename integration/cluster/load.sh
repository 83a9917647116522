#!/bin/bash
# load.sh ARCHIVE...: imports image archives into every running node.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
for archive in "$@"; do
	for d in "$RUN"/nodes/*; do in_node "$(basename "$d")" ctr -n k8s.io images import "$(realpath "$archive")" >/dev/null; done
done
