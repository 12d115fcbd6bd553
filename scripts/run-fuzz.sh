#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Run libFuzzer programs, each for some seconds, on a copy of its corpus.
#   run-fuzz.sh SECONDS PROGRAM...
# PROGRAM is DIR/<parser>_fuzz; seeds come from test/fuzz/corpus/<parser>/, a
# dictionary from test/fuzz/<parser>.dict.  Inputs that crash stay in DIR.
set -u

[ $# -ge 1 ] || { echo "usage: run-fuzz.sh SECONDS PROGRAM..." >&2; exit 2; }
secs=$1
shift
passed=0 failed=0
export ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=1:allocator_may_return_null=1"

for prog in "$@"; do
	parser=$(basename "$prog" _fuzz)
	corpus=$(dirname "$prog")/corpus/$parser
	log=$prog.log
	mkdir -p "$corpus"
	if [ -d "test/fuzz/corpus/$parser" ]; then
		cp -r "test/fuzz/corpus/$parser/." "$corpus/"
	fi
	dict=''
	[ ! -f "test/fuzz/$parser.dict" ] || dict=-dict=test/fuzz/$parser.dict
	timeout -k 5 "$((secs + 120))" setarch -R "$prog" \
		"-max_total_time=$secs" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 "-artifact_prefix=$prog-" ${dict:+"$dict"} \
		"$corpus" >"$log" 2>&1
	code=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ "$code" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
		passed=$((passed + 1)) verdict=ok
	else
		failed=$((failed + 1)) verdict="FAILED (exit code $code)"
		grep -v '^#' "$log" | tail -n 60 | sed 's/^/    /'
	fi
	printf '  %-24s %9s runs  %s\n' "$parser" "${runs:-?}" "$verdict"
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
