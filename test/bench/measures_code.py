# SPDX-License-Identifier: BSD-3-Clause
"""Goal 2, and address spaces: what runs in one process."""
import re
import shutil

from report import rate
from target import B, CORES, BenchError, numbers, output, program

COMMANDS = 32000


def instructions(op, count):
    """Instructions of the target for @count commands and for starting."""
    out = B / f"bench.callgrind.{op}.{count}"
    output(["valgrind", "--tool=callgrind", "--toggle-collect=core_poll",
            f"--callgrind-out-file={out}", program("path"), op, "32",
            str(count)], timeout=120)
    found = re.search(r"^totals: (\d+)", out.read_text(), re.M)
    if not found or not int(found[1]):
        raise BenchError("callgrind counted nothing")
    return int(found[1]), out


def by_function(path, commands):
    """[(instructions a command, function)] without what it calls."""
    text = output(["callgrind_annotate", "--threshold=100", str(path)])
    rows = re.findall(r"^ *([\d,]+) \([^)]*\)  (\S+):(\S+)", text, re.M)
    return [(int(n.replace(",", "")) / commands, f"{file.rsplit('/', 1)[-1]}:{name}")
            for n, file, name in rows]


def path(table, quick):
    """Goal 2."""
    if not shutil.which("valgrind"):
        raise BenchError("valgrind is missing: apt-get install valgrind")
    data = table.data["path"] = {"instructions": {}, "functions": {}, "ns": {}}
    for op in ("read", "write"):
        few, _ = instructions(op, COMMANDS)
        many, out = instructions(op, 2 * COMMANDS)
        per = (many - few) / COMMANDS
        data["instructions"][op] = per
        data["functions"][op] = by_function(out, 2 * COMMANDS)[:25]
        table.add(2, f"instructions a 4 KiB {op}, batches of 32",
                  f"{per:.0f}", "", None, "<= 350", per <= 350)
    for batch in (1, 8, 32):
        best = min(numbers([program("path"), "read", str(batch),
                            "200000" if quick else "1000000"], CORES[:1])[0]
                   for _ in range(3))
        data["ns"][batch] = best
        table.add("", f"target's time, batches of {batch}, one thread",
                  f"{best:.0f} ns an I/O")


def ioas(table, quick):
    """Checks, maps and unmaps: the best of two passes, for the tables that are compared come seconds apart."""
    command = [program("ioas"), "20" if quick else "50"]
    passes = [[line.split() for line in
               output(command, CORES[:1], 120).splitlines()] for _ in range(2)]
    data = table.data["ioas"] = []
    for both in zip(*passes):
        mode, order, extents = both[0][:3]
        best = [pick(map(float, two)) for pick, two in zip(
            (min, min, min, max, max), zip(*(one[3:] for one in both)))]
        data.append(dict(zip(("last_ns", "search_ns", "refuse_ns", "maps",
                              "unmaps"), best),
                         mode=mode, order=order, extents=int(extents)))
    for row in data:
        table.add("", f"ioas, {row['mode']}, {row['extents']} {row['order']}",
                  f"{row['last_ns']:.1f}/{row['search_ns']:.1f}/"
                  f"{row['refuse_ns']:.1f} ns",
                  f"{rate(row['maps'] * 1e3)} maps/s, "
                  f"{rate(row['unmaps'] * 1e3)} unmaps/s")
    few = {(r["mode"], r["order"]): r for r in data if r["extents"] == 16}
    for row in data:
        if row["extents"] > 1000:
            base = few[row["mode"], row["order"]]
            for kind in ("search", "refuse"):
                ratio = row[f"{kind}_ns"] / base[f"{kind}_ns"]
                table.add("ioas", f"{kind} of {row['extents']} against 16, "
                          f"{row['mode']}, {row['order']}",
                          f"{row[f'{kind}_ns']:.1f} ns",
                          f"{base[f'{kind}_ns']:.1f} ns", ratio, "<= 3",
                          ratio <= 3)


def perf(table, _quick):
    """The load generator against an ideal peer."""
    got = [numbers([program("perf_selftest")], timeout=60)]
    best = max(max(values) for values in got)
    table.data["perf"] = got
    table.add("perf", "belfry-perf against an ideal peer", rate(best) + " IOPS",
              "", None, ">= 8 M", best >= 8e6)


MEASURES = {"path": path, "ioas": ioas, "perf": perf}
