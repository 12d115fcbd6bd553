#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The rules of style that a machine can judge.  Prints "file:line: problem" for
# each breach; exits 1 when there was any.  Run in the source directory; with
# arguments, only those files are looked at.
set -u
export LC_ALL=C

MAX_FILE=600 MAX_FUNC=60

# The data path: what runs for each I/O.  No call of BANNED in them, but for
# functions that make and free things (named x_create, x_init and so on) and
# lines that say why they may: /* cold: reason */
DATA_PATH="lib/nvme/poll.c lib/nvme/sq.c lib/nvme/cq.c lib/nvme/req.c
	lib/nvme/io.c lib/nvme/prp.c lib/nvme/sgl.c lib/ioas/translate.c"
BANNED="malloc calloc realloc free strdup strndup asprintf vasprintf aligned_alloc
	posix_memalign mmap munmap mprotect madvise
	printf fprintf dprintf vfprintf snprintf sprintf vsnprintf puts perror
	log_[a-z]+ syslog strlen strcmp strncmp strcpy strncpy strcat
	pthread_[a-z_]+ sem_[a-z]+ mtx_[a-z]+ sched_yield
	read write readv writev pread pwrite recv send recvmsg sendmsg ioctl
	poll epoll_wait select usleep sleep nanosleep clock_gettime clock_nanosleep
	gettimeofday time util_now_ns open close fsync syscall abort exit assert_perror"
COLD_NAMES='_(create|destroy|init|fini|open|close|alloc|release|setup|teardown)$'

list_files() {
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git ls-files --cached --others --exclude-standard
	else
		find . -type f ! -path './build*' ! -path './.git/*' | sed 's,^\./,,'
	fi | sort -u | while read -r f; do [ ! -f "$f" ] || echo "$f"; done
}

mapfile -t ALL < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else list_files; fi)
C=() CODE=() TEXT=()
for f in "${ALL[@]}"; do
	case $f in
	*.[ch]) C+=("$f") CODE+=("$f") ;;
	*.sh | *.py | Makefile | *.mk | configure) CODE+=("$f") ;;
	esac
	case $f in
	test/fuzz/corpus/*) ;;
	*) TEXT+=("$f") ;;
	esac
done

check_lengths() {
	awk -v max="$MAX_FILE" '
	FNR == 1 && NR > 1 && n > max { print file ":" n ": file has more than " max " lines" }
	{ file = FILENAME; n = FNR }
	END { if (n > max) print file ":" n ": file has more than " max " lines" }' "${CODE[@]}"
}

# A function: its name in column 0, then a "{" and a "}" alone in column 0.
check_functions() {
	awk -v max="$MAX_FUNC" '
	FNR == 1 { start = odd = 0; name = "" }
	/^[A-Za-z_][A-Za-z0-9_]*\(/ { name = $0; sub(/\(.*/, "", name); at = FNR }
	/^(static|int|void|bool|struct|unsigned|const|char|uint[0-9]+_t|size_t)[^=;{]*[ *][a-z_0-9]+\([^;]*\)?$/ &&
	!/__attribute__|_Static_assert|,$/ { odd = FNR }
	/^\{/ {
		start = FNR
		if (odd && odd == FNR - 1)
			print FILENAME ":" odd ": the name of the function goes in column 0"
	}
	/^\}/ && start {
		if (FNR - start - 1 > max)
			print FILENAME ":" at ": " name "() has " FNR - start - 1 " lines, more than " max
		start = 0
	}' "$@"
}

check_todo() {
	grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${CODE[@]}" /dev/null |
		grep -vE '(TODO|FIXME|XXX|HACK)[^A-Za-z]*#[0-9]+' | grep -v '^scripts/check.sh:' |
		sed -E 's/^([^:]*:[0-9]+):.*/\1: a TODO without an issue number/'
}

