#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# guest-disk.sh CACHE FILE: make FILE a disk that boots the guest of CACHE, which
# guest-fetch.sh has filled, by UEFI and by a BIOS. The kernel's command line tells which it was:
# belfry.boot=uefi or belfry.boot=bios.
#
# One FAT file system on the whole disk, without a partition table: its boot sector would be
# loaded to where that of the table ran, and an emulated CPU (TCG) does not see that another process
# has written to code that it has translated. See doc/guest.md.
set -eu

[ $# = 2 ] || {
	echo "usage: $0 CACHE FILE" >&2
	exit 2
}
cache=$1
disk=$2
mib=48
options="console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"
loader=$cache/boot/root/usr/lib/systemd/boot/efi/systemd-bootx64.efi
PATH=$cache/boot/bin:$PATH
export PATH MTOOLS_SKIP_CHECK=1

put()	# put PATH: standard input becomes that file
{
	mcopy -i "$disk" - "::$1"
}

rm -f "$disk"
truncate -s ${mib}M "$disk"
mformat -i "$disk" -F -T $((mib * 2048)) -h 16 -s 63 -H 0 ::
mmd -i "$disk" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
put /EFI/BOOT/BOOTX64.EFI <"$loader"
put /vmlinuz <"$cache/tools/vmlinuz"
put /initrd.img <"$cache/initrd.img"
printf 'timeout 0\ndefault belfry\n' | put /loader/loader.conf
put /loader/entries/belfry.conf <<END
title belfry
linux /vmlinuz
initrd /initrd.img
options $options belfry.boot=uefi
END
put /syslinux.cfg <<END
DEFAULT belfry
PROMPT 0
TIMEOUT 0
LABEL belfry
	LINUX /vmlinuz
	INITRD /initrd.img
	APPEND $options belfry.boot=bios
END
syslinux --install "$disk"
