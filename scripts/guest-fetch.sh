#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Fetch the guest set: a QEMU with vfio-user-pci, Debian's kernel and a small
# initramfs. All of it goes into a cache folder; nothing is installed and the
# machine's own package state is neither read nor changed. Needs no root.
#
# Packages come from the mirror that this machine uses already and are verified
# with Debian's keyring. Interrupted runs leave only a temporary folder that
# the next run removes; a second run finds everything there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${BELFRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/belfry}/guest
release=trixie
recipe=2		# raise to make existing caches fetch again
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
tmp=$cache/tmp

say()
{
	echo "guest: $*"
}

die()
{
	echo "guest: $*" >&2
	exit 1
}

# The mirror that the machine's own Debian suite comes from. A release's name
# and the floating names (stable, testing) both count; -security does not,
# since it lives under another address.
mirror()
{
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' |
	awk -v own="$codename" '
		$3 != "main" { next }
		$2 == own { print $1; found = 1; exit }
		$2 ~ /^(bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)$/ &&
		other == "" { other = $1 }
		END { if (!found && other != "") print other }'
}

# A state directory of our own for apt, with no package installed, so that apt
# resolves the whole closure of what we ask for, the C library included.
apt_prepare()
{
	[ -e $keyring ] ||
		die "$keyring is missing: apt-get install debian-archive-keyring"
	uri=$(mirror)
	[ -n "$uri" ] ||
		die "no Debian mirror in this machine's apt sources: add a line" \
			"such as 'deb MIRROR $release main' to /etc/apt/sources.list"
	mkdir -p "$tmp/apt/lists/partial" "$tmp/apt/archives/partial"
	: >"$tmp/apt/status"
	for suite in $release $release-updates $release-backports; do
		echo "deb [arch=amd64 signed-by=$keyring] $uri $suite main"
	done >"$tmp/apt/sources.list"
	# How to reach the mirror (proxies, certificates) is the machine's.
	apt-config dump | grep '^Acquire::' | grep -v ' "";$' >"$tmp/apt/conf" ||
		true
	cat >>"$tmp/apt/conf" <<END
Dir::State "$tmp/apt"; Dir::State::status "$tmp/apt/status";
Dir::Cache "$tmp/apt"; Dir::Log "$tmp/apt";
Dir::Etc::sourcelist "$tmp/apt/sources.list";
Dir::Etc::sourceparts "/dev/null"; Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null"; Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null"; Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Architecture "amd64"; APT::Architectures { "amd64"; };
APT::Install-Recommends "0"; APT::Sandbox::User "root";
END
	export APT_CONFIG="$tmp/apt/conf"
	say "reading the package lists of $release and $release-backports"
	apt-get -q update >"$tmp/apt/log" 2>&1 || {
		cat "$tmp/apt/log" >&2
		die "apt could not read $release from this machine's mirror"
	}
}

# unpack FOLDER DEB...
unpack()
{
	folder=$1
	shift
	mkdir -p "$folder"
	for deb; do
		dpkg -x "$deb" "$folder"
	done
}

