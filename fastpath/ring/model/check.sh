#!/bin/sh
# Has Spin go through all states of the models in this folder, and of their mutants,
# in which a mistake was made on purpose: Spin must find it, or it proves nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check MODEL MUTANT(or none) EXPECTED(errors: 0 or 1)
check() {
	flag=""
	[ "$2" = none ] || flag="-D$2"
	spin -a $flag "$here/$1.pml" >spin.log || { cat spin.log; exit 1; }
	cc -O2 -DSAFETY -DVECTORSZ=2048 -DNOFAIR -o pan pan.c 2>cc.log || { cat cc.log; exit 1; }
	./pan -m1000000 >pan.log
	if grep -q "search depth too small\|out of memory\|truncated" pan.log; then cat pan.log; exit 1; fi
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
	states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
	echo "$1 $2: $states states, errors: $errors (expected: $3)"
	[ "$errors" = "$3" ] || { cat pan.log; exit 1; }
}

check ring none 0
check ring MUTANT_EARLY 1
check ring MUTANT_RELEASE 1
check sleep none 0
check sleep MUTANT_LATE 1
check sleep MUTANT_CALLS 1
