# SPDX-License-Identifier: BSD-3-Clause
"""Goals 1, 3, 4 and 6: I/O of the real daemon against the bare exchange, memcpy and fio.

What is compared is measured in turns, in short pieces (target.paired); what is not being measured stands still.
"""
import contextlib
import functools
import itertools
import json
import os
import shutil

from report import rate
from target import (B, CORES, BenchError, RpcError, Target, client, compare,
                    exchange, median, middle, numbers, output, paired, program, usual)

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
            usual(deep, exchange(target, ms, deep))
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


def fio(path, op, depth, ms, core=CORES[0]):
    """IOPS, of fio on one core, from 0.1 s after its start on."""
    out = output(["fio", "--name=job", f"--filename={path}", "--direct=1",
                  "--ioengine=libaio", f"--rw=rand{op}", "--bs=4k", "--thread",
                  f"--iodepth={depth}", "--time_based", "--ramp_time=100ms",
                  f"--runtime={ms}ms", "--norandommap", "--randrepeat=0",
                  "--gtod_reduce=0", "--output-format=json"], [core])
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise BenchError(f"fio: error {job['error']}")
    return job[op]["iops"]


def make_file(mib):
    """A file that is written for good, so that reads go to the disk."""
    path = B / "bench.img"
    if shutil.disk_usage(B).free < (mib + 1024) << 20:
        raise BenchError(f"{B}: no room for {mib} MiB")
    output(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}",
            "oflag=direct", "status=none"], timeout=120)
    return path


# How belfryd and its client may run: polling both, belfryd on the first core or, as fio may, on the last one; a client that
# sleeps; both sleeping, when a spinning core would take the machine's disk its processor (virtual machines are like that).
# Options, trapped doorbells, how the client waits, belfryd's core.
POLL, FIRST, LAST = ("--idle", "poll"), CORES[0], CORES[-1]
WAYS = {"polled": (POLL, False, (), FIRST),
        f"polled on core {LAST}": (POLL, False, (), LAST),
        "adaptive": (("--idle", "adaptive"), False, ("irq",), FIRST),
        "asleep": (("--idle", "adaptive", "--spin-us", "20"), True, ("shadow",), FIRST)}
CLEARLY = 1.03  # a trial's medians of those that are as fast differ by as much
SURE = 3        # rows by which a disk is judged: it varies by a fifth within seconds


class Disk:
    """One file, and those who do random I/O to it: belfryd in each of the WAYS; fio. Who is not measured stands still."""

    def __init__(self, opened, path):
        self.path = path
        self.run = {f"fio on core {core}": functools.partial(fio, path, core=core)
                    for core in sorted({CORES[0], CORES[-1]})}
        self.fios, self.ways = list(self.run), []
        for way, (options, trapped, _, core) in WAYS.items():
            try:
                self.start(opened, way, options, trapped, core)
            except (BenchError, RpcError) as error: # the other ways still count
                print(f"  not measured: {way}: {error}", flush=True)
        if not self.ways:
            raise BenchError("no way of running it works")

    def start(self, opened, way, options, trapped, core):
        target = opened.enter_context(
            Target(*options, cores=[core], disable_mappable_bar0=trapped))
        socket = target.export()
        opened.enter_context(target.aside())
        self.run[way] = functools.partial(self.load, target, socket, way)
        self.ways.append(way)

    def load(self, target, socket, way, op, depth, ms):
        """A file has one daemon at a time."""
        _, _, how, core = WAYS[way]
        with target.meanwhile(), target.namespace("a0", self.path):
            return client("load", socket, "iommufd", op, depth, 1, ms, 1, *how,
                          on=FIRST if core == LAST else LAST)[0]

    def best(self, who, op, depth, reps, ms):
        """Who of @who is the fastest, the first unless another one is clearly, and all that was measured: a trial of some turns."""
        got = {name: [] for name in who}
        for turn in range(reps):
            for name in who if turn % 2 else who[::-1]:
                got[name].append(self.run[name](op, depth, ms))
        first, fastest = who[0], max(who, key=lambda name: median(got[name]))
        clear = median(got[fastest]) > CLEARLY * median(got[first])
        return fastest if clear else first, got


def aio(table, quick):
    """Goal 4: the best way of running Belfry against the best core for fio, in turns."""
    reps, ms = (3, 400) if quick else (7, 500)
    path = make_file(512)
    data = table.data["aio"] = []
    try:
        with contextlib.ExitStack() as opened:
            disk = Disk(opened, path)
            for op, depth in itertools.product(("read", "write"), DEPTHS):
                best = [disk.best(who, op, depth, 2 if quick else 4, 250)
                        for who in (disk.fios, disk.ways)]
                base, way = (functools.partial(disk.run[name], op, depth, ms)
                             for name, _ in best)
                rows, others = compare([("fio", op, depth)], reps, [base],
                                       [way], 3 * reps // 2)
                data.append({"op": op, "depth": depth, "trial": {
                    **best[0][1], **best[1][1]}, "who": [best[0][0], best[1][0]],
                    "fio_belfry": rows, "disturbed": others})
                aio_row(table, f"aio, {op}, depth {depth} ({best[1][0]})", depth,
                        rows if len(rows) >= min(SURE, reps) else rows + others,
                        len(rows) >= min(SURE, reps))
    finally:
        os.unlink(path)


def aio_row(table, what, depth, rows, sure):
    ours, base, ratio = middle(rows)
    if depth == 1:
        met = 1e6 / ours - 1e6 / base <= 10
        table.add(4, what, f"{1e6 / ours:.1f} us", f"{1e6 / base:.1f} us fio",
                  ratio, "<= 10 us more", met if sure else None)
    else:
        table.add(4, what, rate(ours) + " IOPS", rate(base) + " fio", ratio,
                  ">= 0.95", judge(ratio, 0.95, sure))


def file_load(target, socket, path, kind, op, depth, ms):
    """IOPS of a file by aio or uring, daemon and client polling."""
    with target.namespace("u0", path, kind):
        return client("load", socket, "iommufd", op, depth, 1, ms)[0]


def uring(table, quick):
    """io_uring against libaio, both Belfry's, on the same file in turns."""
    reps, ms = (2, 200) if quick else (5, 250)
    path = make_file(512)
    data = table.data["uring"] = []
    try:
        with Target("--idle", "poll") as target:
            socket = target.export()
            for op, depth in itertools.product(("read", "write"), (32, 128)):
                by_aio, by_uring = (functools.partial(
                    file_load, target, socket, path, kind, op, depth, ms)
                    for kind in ("aio", "uring"))
                rows, sure = paired(("belfry", op, depth), reps, by_aio,
                                    by_uring)
                ours, base, ratio = middle(rows)
                data.append({"op": op, "depth": depth, "undisturbed": sure,
                             "aio_uring": rows})
                table.add("", f"uring, {op}, depth {depth}",
                          rate(ours) + " IOPS", rate(base) + " aio", ratio)
    except RpcError as error:
        if "io_uring" not in str(error):
            raise
        print(f"  not measured: {error}", flush=True)
    finally:
        os.unlink(path)


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


MEASURES = {"null": null, "curve": curve, "malloc": malloc, "aio": aio, "uring": uring, "irq": irq}
