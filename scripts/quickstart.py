# SPDX-License-Identifier: BSD-3-Clause
"""The guest's part of quickstart.sh: boot, nvme list, fio, one table.

quickstart.py FOLDER SECONDS, where FOLDER/vm/cntrl is the disk's socket.
"""
import pathlib
import signal
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "test/guest"))

# pylint: disable=wrong-import-position
from vm import Guest, GuestError, accelerator, end_all, fio, vfio_user  # noqa

DISK = "/dev/nvme0n1"
REGION = "256M"
# Writes come first, so that the reads find data.
JOBS = (
    ("128 KiB sequential write", "write", "128k", 8),
    ("128 KiB sequential read", "read", "128k", 8),
    ("4 KiB random write", "randwrite", "4k", 32),
    ("4 KiB random read", "randread", "4k", 32),
)


def measure(guest, rw, bs, depth, seconds):
    """One row: IOPS, MiB/s, mean and p99 latency in microseconds."""
    job = fio(guest, DISK, rw=rw, bs=bs, iodepth=depth, size=REGION,
              time_based=1, runtime=seconds, timeout=seconds + 60)
    way = job["write" if "write" in rw else "read"]
    return (way["iops"], way["bw_bytes"] / (1 << 20),
            way["lat_ns"]["mean"] / 1000,
            way["clat_ns"]["percentile"]["99.000000"] / 1000)


def verify(guest, rw, bs, depth, mib):
    """Write with checksums, read back, compare. Raises if that fails."""
    job = fio(guest, DISK, rw=rw, bs=bs, iodepth=depth, size=f"{mib}M",
              verify="crc32c", do_verify=1, offset="512M")
    if job["read"]["io_bytes"] < mib << 20:
        raise GuestError(f"fio read back only {job['read']['io_bytes']} bytes")
    return f"ok, {mib} MiB"


def table(rows):
    print(f"\n{'fio in the guest':26}{'depth':>6}{'IOPS':>9}{'MiB/s':>8}"
          f"{'mean us':>9}{'p99 us':>9}  verify (crc32c)")
    for name, depth, (iops, rate, mean, p99), verified in rows:
        print(f"{name:26}{depth:6}{iops:9.0f}{rate:8.1f}{mean:9.0f}{p99:9.0f}"
              f"  {verified}")
    print()


def main(folder, seconds):
    rows = []
    with Guest(folder / "guest", [vfio_user(folder / "vm/cntrl", "nvme0")],
               mem=1024) as guest:
        guest.wait_for(f"[ -b {DISK} ]")
        print(guest.check("nvme list").rstrip(), flush=True)
        for name, rw, bs, depth in JOBS:
            print(f"   {name} ...", flush=True)
            figures = measure(guest, rw, bs, depth, seconds)
            verified = "-"
            if "write" in rw:
                verified = verify(guest, rw, bs, depth, 64)
            rows.append((name, depth, figures, verified))
        if guest.complaints():
            raise GuestError(f"the kernel says: {guest.complaints()[0]}")
        guest.poweroff()
    table(rows[::-1])
    if accelerator() == "tcg":
        print("No usable KVM here: the guest's CPU is emulated, and that, not "
              "Belfry,\nbounds these figures.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    except GuestError as error:
        sys.exit(f"quickstart: {error}")
    finally:
        end_all()
