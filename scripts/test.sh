#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# All of Belfry's tests, on a machine with nothing but Debian 12 or 13:
#   test.sh [--no-setup] [STEP...]
# Without STEPs all run, in this order (a STEP may need one before it):
#   gcc     build with gcc -Werror; unit and wire tests
#   asan    build with clang -Werror, ASan and UBSan; unit and wire tests
#   tsan    build with gcc and TSan; the unit tests of what threads share; gcc's wire tests with that daemon
#   clang   build with clang -Werror
#   fuzz    every fuzzer for FUZZ_TIME (20) seconds
#   lint    scripts/check.sh, shellcheck
#   install make install and uninstall into a scratch directory; make dist, and a build of that
#   guest   a Linux guest in QEMU
# The last line adds up all steps: N passed, N failed.
set -u
cd "$(dirname "$0")/.." || exit 2

all_steps='gcc asan tsan clang lint install fuzz guest'
tree=${BELFRY_TEST_BUILD:-build}
setup=yes
steps=
for arg; do
	case $arg in
	--no-setup) setup=no ;;
	-h | --help)
		sed -n '3,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "$0"
		exit 0
		;;
	*)
		case " $all_steps " in
		*" $arg "*) steps="$steps $arg" ;;
		*)
			echo "test.sh: no step '$arg'; the steps are: $all_steps" >&2
			exit 2
			;;
		esac
		;;
	esac
done
steps=${steps:-$all_steps}

# A machine that others share may be too slow for a moment: run-tests.sh, test/guest/run.py.
export RETRIES="${RETRIES:-2}"

total_passed=0 total_failed=0 total_skipped=0
summary=
mkdir -p "$tree" && : >"$tree/verdicts" || exit 2

# What passed late, or never, in a step's output: run-tests.sh, run-fuzz.sh and test/guest/run.py say it so.
verdicts() {
	awk -v step="$1" '
	/^    / { if (more) print; next }
	{ more = /^( *|.* runs  )FAILED / }
	more || /^(  late: |failed .*once more$)/ { sub(/^ */, ""); print step ": " $0 }'
}