system_qemu()
{
	qemu=$(command -v qemu-system-x86_64) || return 1
	version=$("$qemu" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
	dpkg --compare-versions "${version:-0}" ge 10.1 || return 1
	"$qemu" -device help 2>&1 | grep -q '"vfio-user-pci"'
}

fetch_qemu()
{
	dir=$tmp/qemu
	mkdir -p "$dir"
	if system_qemu; then
		printf '#!/bin/sh\nexec %s "$@"\n' "$qemu" \
			>"$dir/qemu-system-x86_64"
	else
		[ -e "$tmp/apt/conf" ] || apt_prepare
		say "fetching QEMU from $release-backports (40 MB)"
		apt-get -q -y -d -t $release-backports install qemu-system-x86 \
			>"$tmp/apt/log" 2>&1 || {
			cat "$tmp/apt/log" >&2
			die "apt could not fetch QEMU"
		}
		unpack "$dir/root" "$tmp"/apt/archives/*.deb
		qemu_wrapper >"$dir/qemu-system-x86_64"
	fi
	chmod +x "$dir/qemu-system-x86_64"
	"$dir/qemu-system-x86_64" -device help 2>&1 |
		grep -q '"vfio-user-pci"' || die "this QEMU has no vfio-user-pci"
	"$dir/qemu-system-x86_64" --version | head -n 1 >"$dir/version"
	echo "$recipe" >"$dir/recipe"
	rm -rf "$cache/qemu"
	mv "$dir" "$cache/qemu"
}

# Starts the QEMU beside it with its own loader and libraries, so that the
# machine's C library may be older.
qemu_wrapper()
{
	cat <<'END'
#!/bin/sh
root=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)/root
lib=$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$lib/qemu"
exec "$lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$lib" \
	--argv0 qemu-system-x86_64 "$root/usr/bin/qemu-system-x86_64" \
	-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
END
}

# What the guest's programs link to, less what the initramfs stubs out and
# what only package installation needs.
tool_packages()
{
	apt-get -s -t $release install nvme-cli fio pciutils busybox-static |
	awk '$1 == "Inst" { print $2 }' |
	grep -E '^(lib|zlib|nvme-cli$|fio$|pciutils$|pci.ids$|busybox-static$)' |
	grep -Ev '^lib(python|boost|rados|rbd|gf|glusterfs|nbd|nfs|pmem)' |
	grep -Ev '^lib(rdmacm|ibverbs|ndctl|daxctl|systemd|pam|stdc|gnutls)'
}

fetch_tools()
{
	dir=$tmp/tools
	[ -e "$tmp/apt/conf" ] || apt_prepare
	kernel=$(apt-cache -t $release depends linux-image-cloud-amd64 |
		sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
	[ -n "$kernel" ] || die "no linux-image-cloud-amd64 in $release"
	say "fetching $kernel, nvme-cli, fio (50 MB)"
	mkdir -p "$tmp/debs" "$dir"
	# shellcheck disable=SC2046 # a list of words
	(cd "$tmp/debs" && apt-get -q -t $release download \
		$(tool_packages) "$kernel" >"$tmp/apt/log" 2>&1) || {
		cat "$tmp/apt/log" >&2
		die "apt could not fetch the guest's packages"
	}
	unpack "$dir/root" "$tmp"/debs/*.deb
	mv "$dir"/root/boot/vmlinuz-* "$dir/vmlinuz"
	# virtio-blk is for test/bench to compare with.
	find "$dir/root/usr/lib/modules" -name 'virtio_blk.ko*' \
		-exec cp {} "$dir" \;
	# The cloud kernel has all else that the guest needs built in.
	rm -rf "$dir/root/boot" "$dir/root/usr/lib/modules" \
		"$dir/root/usr/share/doc" "$dir/root/usr/share/man"
	echo "$recipe" >"$dir/recipe"
	rm -rf "$cache/tools"
	mv "$dir" "$cache/tools"
}

# What guest-disk.sh needs: UEFI firmware, loaders for it and for SeaBIOS, and what writes them to a disk.
fetch_boot()
{
	dir=$tmp/boot
	[ -e "$tmp/apt/conf" ] || apt_prepare
	say "fetching OVMF, systemd-boot, syslinux, mtools (10 MB)"
	mkdir -p "$tmp/boot-debs" "$dir/bin"
	(cd "$tmp/boot-debs" && apt-get -q -t $release download ovmf \
		systemd-boot-efi syslinux syslinux-common mtools \
		>"$tmp/apt/log" 2>&1) || {
		cat "$tmp/apt/log" >&2
		die "apt could not fetch the loaders"
	}
	unpack "$dir/root" "$tmp"/boot-debs/*.deb
	for name in mcopy mformat mmd mattrib mmove; do
		boot_wrapper $name mtools >"$dir/bin/$name"
	done
	boot_wrapper syslinux syslinux >"$dir/bin/syslinux"
	chmod +x "$dir"/bin/*
	rm -rf "$dir/root/usr/share/doc" "$dir/root/usr/share/man"
	echo "$recipe" >"$dir/recipe"
	rm -rf "${cache:?}/boot"
	mv "$dir" "$cache/boot"
}

# Starts PROGRAM under NAME with the loader and the C library of the guest's tools.
boot_wrapper()
{
	cat <<END
#!/bin/sh
cache=\$(cd "\$(dirname "\$(readlink -f "\$0")")/../.." && pwd)
lib=\$cache/tools/root/usr/lib/x86_64-linux-gnu
exec "\$lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "\$lib" \\
	--argv0 $1 "\$cache/boot/root/usr/bin/$2" "\$@"
END
}

# True if PART of the cache was made by this version of the script.
have()
{
	[ "$(cat "$cache/$1/recipe" 2>/dev/null)" = "$recipe" ]
}

[ "$(uname -m)" = x86_64 ] || die "the guest set is for x86_64 hosts only"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || {
	say "waiting for another run that fills $cache"
	flock 9
}
rm -rf "$tmp"
mkdir "$tmp"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

have qemu || fetch_qemu
have tools || fetch_tools
have boot || fetch_boot
"$here/guest-initrd.sh" "$cache"
accel=$("$here/guest-accel.sh" "$cache")
say "ready in $cache: $(cat "$cache/qemu/version"), accelerator $accel"
