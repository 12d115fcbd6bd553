#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# See Belfry work: build it, measure it with belfry-perf in both address modes,
# export a file as an NVMe disk, boot Debian's kernel in QEMU on it and let fio
# measure and verify. Leaves the build tree and the cache of the guest set, so
# that the next run is quick; else nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
B=${B:-build}
keep=no
seconds=3
run='' daemon='' child=''

usage()
{
	cat <<END
usage: quickstart.sh [--keep] [--seconds N]

Runs Belfry end to end on this machine and prints two tables.
  --keep       leave belfryd up and say how to attach a VM of your own
  --seconds N  length of each measurement [$seconds]
B=DIR picks the build tree [build].
END
}

say()
{
	printf '== %s\n' "$*"
}

die()
{
	echo "quickstart: $*" >&2
	exit 1
}

# In the background, since only then a signal is noticed at once.
attend()
{
	status=0
	"$@" &
	child=$!
	wait $child || status=$?
	child=''
	return $status
}

cleanup()
{
	status=$?
	trap '' INT TERM HUP
	[ -z "$child" ] || kill "$child" 2>/dev/null || true
	[ -z "$child" ] || wait "$child" 2>/dev/null || true
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" || say "belfryd ended with status $?"
	fi
	[ -z "$run" ] || rm -rf "$run"
	exit $status
}

while [ $# -gt 0 ]; do
	case $1 in
	--keep) keep=yes ;;
	--seconds)
		seconds=${2:-}
		case $seconds in
		'' | *[!0-9]* | 0) die "--seconds wants a number" ;;
		esac
		shift ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; die "unknown argument: $1" ;;
	esac
	shift
done
cd "$here/.."

say "packages and the guest set"
scripts/setup.sh --guest

say "building in $B"
[ -e "$B/config.mk" ] || ./configure --build="$B"
make -s -j"$(nproc)" B="$B"

run=$(mktemp -d /var/tmp/belfry.XXXXXX)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Plain numbers, for taskset and -m alike; affinity may leave gaps.
cores=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
core=${cores%% *}
ctl="$B/bin/belfryctl -s $run/rpc.sock"

say "starting belfryd on core $core with a file of 1 GiB"
fallocate -l 1G "$run/disk.img" 2>/dev/null || truncate -s 1G "$run/disk.img"
mkdir -m 700 "$run/vm"
# In a session of its own, so that ^C reaches this script alone.
setsid "$B/bin/belfryd" -m "$core" -r "$run/rpc.sock" \
	</dev/null >"$run/belfryd.log" 2>&1 &
daemon=$!
tries=0
until $ctl version >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 100 ] || ! kill -0 $daemon 2>/dev/null; then
		cat "$run/belfryd.log" >&2
		die "belfryd does not answer"
	fi
	sleep 0.1
done

if [ "$cores" = "$core" ]; then
	say "belfry-perf skipped: it wants a core besides belfryd's"
else
	say "belfry-perf on core ${cores##* }, with a null device"
	mkdir -m 700 "$run/null"
	$ctl bdev create null null0 1G --block-size 4096 >/dev/null
	$ctl export null0 "$run/null" >/dev/null
	attend python3 "$here/quickstart-perf.py" "$B/bin/belfry-perf" \
		"$run/null/cntrl" "${cores##* }" || die "belfry-perf failed"
	$ctl unexport "$run/null" >/dev/null
	$ctl bdev delete null0 >/dev/null
fi

$ctl bdev create aio disk0 "$run/disk.img" --block-size 512
$ctl export disk0 "$run/vm"

say "booting a guest on $run/vm/cntrl"
if ! attend python3 "$here/quickstart.py" "$run" "$seconds"; then
	tail -n 5 "$run/belfryd.log" >&2
	die "the guest's run failed"
fi

if [ $keep = yes ]; then
	trap - EXIT
	cache=${BELFRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/belfry}/guest
	accel=$(scripts/guest-accel.sh "$cache")
	cat <<END
== belfryd stays up (process $daemon). Attach a VM of your own with:

$cache/qemu/qemu-system-x86_64 \\
  -machine q35,memory-backend=mem0 -accel $accel -cpu max -m 2G \\
  -object memory-backend-memfd,id=mem0,size=2G,share=on \\
  -device '{"driver":"vfio-user-pci","socket":{"path":"$run/vm/cntrl","type":"unix"}}' \\
  ...your disks and displays...

Look at it:   $ctl list
Stop it:      $ctl stop; rm -r $run
END
fi
