#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Run test programs one after the other and add up what they say.
#   run-tests.sh NAME TIMEOUT LOGDIR PROGRAM...
# A program that exits 77 is skipped; one that fails shows its output. $RUN,
# when set, is put before each command.  With RETRIES=1 one that fails is run
# once more, as its times may be a busy machine's; both are shown, the second
# counts.  The last line is
#   NAME: N passed, N failed, N skipped
set -u

[ $# -ge 3 ] || { echo "usage: run-tests.sh NAME TIMEOUT LOGDIR PROGRAM..." >&2; exit 2; }
name=$1 limit=$2 logs=$3
shift 3
mkdir -p "$logs" || exit 2
passed=0 failed=0 skipped=0

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

# Run $1 once: sets p, f, s, code and shows what became of it.
run_once() {
	log=$logs/$(basename "$1").log
	start=$(date +%s)
	# $RUN may hold several words
	# shellcheck disable=SC2086
	timeout -k 5 "$limit" ${RUN-} "$1" >"$log" 2>&1 </dev/null
	code=$?
	p=$(count PASSED "$log") f=$(count FAILED "$log") s=$(count SKIPPED "$log")
	note=''
	case $code in
	0)	[ "$((p + f + s))" -gt 0 ] || p=1 ;;
	77)	note=" (skipped)"; [ "$((p + f + s))" -gt 0 ] || s=1 ;;
	124|137) note=" (no end after $limit s)"; f=$((f + 1)) ;;
	*)	[ "$f" -gt 0 ] || { note=" (exit code $code)"; f=1; } ;;
	esac
	[ "$f" -eq 0 ] || sed 's/^/    /' "$log" | tail -n 200
	printf '  %-24s %4d passed %3d failed  %3d s%s\n' "$(basename "$1")" \
		"$p" "$f" "$(($(date +%s) - start))" "$note"
}

for prog in "$@"; do
	run_once "$prog"
	if [ "$f" -gt 0 ] && [ "${RETRIES:-0}" -gt 0 ]; then
		echo "  $(basename "$prog") failed: once more"
		run_once "$prog"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$name: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