# Comments and strings do not count; block comments may span lines.
check_banned() {
	awk -v words="$(printf %s "$BANNED" | tr -s ' \t\n' '|')" -v cold="$COLD_NAMES" '
	FNR == 1 { comment = 0; name = "" }
	/^[A-Za-z_][A-Za-z0-9_]*\(/ { name = $0; sub(/\(.*/, "", name) }
	/^\}/ { name = "" }
	{
		line = $0
		excused = line ~ /\/\* cold: [a-z]/ || name ~ cold
		if (comment) {
			if (!sub(/^.*\*\//, "", line)) next
			comment = 0
		}
		gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
		gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", line)
		if (sub(/\/\*.*/, "", line)) comment = 1
		if (!excused && match(line, "(^|[^A-Za-z0-9_.>])(" words ")[ \t]*\\(")) {
			word = substr(line, RSTART, RLENGTH)
			gsub(/[^A-Za-z0-9_]/, "", word)
			print FILENAME ":" FNR ": " word "() on the data path"
		}
	}' "$@"
}

# A module includes what its DEPS in the Makefile name, and what those do.  A
# header belongs to the module of its name, or whose name it starts with;
# others are of util.
check_includes() {
	awk '
	FILENAME == "Makefile" {
		if ($1 ~ /^DEPS_/) { m = substr($1, 6); mod[m] = 1; for (i = 3; i <= NF; i++) dep[m, $i] = 1 }
		next
	}
	function owner(h, m) {
		sub(/\.h$/, "", h)
		if (h in mod) return h
		for (m in mod) if (index(h, m "_") == 1) return m
		return "util"
	}
	function may(m, o, d) {
		if (m == o || (m, o) in dep) return 1
		for (d in mod) if ((m, d) in dep && may(d, o)) return 1
		return 0
	}
	match($0, /^[ \t]*#[ \t]*include[ \t]*["<][^">]*/) {
		inc = $0; sub(/^[^"<]*["<]/, "", inc); sub(/[">].*/, "", inc)
		n = split(FILENAME, part, "/")
		m = part[1] == "lib" ? part[2] : owner(part[n])
		if (inc ~ /\.\.\//)
			print FILENAME ":" FNR ": includes by a path with ../"
		else if (inc ~ /^lib\// || (inc ~ /\// && inc ~ /internal\.h$/))
			print FILENAME ":" FNR ": includes the inside of a module: " inc
		else if (inc ~ /^belfry\/[^\/]*\.h$/) {
			o = owner(substr(inc, 8))
			if (!may(m, o))
				print FILENAME ":" FNR ": " m " includes upward: " inc
		}
	}' Makefile "$@"
}

check_spec() {
	grep -nE 'NVMe( Base)? (1\.[0-9]|2\.[1-9])[a-e]? ?§' "${C[@]}" /dev/null |
		sed -E 's/^([^:]*:[0-9]+):.*/\1: cites another revision than NVMe 2.0/'
	for f in "${C[@]}"; do
		head -n 1 "$f" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' ||
			echo "$f:1: no SPDX line"
	done
}

# No path of one developer's machine.
check_paths() {
	grep -nIE '(^|[^A-Za-z0-9_./$}-])/(wor[k]|tm[p]/b-)(/|[^A-Za-z0-9_]|$)' "${TEXT[@]}" /dev/null |
		sed -E 's/^([^:]*:[0-9]+):.*/\1: a path of one machine/'
}

# What names its interpreter is to be run.
check_modes() {
	local f first
	for f in "${CODE[@]}"; do
		if ! [ -x "$f" ] && read -r first <"$f" && [ "${first#'#!'}" != "$first" ]; then
			echo "$f:1: begins with #!, but cannot be executed (chmod +x)"
		fi
	done
}

# Versions of clang-format differ, so one of them is the judge.
check_format() {
	local cf=${CLANG_FORMAT:-}
	[ -n "$cf" ] || cf=$(command -v clang-format-14 || echo clang-format)
	if ! $cf --version 2>/dev/null | grep -q 'version 14\.'; then
		echo "check: formatting not judged, that takes clang-format 14" >&2
		return
	fi
	$cf --dry-run "${C[@]}" 2>&1 | sed -nE \
		's/^([^:]*:[0-9]+):[0-9]+: (warning|error): .*/\1: not as clang-format would have it (make fmt)/p' |
		sort -t: -k1,1 -u
}

problems=$(
	[ ${#CODE[@]} -eq 0 ] || { check_lengths; check_todo; check_modes; }
	if [ ${#C[@]} -gt 0 ]; then
		check_functions "${C[@]}"
		check_spec
		check_format
	fi
	mapfile -t path < <(for f in $DATA_PATH; do
		printf '%s\n' "${ALL[@]}" | grep -x "$f"
	done)
	[ ${#path[@]} -eq 0 ] || check_banned "${path[@]}"
	mapfile -t mods < <(printf '%s\n' "${C[@]}" | grep -E '^(lib/|include/belfry/[a-z_]*\.h)')
	[ ${#mods[@]} -eq 0 ] || check_includes "${mods[@]}"
	[ ${#TEXT[@]} -eq 0 ] || check_paths
	true
)
if [ -n "$problems" ]; then
	echo "$problems"
	echo "check.sh: $(echo "$problems" | wc -l) problems" >&2
	exit 1
fi
echo "check.sh: ${#C[@]} C files and ${#ALL[@]} in all are clean"
