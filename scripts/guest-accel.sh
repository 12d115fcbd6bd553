#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# guest-accel.sh CACHE: print the accelerator to run guests with. KVM is taken
# only if a guest really boots with it: /dev/kvm may be there and still not
# run a stock kernel. The answer is kept until the host's kernel changes.
set -eu

cache=$1
id="$(uname -r) $(stat -c '%t:%T:%u:%g:%a' /dev/kvm 2>/dev/null || echo none) $(id -u)"

if [ "$(sed -n 1p "$cache/accel" 2>/dev/null)" = "$id" ]; then
	sed -n 2p "$cache/accel"
	exit 0
fi
accel=tcg
if [ -w /dev/kvm ] && timeout -k 2 15 "$cache/qemu/qemu-system-x86_64" \
	-nodefaults -no-user-config -display none -no-reboot \
	-machine q35 -accel kvm -cpu host -m 256M -serial stdio \
	-kernel "$cache/tools/vmlinuz" -initrd "$cache/initrd.img" \
	-append "console=ttyS0 quiet panic=-1 belfry.probe" \
	</dev/null 2>/dev/null | grep -q BELFRY-PROBE-OK; then
	accel=kvm
fi
printf '%s\n%s\n' "$id" $accel >"$cache/accel.$$"
mv "$cache/accel.$$" "$cache/accel"
echo $accel
