#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Run test programs one after the other and add up what they say.
#   run-tests.sh NAME TIMEOUT LOGDIR PROGRAM...
# A program that exits 77 is skipped; one that fails shows its output. $RUN,
# when set, is put before each command.  With RETRIES=N the tests that failed
# are run up to N times more, each by itself (TEST_ONLY=its name, which the
# programs heed), as their times may be a busy machine's: all is shown, the last
# time counts.  Those that passed late and those that never did are named at the
# end, the latter with what they said.  The last line is
#   NAME: N passed, N failed, N skipped
set -u

[ $# -ge 3 ] || { echo "usage: run-tests.sh NAME TIMEOUT LOGDIR PROGRAM..." >&2; exit 2; }
name=$1 limit=$2 logs=$3
shift 3
mkdir -p "$logs" || exit 2
passed=0 failed=0 skipped=0
verdicts=$logs/.verdicts.$name
: >"$verdicts"

# count WORD LOG: adds up cmocka's lines "[  WORD  ] N test(s)..."; a program
# that is not cmocka's may end in "N passed, N failed" of its own.
count() {
	awk -v w="$1" '
	BEGIN { lower = tolower(w) }
	$1 == "[" && $2 == w && $3 == "]" && $4 ~ /^[0-9]+$/ && /test\(s\)/ { n += $4 }
	/^[0-9]+ passed, [0-9]+ failed/ {
		for (i = 1; i < NF; i++) if ($(i + 1) ~ "^" lower) own = $i
	}
	END { print n + own }' "$2"
}

# The tests that failed, by cmocka's lines or test/wire/daemon.py's.
failures() {
	sed -nE 's/^\[  FAILED  \] ([A-Za-z_0-9]+)$/\1/p; s/^FAILED ([A-Za-z_0-9]+): .*/\1/p' "$1" | sort -u
}

# run_once PROGRAM LOG [TEST]: sets p, f, s, code and shows what became of it.
run_once() {
	log=$2 what=$(basename "$1")${3+ $3}
	start=$(date +%s)
	# $RUN may hold several words
	# shellcheck disable=SC2086
	TEST_ONLY=${3-${TEST_ONLY-}} timeout -k 5 "$limit" ${RUN-} "$1" >"$log" 2>&1 </dev/null
	code=$?
	p=$(count PASSED "$log") f=$(count FAILED "$log") s=$(count SKIPPED "$log")
	note=''
	case $code in
	0)	[ "$((p + f + s))" -gt 0 ] || [ -n "${3-${TEST_ONLY-}}" ] || p=1 ;;
	77)	note=" (skipped)"; [ "$((p + f + s))" -gt 0 ] || s=1 ;;
	124|137) note=" (no end after $limit s)"; f=$((f + 1)) ;;
	*)	[ "$f" -gt 0 ] || { note=" (exit code $code)"; f=1; } ;;
	esac
	[ "$f" -eq 0 ] || sed 's/^/    /' "$log" | tail -n 200
	printf '  %-24s %4d passed %3d failed  %3d s%s\n' "$what" \
		"$p" "$f" "$(($(date +%s) - start))" "$note"
}

# again PROGRAM LOG [TEST]: did it pass in one of the further tries?
again() {
	try=0
	while [ "$try" -lt "${RETRIES:-0}" ]; do
		try=$((try + 1))
		echo "  $(basename "$1")${3+ $3} failed: once more"
		run_once "$@"
		if [ "$f" -eq 0 ] && [ "$p" -gt 0 ]; then
			echo "  late: $(basename "$1")${3+ $3} passed when tried again ($try)" >>"$verdicts"
			return 0
		fi
	done
	echo "  FAILED $(basename "$1")${3+ $3}, its last lines:" >>"$verdicts"
	tail -n 12 "$log" | sed 's/^/    /' >>"$verdicts"
	return 1
}

# What failed of PROGRAM, as run_once left it in f and its log, is tried again: by name where all that went wrong has one.
retry() {
	tests=$(failures "$log") all=$p bad=$f
	if [ -z "$tests" ] || [ -n "$note" ]; then
		again "$1" "$log"
		return
	fi
	left=0
	for t in $tests; do
		again "$1" "$logs/$(basename "$1").$t.log" "$t" || left=$((left + 1))
	done
	p=$((all + bad - left)) f=$left
}

for prog in "$@"; do
	run_once "$prog" "$logs/$(basename "$prog").log"
	skips=$s
	[ "$f" -eq 0 ] || retry "$prog"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + skips))
done
cat "$verdicts"
echo "$name: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
