# SPDX-License-Identifier: BSD-3-Clause
"""Runs the measures and shows one table. See run.sh."""
import argparse
import signal
import subprocess
import sys
import time

import measures_code
import measures_guest
import measures_io
import measures_life
import report
from rpc import RpcError
from target import B, CORES, BenchError, pressure, waited
from vm import GuestError, end_all

MEASURES = {**measures_code.MEASURES, **measures_io.MEASURES,
            **measures_life.MEASURES, **measures_guest.MEASURES}
LIMIT = 240     # seconds of one measure


class Late(Exception):
    """A measure takes too long."""


def on_alarm(*_):
    raise Late(f"not done in {LIMIT} s")


def parse():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the measures")
    parser.add_argument("--quick", action="store_true",
                        help="short and rough, to try it out")
    parser.add_argument("--doc", action="store_true",
                        help="write the table and the plot to doc/")
    parser.add_argument("measure", nargs="*", help="default: all")
    args = parser.parse_args()
    unknown = set(args.measure) - set(MEASURES)
    if unknown:
        parser.error("no measure " + ", ".join(sorted(unknown)))
    return args


def measure(name, table, quick):
    """What went wrong, or None."""
    print(f"{name}:", flush=True)
    signal.alarm(LIMIT)
    try:
        MEASURES[name](table, quick)
    except (BenchError, GuestError, RpcError, Late, OSError,
            ValueError, KeyError) as error:
        print(f"  {name} could not be measured: {error}", flush=True)
        return f"{name}: {error}"
    finally:
        signal.alarm(0)
        end_all()
    return None


def plot():
    """doc/performance.svg from the JSON."""
    subprocess.run([sys.executable, report.TOP / "scripts/plot-performance.py",
                    B / "bench.json", report.TOP / "doc/performance.svg"],
                   check=True)


def main():
    args = parse()
    if args.list:
        print("\n".join(MEASURES))
        return 0
    if len(CORES) < 2:
        sys.exit("bench: two cores are needed: one for the target, one for "
                 "the client")
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    place, table = report.where(), report.Table()
    since = pressure(), begun
    failures = [why for name in args.measure or MEASURES
                if (why := measure(name, table, args.quick))]
    for why in failures:
        table.add("", why.split(":")[0], "not measured", met=False)
    place["waited"] = waited(since)
    report.save(table, B / "bench.json", place)
    print(f"\n{table.text()}\n\n{place['commit']}, {place['cpu']}, "
          f"{100 * place['waited']:.0f} % of the time somebody waited for a "
          "core, "
          f"{time.monotonic() - begun:.0f} s; JSON: {B / 'bench.json'}")
    if args.doc:
        counts = table.data.get("path", {}).get("instructions")
        report.document(table, place, counts and
                        f"{counts['read']:.0f} | {counts['write']:.0f}")
        if "curve" in table.data:
            plot()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
