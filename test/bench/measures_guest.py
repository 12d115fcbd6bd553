# SPDX-License-Identifier: BSD-3-Clause
"""fio in Linux guests; QEMU and belfryd may run on the same two cores.

Goal 5: one file behind three devices in one guest, which take turns: Belfry, QEMU's NVMe, virtio-blk with an iothread.
Address spaces: guests behind a virtual IOMMU, one for each of its modes, which take turns too.

A guest with an emulated CPU (TCG) is bound by that CPU: the figures say what costs the guest less, not what the
devices could do.
"""
import contextlib
import functools
import itertools
import lzma
import math
import os
import shutil
import subprocess

from measures_io import SURE, judge, make_file
from report import TOP, rate
from target import B, CORES, BenchError, Target, compare, median, middle
from vm import Guest, accelerator, cache, fio, iommu, iommu_set, vfio_user

OURS, OTHERS = ("belfry",), ("nvme", "virtio-blk")
MODES = ("pt", "strict", "lazy")        # the first is what the others are compared with
DISK = "/dev/nvme0n1"


def guest_set():
    """Instant if it is there; else it is fetched."""
    if not (cache() / "initrd.img").exists():
        raise BenchError("the guest set is missing: scripts/setup.sh --guest")
    subprocess.run([TOP / "scripts/guest-fetch.sh"], check=True,
                   stdout=subprocess.DEVNULL)


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


def iops(vm, device, op, depth, seconds):
    return fio(vm, device, rw=f"rand{op}", bs="4k", iodepth=depth,
               time_based=1, runtime=seconds, ramp_time=0.3, norandommap=1,
               randrepeat=0)[op]["iops"]


def guest(table, quick):
    """Goal 5."""
    guest_set()
    reps = 3 if quick else 7
    path, folder = make_file(512), B / "test/bench-guest"
    shutil.rmtree(folder, ignore_errors=True)
    table.data["guest"] = {"accelerator": accelerator(), "turns": []}
    try:
        with Target("--idle", "adaptive") as target:
            target.rpc("bdev_aio_create", name="a0", filename=str(path),
                       block_size=512)
            socket = target.export("a0")
            with Guest(folder, devices(path, socket), on=CORES[:2],
                       files=virtio_module()) as vm:
                found = disks(vm)
                for depth, op in itertools.product((1, 32), ("read", "write")):
                    others, ours = ([functools.partial(
                        iops, vm, found[name], op, depth, 1)
                        for name in names] for names in (OTHERS, OURS))
                    # they crowd the cores themselves
                    guest_row(table, op, depth, *compare(
                        [(op, depth, name) for name in OTHERS], reps, others,
                        ours, 2 * reps, crowd=math.inf))
    finally:
        os.unlink(path)


def guest_row(table, op, depth, rows, unsteady):
    """Against the one of the others that does better, by the median of the turns."""
    table.data["guest"]["turns"].append({
        "op": op, "depth": depth, "who": OTHERS + OURS, "rows": rows,
        "disturbed": unsteady})
    sure = len(rows) >= SURE
    rows = rows if sure else rows + unsteady
    nvme, virtio = (median([row[i] for row in rows]) for i in (0, 1))
    ours, _, ratio = min((middle(rows, 2, i) for i in (0, 1)),
                         key=lambda found: found[2])
    table.add(5, f"guest ({accelerator()}), {op}, depth {depth}",
              rate(ours) + " IOPS", f"nvme {rate(nvme)}, virtio {rate(virtio)}",
              ratio, ">= 0.90", judge(ratio, 0.9, sure))


def behind_iommu(folder, target, mode):
    """A guest with a null device whose group of the IOMMU is in @mode."""
    device, options = iommu(mode)
    vm = Guest(folder / mode,
               [device, vfio_user(target.export(target.null()), "belfry")],
               on=CORES[:2], mem=256, **options)
    try:
        vm.wait_for(f"[ -b {DISK} ]")
        iommu_set(vm, mode)
    except BaseException:
        vm.close()
        raise
    return vm


def mapped(target, pid):
    """(maps, unmaps) that the QEMU @pid has asked for."""
    for listener in target.rpc("belfry_get_clients"):
        client = listener.get("client", {})
        if client.get("pid") == pid:
            return client["quota"]["maps"], client["quota"]["unmaps"]
    raise BenchError("a guest has lost its daemon")


def iommu_turn(target, vm, mode, seconds):
    """One run of fio: its I/Os, seconds, maps, unmaps."""
    before = mapped(target, vm.process.pid)
    job = fio(vm, DISK, rw="randread", bs="4k", iodepth=32, time_based=1,
              runtime=seconds)["read"]
    maps, unmaps = (now - then for now, then
                    in zip(mapped(target, vm.process.pid), before))
    ios, took = job["total_ios"], job["runtime"] / 1000
    # What is unmapped may lag behind: Linux's lazy mode does it by the batch.
    if not ios or (maps + unmaps if mode == "pt" else maps < ios or not unmaps):
        raise BenchError(f"{mode}: {maps} maps, {unmaps} unmaps, {ios} I/Os")
    return {"ios": ios, "seconds": took, "iops": ios / took, "maps": maps,
            "unmaps": unmaps}


def viommu(table, quick):
    """Issue 3: what a virtual IOMMU costs, and how often it maps and unmaps."""
    guest_set()
    folder, got = B / "test/bench-viommu", {mode: [] for mode in MODES}
    shutil.rmtree(folder, ignore_errors=True)
    with Target("--idle", "adaptive") as target, \
            contextlib.ExitStack() as opened:
        vms = {mode: opened.enter_context(behind_iommu(folder, target, mode))
               for mode in MODES}
        for _ in range(1 if quick else 3):
            for mode in MODES:
                got[mode].append(iommu_turn(target, vms[mode], mode, 1))
    table.data["viommu"] = {"accelerator": accelerator(), "turns": got}
    viommu_rows(table, got)


def viommu_rows(table, got):
    rounds = list(zip(*([turn["iops"] for turn in got[mode]]
                        for mode in MODES)))
    for which, mode in enumerate(MODES):
        iops, base, ratio = middle(rounds, which)
        table.add("ioas", f"vIOMMU ({accelerator()}), {mode}, depth 32",
                  rate(iops) + " IOPS",
                  rate(base) + " IOPS, pt" if which else "",
                  ratio if which else None)
        maps, unmaps, took = (sum(turn[key] for turn in got[mode])
                              for key in ("maps", "unmaps", "seconds"))
        table.add("ioas", f"vIOMMU, {mode}: maps and unmaps",
                  f"{rate(maps / took)} maps/s", f"{rate(unmaps / took)} unmaps/s")


MEASURES = {"guest": guest, "viommu": viommu}
