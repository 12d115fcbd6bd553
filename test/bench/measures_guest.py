# SPDX-License-Identifier: BSD-3-Clause
"""Goal 5: fio in a Linux guest, one file behind three devices: Belfry, QEMU's NVMe, virtio-blk with an iothread.

All three are in one guest and take turns; QEMU and belfryd may run on the same two cores. A guest with an emulated
CPU (TCG) is bound by that CPU: the figures say which device costs the guest less, not what the devices could do.
"""
import lzma
import os
import shutil
import subprocess

from measures_io import make_file
from report import TOP, rate
from target import B, CORES, BenchError, Target, median
from vm import Guest, accelerator, cache, fio, vfio_user

NAMES = ("belfry", "nvme", "virtio-blk")


def devices(path, socket):
    """QEMU's arguments."""
    backend = (f"file={path},if=none,format=raw,cache=none,aio=native,"
               "file.locking=off")
    return ["-object", "iothread,id=io0",
            "-drive", f"{backend},id=d0", "-drive", f"{backend},id=d1",
            vfio_user(socket, "belfry"),
            {"driver": "nvme", "id": "nvme", "serial": "QEMU", "drive": "d0"},
            {"driver": "virtio-blk-pci", "id": "vblk", "drive": "d1",
             "iothread": "io0"}]


def virtio_module():
    """The guest's kernel has it not built in; guest-fetch.sh keeps it."""
    path = cache() / "tools/virtio_blk.ko.xz"
    if not path.exists():
        raise BenchError(f"{path} is missing: scripts/setup.sh --guest")
    return {"virtio_blk.ko": (0o644, lzma.decompress(path.read_bytes()))}


def disks(guest):
    """{name: block device}"""
    guest.check("insmod /virtio_blk.ko")
    guest.wait_for("[ -b /dev/vda ] && [ -b /dev/nvme0n1 ] && "
                   "[ -b /dev/nvme1n1 ]", 30)
    found = {"virtio-blk": "/dev/vda"}
    for number in (0, 1):
        serial = guest.check(f"cat /sys/class/nvme/nvme{number}/serial")
        found["nvme" if "QEMU" in serial else "belfry"] = \
            f"/dev/nvme{number}n1"
    if len(found) != 3:
        raise BenchError(f"the guest has only {found}")
    return found


def guest(table, quick):
    """Goal 5."""
    if not (cache() / "initrd.img").exists():
        raise BenchError("the guest set is missing: scripts/setup.sh --guest")
    # instant if the set is there; else it is fetched
    subprocess.run([TOP / "scripts/guest-fetch.sh"], check=True,
                   stdout=subprocess.DEVNULL)
    reps, seconds = (1, 1) if quick else (3, 3)
    path, folder = make_file(512), B / "test/bench-guest"
    shutil.rmtree(folder, ignore_errors=True)
    got = {}
    try:
        with Target("--idle", "adaptive") as target:
            target.rpc("bdev_aio_create", name="a0", filename=str(path),
                       block_size=512)
            socket = target.export("a0")
            with Guest(folder, devices(path, socket), on=CORES[:2],
                       files=virtio_module()) as vm:
                found = disks(vm)
                for depth in (1, 32):
                    for _ in range(reps):
                        for op in ("read", "write"):
                            for name in NAMES:
                                job = fio(vm, found[name], rw=f"rand{op}",
                                          bs="4k", iodepth=depth, time_based=1,
                                          runtime=seconds, ramp_time=0.3)
                                got.setdefault((op, depth, name), []).append(
                                    job[op]["iops"])
    finally:
        os.unlink(path)
    table.data["guest"] = {"accelerator": accelerator(), "iops": [
        {"op": op, "depth": depth, "device": name, "all": values}
        for (op, depth, name), values in got.items()]}
    rows(table, got)


def rows(table, got):
    for op, depth, name in got:
        if name != "belfry":
            continue
        ours, *others = (median(got[op, depth, who]) for who in NAMES)
        table.add(5, f"guest ({accelerator()}), {op}, depth {depth}",
                  rate(ours) + " IOPS",
                  f"nvme {rate(others[0])}, virtio {rate(others[1])}",
                  ours / max(others), ">= 0.90", ours >= 0.9 * max(others))


MEASURES = {"guest": guest}
