#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# The guest's /init. The kernel's messages go to the first serial port; the
# second is a command channel: a line "TOKEN BASE64" is a shell script to run,
# its output follows, then a line "@@RC TOKEN STATUS".
export PATH=/bin HOME=/ LD_LIBRARY_PATH=/lib64

busybox mkdir -p /proc /sys /dev /tmp /run
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t tmpfs tmpfs /run
busybox --install -s /bin 2>/dev/null

if grep -q belfry.probe /proc/cmdline; then
	echo BELFRY-PROBE-OK >/dev/console
	poweroff -f
fi

stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo "@@READY"
while read -r token script; do
	echo "$script" | base64 -d >/run/script
	sh /run/script </dev/null
	printf '\n@@RC %s %d\n' "$token" $?
done
poweroff -f
