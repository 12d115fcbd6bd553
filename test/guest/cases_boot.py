# SPDX-License-Identifier: BSD-3-Clause
"""A firmware's driver: it loads a boot loader, a kernel and an initramfs from the disk."""
import hashlib

from peer import Disk
from vm import boot_disk


def boots(env, firmware):
    """From the disk, twice: the second time after a push of the reset button."""
    path = env.folder / "boot.img"
    boot_disk(path)
    disk = Disk("aio", path.stat().st_size >> 20, 512, path)
    export = env.peer().export(firmware, [disk])
    with env.guest("vm", export.args, firmware=firmware) as guest:
        for _ in range(2):
            told = guest.check("cat /proc/cmdline")
            env.expect(f"belfry.boot={firmware}" in told,
                       f"booted otherwise: {told}")
            device = guest.namespace(1)
            want = hashlib.md5(path.read_bytes()).hexdigest()
            got = guest.check(f"md5sum {device}", 60).split()[0]
            env.expect(got == want, f"the guest reads {got}, not {want}")
            # behind what the loaders read
            guest.check(f"dd if=/dev/urandom of={device} bs=64k count=16 "
                        f"seek={(disk.size >> 16) - 16} conv=fsync")
            guest.system_reset()
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")


def case_boot_uefi(env):
    """EDK2's driver, and systemd-boot."""
    boots(env, "uefi")


def case_boot_bios(env):
    """SeaBIOS's driver, and syslinux by INT 13h."""
    boots(env, "bios")
