#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Test belfryd with Linux guests: run.sh [--list] [--peer qemu-nvme] [CASE...]
# B is the build tree; the logs are in B/test/guest.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
B=${B:-build}
export B
command -v python3 >/dev/null || {
	echo "guest: python3 is missing: scripts/setup.sh --test" >&2
	exit 1
}
case " $* " in
*" --list "* | *" --help "*) ;;
*)	# Instant if the guest set is there already.
	"$here/../../scripts/guest-fetch.sh"
	mkdir -p "$B/test/guest"
	${CC:-gcc} -O2 -D_GNU_SOURCE -static -o "$B/test/guest/seqwrite" \
		"$here/seqwrite.c"
	;;
esac
exec python3 "$here/run.py" "$@"
