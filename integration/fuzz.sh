#!/bin/sh
# Runs every fuzz test of the repository for a short time.
#
#   integration/fuzz.sh 10s
set -eu
time=${1:-10s}
GO=${GO:-go}

grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r name; do
		echo "== $(dirname "$file") $name"
		$GO test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$(dirname "$file")" </dev/null
	done
done
