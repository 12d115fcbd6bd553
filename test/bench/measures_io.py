# SPDX-License-Identifier: BSD-3-Clause
"""Goals 1, 3, 4 and 6: I/O of the real daemon against the bare exchange, memcpy and fio.

What is compared is measured in turns, in short pieces (target.paired); what is not being measured stands still.
"""
import functools
import itertools
import json
import os
import shutil

from report import rate
from target import (B, CORES, BenchError, Target, best_of, client, exchange,
                    median, middle, numbers, output, paired, program)

DEPTHS = (1, 32, 128)
WANTED = {1: 0.67, 32: 0.25, 128: 0.20}
MODES = ("legacy", "iommufd")


def best_load(socket, mode, op, qd, queues, ms):
    """IOPS; the better of ringing at once and once for eight, as in the bare exchange."""
    groups = (1, 8) if qd > 8 else (1,)
    return max(client("load", socket, mode, op, qd, queues, ms // len(groups),
                      group)[0] for group in groups)


def judge(ratio, wanted, sure):
    """None: disturbed, nothing is known. That is so too when a target seems faster than the bare exchange."""
    return ratio >= wanted if sure else None


def null(table, quick):
    """Goal 1."""
    reps, ms = (2, 60) if quick else (5, 100)
    data = table.data["null"] = []
    with Target() as target:
        socket = target.export(target.null())
        for deep in (1, 4, 32, 128) * (2 if quick else 8):
            best_of(deep, exchange(target, ms, deep))
        for qd in DEPTHS:
            apart, all_sure = [], True
            for queues, op in itertools.product((1, 4), ("read", "write")):
                deep = max(qd, queues)  # under way, all in all
                got, sure = paired(
                    deep, reps, lambda: exchange(target, ms, deep),
                    *(functools.partial(best_load, socket, mode, op,
                                        deep // queues, queues, ms)
                      for mode in MODES))
                for i, mode in enumerate(MODES, 1):
                    null_row(table, (mode, op, queues, qd), sure,
                             *middle(got, i))
                apart.append(abs(middle(got, 1, 2)[2] - 1))
                all_sure &= sure
                data.append({"op": op, "queues": queues, "depth": deep,
                             "undisturbed": sure,
                             "exchange_legacy_iommufd": got})
            table.add(1, f"legacy against iommufd, QD{qd}",
                      f"{100 * median(apart):.1f} % apart", "", None, "<= 5 %",
                      median(apart) <= 0.05 if all_sure else None)


def null_row(table, case, sure, value, base, ratio):
    mode, op, queues, qd = case
    met = judge(ratio, WANTED[qd], sure and ratio <= 1)
    table.add(1, f"null, {op}, {queues} x QD{max(qd // queues, 1)}, {mode}",
              rate(value) + " IOPS", rate(base) + "/s exchange", ratio,
              f">= {WANTED[qd]:.2f}", met)


def curve(table, quick):
    """For the plot: one queue, reads, over the queue depth."""
    reps, ms = (2, 60) if quick else (5, 80)
    data = table.data["curve"] = []
    with Target() as target:
        socket = target.export(target.null())
        for depth in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            got, _ = paired(depth, reps, lambda: exchange(target, ms, depth),
                            *(functools.partial(best_load, socket, mode,
                                                "read", depth, 1, ms)
                              for mode in MODES))
            row = sorted(got, key=lambda r: r[2] / r[0])[len(got) // 2]
            data.append(dict(zip(("depth", "exchange", *MODES),
                                 (depth, *row))))
            if depth in DEPTHS:
                table.add("", f"bare exchange, depth {depth}",
                          rate(row[0]) + "/s",
                          f"{1e9 * depth / row[0]:.0f} ns")


def copies(target, mib, pages, ms, op):
    """Pages a second that memcpy copies, on the target's core, in the direction of @op."""
    with target.aside():
        return numbers([program("client"), "memcpy", str(mib), str(pages),
                        str(ms), op], CORES[:1])[0]


def malloc(table, quick):
    """Goal 3: a malloc device of 256 MiB, and memcpy of as much."""
    reps, ms = (2, 100) if quick else (5, 200)
    mib, depth = 256, 32
    with Target() as target:
        target.rpc("bdev_malloc_create", name="m0", block_size=512,
                   num_blocks=mib << 11)
        socket = target.export("m0")
        # the first touch of a page is the kernel's work
        warm = 0
        while warm < 3 * mib * 256:
            warm += client("load", socket, "iommufd", "write", depth, 1, 500)[0]
        for op in ("read", "write"):
            got, sure = paired(
                "memcpy " + op, reps,
                lambda: copies(target, mib, depth, ms, op),
                lambda: best_load(socket, "iommufd", op, depth, 1, ms))
            value, base, ratio = middle(got)
            table.data.setdefault("malloc", {})[op] = got
            table.add(3, f"malloc, {op}, depth {depth}",
                      rate(value) + " IOPS", rate(base) + "/s memcpy", ratio,
                      ">= 0.80", judge(ratio, 0.8, sure))


def fio(path, op, depth, ms):
    """IOPS and mean latency in us, of fio on the daemon's core."""
    out = output(["fio", "--name=job", f"--filename={path}", "--direct=1",
                  "--ioengine=libaio", f"--rw=rand{op}", "--bs=4k", "--thread",
                  f"--iodepth={depth}", "--time_based", f"--runtime={ms}ms",
                  "--norandommap", "--randrepeat=0", "--gtod_reduce=0",
                  "--output-format=json"], CORES[:1])
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise BenchError(f"fio: error {job['error']}")
    return job[op]["iops"], job[op]["lat_ns"]["mean"] / 1000


def make_file(mib):
    """A file that is written for good, so that reads go to the disk."""
    path = B / "bench.img"
    if shutil.disk_usage(B).free < (mib + 1024) << 20:
        raise BenchError(f"{B}: no room for {mib} MiB")
    output(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}",
            "oflag=direct", "status=none"], timeout=120)
    return path


