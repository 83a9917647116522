#!/bin/bash
# Ends the cluster and removes every trace of it: processes (by the pids that
# were noted), namespaces, cgroups, state. Harmless when there is none.
#
#   down.sh [--keep-logs]      logs go to build/cluster-logs
set -u
. "$(dirname "$0")/lib.sh"
for d in "$RUN/cp" "$RUN"/nodes/*; do
	[ -d "$d" ] || continue
	for f in "$d/pid" "$d/outer.pid"; do alive "$f" && kill -KILL "$(cat "$f")" 2>/dev/null; done # the first process takes its whole pid namespace along
done
for d in "$RUN/cp" "$RUN"/nodes/*; do for f in "$d/pid" "$d/outer.pid"; do for _ in $(seq 100); do alive "$f" || break; sleep 0.1; done; done; done
for ns in $(ip netns list | awk '{print $1}' | grep -E "^$PFX-(cp|node[0-9]+)$"); do ip netns del "$ns"; done
for d in "$RUN"/nodes/*; do
	[ -s "$d/cgroups" ] || continue
	while read -r c; do
		[ -d "$c" ] || continue
		for _ in $(seq 50); do find "$c" -depth -type d -exec rmdir {} + 2>/dev/null; [ -d "$c" ] || break; sleep 0.1; done
		rmdir "$(dirname "$c")" 2>/dev/null
	done <"$d/cgroups"
done
if [ "${1:-}" = --keep-logs ] && [ -d "$RUN" ]; then
	for d in "$RUN/cp" "$RUN"/nodes/*; do
		[ -d "$d/log" ] || continue
		to=$ROOT/build/cluster-logs/$(basename "$d"); mkdir -p "$to"; cp -a "$d/log/." "$to/"
		[ ! -d "$d/fs/var/log/pods" ] || cp -a "$d/fs/var/log/pods" "$to/"
	done
fi
rm -rf --one-file-system "$RUN"
exit 0
