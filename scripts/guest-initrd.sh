#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# guest-initrd.sh CACHE: make CACHE/initrd.img from CACHE/tools, which
# guest-fetch.sh has filled. Does nothing if the image is up to date.
#
# Debian's fio links to clients of half a dozen storage systems. They would
# triple the image for nothing, so empty libraries stand in for them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$1
root=$cache/tools/root
init=$here/guest-init.sh
out=$cache/initrd.img
programs='usr/bin/fio usr/sbin/nvme usr/bin/lspci usr/bin/setpci'
stubs='^lib(rados|rbd|gfapi|nbd|nfs|pmem|rdmacm|ibverbs)\.so'

sum=$(cat "$0" "$init" "$here/guest-cpio.py" "$cache/tools/recipe" |
	sha256sum | cut -d ' ' -f 1)
if [ -e "$out" ] && [ "$(cat "$cache/initrd.sum" 2>/dev/null)" = "$sum" ]; then
	exit 0
fi
echo "guest: making the initramfs"
work=$(mktemp -d "$cache/initrd.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$work/fs/bin" "$work/fs/lib64" "$work/fs/usr/share/misc"

needed()
{
	readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

find_lib()
{
	find "$root/usr/lib" "$root/lib" -name "$1" 2>/dev/null | head -n 1
}

# Copy the libraries of FILE, and theirs.
add_libs()
{
	for so in $(needed "$1"); do
		[ ! -e "$work/fs/lib64/$so" ] || continue
		if echo "$so" | grep -Eq "$stubs"; then
			echo "$so" >>"$work/stubs"
			continue
		fi
		lib=$(find_lib "$so")
		if [ -z "$lib" ]; then
			echo "guest: $1 needs $so, which no package brought" >&2
			exit 1
		fi
		cp -L "$lib" "$work/fs/lib64/$so"
		add_libs "$work/fs/lib64/$so"
	done
}

symbols()	# symbols WHICH FILE...
{
	which=$1
	shift
	for file; do
		nm -D "$which" "$file"
	done | awk '{ print $NF }' | sed 's/@.*//' | sort -u
}

# The versions that the programs want of a library.
versions()
{
	for program in $programs; do
		readelf -V -W "$root/$program"
	done | awk -v so="$1" '
		/ File: / { wanted = index($0, "File: " so " ") }
		/ Name: / && wanted { sub(/.*Name: /, ""); print $1 " {};" }' |
	sort -u
}

# Programs are bound when they start, so what they use must be defined: by one
# library for all. The others have only their names and versions.
make_stubs()
{
	[ -e "$work/stubs" ] || return 0
	sort -u -o "$work/stubs" "$work/stubs"
	# shellcheck disable=SC2086 # a list of words
	(cd "$root" && symbols --undefined-only $programs) >"$work/used"
	symbols --defined-only "$work"/fs/lib64/*.so* >"$work/defined"
	comm -23 "$work/used" "$work/defined" |
	grep -Ev '^(_ITM_|__gmon_start__|__cxa_finalize)' |
	sed 's/.*/void *&[1];/' >"$work/stub.c"
	gcc -w -shared -nostdlib -fno-builtin -Wl,-soname,libstub.so \
		-o "$work/fs/lib64/libstub.so" "$work/stub.c"
	: >"$work/empty.c"
	while read -r so; do
		versions "$so" >"$work/map"
		[ -s "$work/map" ] || echo '{ };' >"$work/map"
		gcc -shared -nostdlib -Wl,-soname,"$so" -Wl,--no-as-needed \
			-Wl,--version-script,"$work/map" \
			-o "$work/fs/lib64/$so" "$work/empty.c" \
			"$work/fs/lib64/libstub.so"
	done <"$work/stubs"
}

for program in $programs; do
	cp "$root/$program" "$work/fs/bin/"
	add_libs "$root/$program"
done
make_stubs
loader=$(find_lib 'ld-linux-x86-64.so.2')
cp -L "$loader" "$work/fs/lib64/"
cp "$root/usr/bin/busybox" "$work/fs/bin/"
cp "$root/usr/share/misc/pci.ids" "$work/fs/usr/share/misc/" 2>/dev/null ||
	true
cp "$init" "$work/fs/init"
chmod 755 "$work/fs/init"
python3 "$here/guest-cpio.py" "$work/fs" >"$work/initrd.img"
mv "$work/initrd.img" "$out"
echo "$sum" >"$cache/initrd.sum"
