#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Install what Belfry needs on Debian 12 and 13. Safe to run again: what is
# there already is left alone, and then nothing needs root or the network.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build='gcc make libc6-dev libaio-dev liburing-dev libnuma-dev libssl-dev
	uuid-dev libcmocka-dev libjansson-dev pkg-config libnvme-dev'
test='clang llvm libclang-rt-dev clang-format shellcheck python3'
guest='python3 gcc libc6-dev binutils debian-archive-keyring ca-certificates'
packages=$build
with_guest=no

usage()
{
	cat <<END
usage: setup.sh [--test] [--guest]

Installs, with apt, the packages that Belfry is built with.
  --test    also what the tests need; implies --guest
  --guest   also fetches a QEMU with vfio-user-pci and a small Linux guest
            into \${BELFRY_CACHE:-~/.cache/belfry}; installs neither
END
}

say()
{
	echo "setup: $*"
}

die()
{
	echo "setup: $*" >&2
	exit 1
}

for arg; do
	case $arg in
	--test)
		packages="$packages $test $guest"
		with_guest=yes
		;;
	--guest)
		packages="$packages $guest"
		with_guest=yes
		;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		usage >&2
		die "unknown argument: $arg"
		;;
	esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	die "this script is for Debian 12 or newer and needs apt. Elsewhere" \
		"install the equivalents of: $packages"
fi

# The names of those packages that are not installed.
missing()
{
	for pkg in $packages; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$pkg" \
			2>/dev/null) || status=none
		[ "$status" = installed ] || printf '%s ' "$pkg"
	done
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		DEBIAN_FRONTEND=noninteractive "$@"
	else
		sudo DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

install_packages()
{
	as_root apt-get -y -q --no-install-recommends \
		-o DPkg::Lock::Timeout=120 install "$@"
}

update_lists()
{
	say "updating the package lists"
	# Somebody else's broken source must not stop us; what counts is
	# whether our packages can be found afterwards.
	as_root apt-get -q -o DPkg::Lock::Timeout=120 update ||
		say "apt-get update complained; going on with what it fetched"
}

want=$(missing)
if [ -z "$want" ]; then
	say "packages: all installed"
else
	say "packages to install: $want"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "installing needs root and there is no sudo: run this as" \
			"root, or let root run: apt-get install $want"
	fi
	# shellcheck disable=SC2086 # a list of words
	if ! apt-get -s -q install $want >/dev/null 2>&1; then
		update_lists
		install_packages $want || die "apt could not install: $want"
	elif ! install_packages $want; then
		# The lists may be so old that the files are gone.
		update_lists
		install_packages $want || die "apt could not install: $want"
	fi
	want=$(missing)
	[ -z "$want" ] || die "still missing after the installation: $want"
	say "packages: installed"
fi

if [ $with_guest = yes ]; then
	"$here/guest-fetch.sh"
fi
say "done"
