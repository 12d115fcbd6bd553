# SPDX-License-Identifier: BSD-3-Clause
"""Goals 7 to 10: idle, several reactors, footprint, fairness."""
import concurrent.futures
import time

from measures_io import judge
from report import rate
from target import (CORES, BenchError, Idle, Target, client, middle,
                    numbers, paired, program)

ADAPTIVE = ("--idle", "adaptive")


def idle_share(target, seconds):
    """Share of a core that the daemon takes."""
    time.sleep(0.5)
    before, begin = target.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (target.cpu_seconds() - before) / (time.monotonic() - begin)


def bare_nap(target, seconds):
    """Share of a core of a program that only sleeps, as long at a time as belfryd looks at mapped doorbells."""
    with target.aside():
        return numbers([program("sleeper"), "nap", "900",
                        str(round(seconds * 1000))])[0] / 100


def beside_naps(target, seconds):
    """Shares of the daemon and of a bare sleeper, in turns."""
    rows = [(idle_share(target, seconds / 3), bare_nap(target, seconds / 3))
            for _ in range(3)]
    share, bare, _ = middle(rows, 0, 1)
    return share, bare


def idle_row(table, what, share, bare=None):
    table.data.setdefault("idle", {})[what] = {"share": share, "bare": bare}
    table.add(7, f"idle, {what}", f"{100 * share:.2f} % of a core",
              f"{100 * bare:.2f} % bare sleep" if bare else "",
              share / bare if bare else None, "< 1 %", share < 0.01)


def idle(table, quick):
    """Goal 7."""
    seconds = 1 if quick else 3
    for what, trapped in (("mapped", False), ("trapped", True)):
        with Target(*ADAPTIVE, disable_mappable_bar0=trapped) as target:
            socket = target.export(target.null())
            if not trapped:
                idle_row(table, "no client", idle_share(target, seconds))
            many = [target.export() for _ in range(20)]
            for name, queues, sockets in (
                    (f"{what} doorbells", 4, [socket]),
                    (f"2000 queues, {what}", 100, many)):
                with Idle("legacy", queues, sockets):
                    if trapped:
                        idle_row(table, name, idle_share(target, seconds))
                    else:
                        idle_row(table, name, *beside_naps(target, seconds))


def wake(table, quick):
    """Goal 7: the first I/O after a rest, and what a message takes at least."""
    turns, count = (3, 10) if quick else (7, 20)
    for what, trapped, how, limit in (
            ("mapped doorbells", False, "plain", 1000),
            ("shadow doorbells", True, "shadow", 100)):
        with Target(*ADAPTIVE, disable_mappable_bar0=trapped) as target:
            socket = target.export(target.null())
            rows = []
            for _ in range(turns):
                with target.aside():
                    bare = numbers([program("sleeper"), "wake", str(count)])
                rows.append([*client("wake", socket, count, how), *bare[:2]])
        first, bare, ratio = middle(rows, 0, 2)
        worst, bare_worst = (max(row[i] for row in rows) for i in (1, 3))
        table.data.setdefault("wake", {})[what] = rows
        table.add(7, f"first I/O after a rest, {what}",
                  f"{first:.0f} us, max {worst:.0f}",
                  f"{bare:.0f} us bare message, max {bare_worst:.0f}"
                  if trapped else "", ratio if trapped else None,
                  f"<= {limit} us", first <= limit)


def footprint(table, _quick):
    """Goal 9."""
    starts = []
    for _ in range(5):
        with Target() as target:
            starts.append(target.start_ms)
    with Target() as target:
        socket = target.export(target.null())
        with Idle("legacy", 4, [socket]):
            one, shared = target.own_memory(), target.memory()["RssShmem"]
    table.add(9, "start to the first RPC answer", f"{min(starts):.1f} ms", "",
              None, "< 50 ms", min(starts) < 50)
    table.add(9, "memory, 1 TiB null device, a client", f"{one:.1f} MiB",
              f"+ {shared:.1f} MiB shared", None, "< 16 MiB", one < 16)
    with Target() as target:
        sockets = [target.export() for _ in range(256)]
        with Idle("legacy", 8, sockets):
            many, shared = target.own_memory(), target.memory()["RssShmem"]
    table.add(9, "memory, 256 controllers of 8 queues", f"{many:.1f} MiB",
              f"+ {shared:.1f} MiB shared", None, "< 256 MiB", many < 256)
    table.data["footprint"] = {"start_ms": starts, "one_mib": one,
                               "many_mib": many}


def fairness(table, quick):
    """Goal 10: the client at QD1 alone before and after each turn with the others."""
    ms, reps = (150, 2) if quick else (300, 5)
    with Target() as target:
        first = target.export(target.null())
        other = target.export(target.null())
        many = [target.export() for _ in range(20)]

        def alone():
            return client("load", first, "legacy", "read", 1, 1, ms)[0]

        def beside_load():
            return client("beside", first, other, ms)[0]

        def beside_idle():
            with Idle("legacy", 100, many):
                return alone()

        for name, what, beside, wanted in (
                ("fairness", "8 queues of 128", beside_load, 0.5),
                ("idle_queues", "2000 idle queues", beside_idle, 0.9)):
            rows, sure = paired("alone", reps, alone, beside)
            table.data[name] = {"alone_beside": rows, "sure": sure}
            rate_beside, rate_alone, ratio = middle(rows)
            table.add(10, f"QD1 beside {what}", rate(rate_beside) + " IOPS",
                      rate(rate_alone) + " alone", ratio, f">= {wanted:.2f}",
                      judge(ratio, wanted, sure))


def share(before, after):
    """The smaller part of the commands that two reactors served."""
    served = [b["completed_nvme_io"] - a["completed_nvme_io"] for a, b in
              zip(before["poll_groups"], after["poll_groups"])]
    if len(served) < 2 or not sum(served):
        raise BenchError(f"reactors served {served}")
    return min(served) / sum(served)


def reactors(table, quick):
    """Goal 8: clients of 20 000 I/Os a second in all, so that they leave room on their core."""
    ms = 500 if quick else 1500
    data = table.data["reactors"] = {}
    for what, listeners, queues in (("4 queues of one controller", 1, 4),
                                    ("2 controllers of 4 queues", 2, 4)):
        with Target(*ADAPTIVE, cores=CORES[:2]) as target:
            sockets = [target.export(target.null()) for _ in range(listeners)]
            before = target.rpc("nvmf_get_stats")
            with concurrent.futures.ThreadPoolExecutor() as pool:
                iops = sum(got[0] for got in pool.map(
                    lambda socket: client("load", socket, "legacy", "read", 8,
                                          queues, ms, 1, 20000 // listeners),
                    sockets))
            part = share(before, target.rpc("nvmf_get_stats"))
        data[what] = {"iops": iops, "smaller": part}
        table.add(8, f"{what}, 2 reactors: lesser part", f"{100 * part:.0f} %",
                  rate(iops) + " IOPS", None, ">= 45 %", part >= 0.45)


MEASURES = {"idle": idle, "wake": wake, "footprint": footprint,
            "fairness": fairness, "reactors": reactors}