# How belfryd and its client may run: polling both; a client that sleeps; both sleeping, when a spinning core
# would take the machine's disk its processor (virtual machines are like that).
WAYS = {"polled": (("--idle", "poll"), False, ()),
        "adaptive": (("--idle", "adaptive"), False, ("irq",)),
        "asleep": (("--idle", "adaptive", "--spin-us", "20"), True,
                   ("shadow",))}


def aio_way(path, way, reps, ms, got):
    options, trapped, how = WAYS[way]
    with Target(*options, disable_mappable_bar0=trapped) as target:
        target.rpc("bdev_aio_create", name="a0", filename=str(path),
                   block_size=512)
        socket = target.export("a0")
        for op, depth, _ in itertools.product(("read", "write"), DEPTHS,
                                              range(reps)):
            got[op, depth, way] += client("load", socket, "iommufd", op, depth,
                                          1, ms, 1, *how)[:1]
            with target.aside():
                got[op, depth, "fio"].append(fio(path, op, depth, ms)[0])


def aio(table, quick):
    """Goal 4."""
    reps, ms = (1, 500) if quick else (3, 700)
    path = make_file(512)
    data = table.data["aio"] = []
    try:
        got = {(op, depth, way): [] for op in ("read", "write")
               for depth in DEPTHS for way in ("fio", *WAYS)}
        for way in WAYS:
            try:
                aio_way(path, way, reps, ms, got)
            except BenchError as error:     # the other ways still count
                print(f"  not measured: {way}: {error}", flush=True)
        for op in ("read", "write"):
            for depth in DEPTHS:
                data.append({"op": op, "depth": depth, **{
                    way: got[op, depth, way] for way in ("fio", *WAYS)}})
                aio_row(table, op, depth, got)
    finally:
        os.unlink(path)


def aio_row(table, op, depth, got):
    """The best way against fio; the others are in the JSON."""
    ways = [way for way in WAYS if got[op, depth, way]]
    if not ways:
        raise BenchError("no way of running it works")
    way = max(ways, key=lambda way: median(got[op, depth, way]))
    ours, base = (median(got[op, depth, who]) for who in (way, "fio"))
    what = f"aio, {op}, depth {depth} ({way})"
    if depth == 1:
        added = 1e6 / ours - 1e6 / base
        table.add(4, what, f"{1e6 / ours:.1f} us", f"{1e6 / base:.1f} us fio",
                  ours / base, "<= 10 us more", added <= 10)
    else:
        table.add(4, what, rate(ours) + " IOPS", rate(base) + " fio",
                  ours / base, ">= 0.95", ours / base >= 0.95)


def irq(table, quick):
    """Goal 6: a client that sleeps until the interrupt."""
    ms = 150 if quick else 400
    table.data["irq"] = {}
    with Target() as target:
        socket = target.export(target.null())
        for depth in DEPTHS:
            iops, per = max(client("load", socket, "legacy", "read", depth, 1,
                                   ms, 1, "irq") for _ in range(3))
            table.data["irq"][depth] = {"iops": iops, "per_io": per}
            table.add(6, f"interrupts an I/O, depth {depth}", f"{per:.3f}",
                      rate(iops) + " IOPS", None, "<= 1 a poll", per <= 1)


MEASURES = {"null": null, "curve": curve, "malloc": malloc, "aio": aio, "irq": irq}
