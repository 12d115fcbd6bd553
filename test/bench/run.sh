#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Measure: run.sh [--list] [--quick] [--doc] [MEASURE...]
# B is the build tree; the figures go to B/bench.json too, with --doc also to
# doc/performance.md and doc/performance.svg. Wants a quiet machine.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
B=${B:-build}
export B
for tool in python3 fio valgrind; do
	command -v $tool >/dev/null && continue
	echo "bench: $tool is missing: apt-get install $tool" >&2
	exit 1
done
exec python3 "$here/run.py" "$@"
