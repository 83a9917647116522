#!/bin/sh
# Runs every fuzz test of the repository for a short time.
#
#   integration/fuzz.sh 10s
set -eu
time=${1:-10s}
GO=${GO:-go}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r name; do
		echo "== $(dirname "$file") $name"
		if $GO test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$(dirname "$file")" </dev/null >"$out" 2>&1; then
			cat "$out"
			continue
		fi
		cat "$out"
		# Go before 1.27 may fail at the end of the time with nothing found but
		# its own deadline: https://go.dev/issue/75804.
		if grep -q 'Failing input\|seed corpus\|panic' "$out" || [ "$(grep -c '^    ' "$out")" != 1 ] || ! grep -qx '    context deadline exceeded' "$out"; then
			exit 1
		fi
		echo "   (the end of the time, not a failure)"
	done
done