# run NAME COMMAND...: shows its output; adds the last "N passed, N failed" that
# it printed, or one pass or failure by its exit code where there is none.
run() {
	local name=$1 log=$tree/test-$1.log code line p f s start=$SECONDS
	shift
	echo "== $name: $*"
	"$@" 2>&1 </dev/null | tee "$log"
	code=${PIPESTATUS[0]}
	line=$(grep -E '(^|: )[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
	p=$(sed -nE 's/.*(^|[^0-9])([0-9]+) passed.*/\2/p' <<<"$line")
	f=$(sed -nE 's/.*(^|[^0-9])([0-9]+) failed.*/\2/p' <<<"$line")
	s=$(sed -nE 's/.*(^|[^0-9])([0-9]+) skipped.*/\2/p' <<<"$line")
	p=${p:-0} f=${f:-0} s=${s:-0}
	if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
	elif [ "$code" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then
		p=1
	fi
	total_passed=$((total_passed + p))
	total_failed=$((total_failed + f))
	total_skipped=$((total_skipped + s))
	summary+=$(printf '%-14s %5d passed %4d failed %4d skipped %5d s' \
		"$name" "$p" "$f" "$s" $((SECONDS - start)))$'\n'
	verdicts "$name" <"$log" >>"$tree/verdicts"
	[ "$f" -eq 0 ]
}

make_in() { # TREE TARGET...
	local b=$tree/$1
	shift
	make -s -j"$(nproc)" B="$b" "$@"
}

configure() { # TREE OPTIONS...
	local b=$1
	shift
	./configure --build="$tree/$b" --werror "$@" >/dev/null &&
		make_in "$b" all
}

step_gcc() {
	run gcc configure gcc --cc=gcc &&
		run gcc-unit make_in gcc check
	run gcc-wire make_in gcc wire
}

step_asan() {
	run asan configure asan --cc=clang --sanitize=address,undefined &&
		run asan-unit make_in asan check
	run asan-wire make_in asan wire
}

step_tsan() {
	run tsan configure tsan --cc=gcc --sanitize=thread &&
		run tsan-unit make_in tsan check UNIT="$(printf "$tree/tsan/test/unit/%s " util reactor irq bdev nvme vfio_user target rpc)"
	run tsan-wire tsan_wire
}

# Clients, queues, devices and memory that come and go over several reactors; no SIGBUS inside TSan's own memcpy().
tsan_wire() {
	local b t programs=
	b=$(cd "$tree/tsan" && pwd) || return 1
	for t in churn flood fuse iommufd isolation unmap; do
		programs="$programs $tree/gcc/test/wire/${t}_test"
	done
	for t in any_order qos spread; do
		programs="$programs test/wire/${t}_test.py"
	done
	rm -f "$b"/race.*
	# shellcheck disable=SC2086
	BELFRYD=$b/bin/belfryd BELFRYCTL=$b/bin/belfryctl B=$tree/gcc SANITIZE=thread ARENA_SIZE=32G RUN='setarch -R' \
		TSAN_OPTIONS="suppressions=$PWD/test/tsan.supp log_path=$b/race" \
		scripts/run-tests.sh tsan-wire 300 "$b/test/log" $programs || return 1
	! cat "$b"/race.* 2>/dev/null
}

step_clang() {
	run clang configure clang --cc=clang
}

step_fuzz() {
	[ -f "$tree/clang/config.mk" ] ||
		./configure --build="$tree/clang" --cc=clang --werror >/dev/null
	run fuzz make_in clang fuzz FUZZ_TIME="${FUZZ_TIME:-20}"
}

step_lint() {
	run lint make_in gcc lint
}

# As one who was given the installed files only.
use_library() {
	local flags
	flags=$(PKG_CONFIG_PATH=$1/lib/pkgconfig pkg-config --define-variable=prefix="$1" --define-variable=libdir="$1/lib" \
		--cflags --libs belfry-host) || return 1
	# shellcheck disable=SC2086
	cc "$1/share/doc/belfry/host-example.c" $flags -o "$1/example" || return 1
	LD_LIBRARY_PATH=$1/lib "$1/example" "$1/nowhere" 2>&1 | grep -q 'No such file' || return 1
	rm "$1/example"
}

# What systemd knows of its options; the program is not where the unit has it.
verify_unit() {
	command -v systemd-analyze >/dev/null || return 0
	! systemd-analyze verify "$1/usr/local/lib/systemd/system/belfryd.service" 2>&1 |
		grep -v 'not executable\|man belfryd'
}

install_uninstall() {
	local dir left
	dir=$(mktemp -d) || return 1
	make_in gcc install DESTDIR="$dir" >/dev/null &&
		"$dir/usr/local/bin/belfryd" --version &&
		"$dir/usr/local/bin/belfryctl" --version &&
		use_library "$dir/usr/local" && verify_unit "$dir" && make_in gcc uninstall DESTDIR="$dir" >/dev/null || return 1
	left=$(find "$dir" -type f)
	rm -rf "$dir"
	[ -z "$left" ] || { echo "uninstall left: $left"; return 1; }
}

# The packed source builds by itself.
pack() {
	local dir
	dir=$(mktemp -d) || return 1
	make_in gcc dist >/dev/null && tar -xzf "$tree"/gcc/belfry-*.tar.gz -C "$dir" &&
		(cd "$dir"/belfry-* && ./configure >/dev/null && make -s -j"$(nproc)" all >/dev/null && build/bin/belfryd --version) &&
		rm -rf "$dir"
}

step_install() {
	run install install_uninstall
	run dist pack
}

step_guest() {
	run guest make_in gcc guest
}

if [ $setup = yes ]; then
	scripts/setup.sh --test || exit 1
fi
for step in $steps; do
	"step_$step"
done
echo
cat "$tree/verdicts"
printf '%s' "$summary"
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
[ "$total_failed" -eq 0 ] && [ "$total_passed" -gt 0 ]
