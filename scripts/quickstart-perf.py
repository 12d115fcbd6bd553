# SPDX-License-Identifier: BSD-3-Clause
"""The table of belfry-perf in quickstart.sh: both address modes side by side.

quickstart-perf.py PERF SOCKET CORE
"""
import json
import signal
import subprocess
import sys

DEPTHS = (1, 32, 128)
MODES = ("legacy", "iommufd")


def measure(perf, socket, core, mode, depth):
    """What belfry-perf says after a second of 4 KiB random reads."""
    with subprocess.Popen([perf, "-s", socket, "--mode", mode, "--cpu", core,
                           "--rw", "randread", "--bs", "4k", "--qd",
                           str(depth), "--warmup", "0.2", "--time", "1",
                           "--json"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            out, _ = process.communicate(timeout=30)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        sys.exit(f"quickstart: belfry-perf ended with {process.returncode}")
    result = json.loads(out.strip().splitlines()[-1])
    if result["errors"]:
        sys.exit(f"quickstart: belfry-perf saw {result['errors']} errors")
    return result


def main(perf, socket, core):
    rows = []
    for depth in DEPTHS:
        rows.append((depth, [measure(perf, socket, core, mode, depth)
                             for mode in MODES]))
    head = f"{'IOPS':>10}{'mean us':>9}{'p99 us':>9}"
    print(f"\n{'belfry-perf':26}" + "".join(f"{mode:>28}" for mode in MODES))
    print(f"{'':20}{'depth':>6}" + head * len(MODES))
    for depth, results in rows:
        print(f"{'4 KiB random read':20}{depth:6}" + "".join(
            f"{r['iops']:10.0f}{r['mean_us']:9.2f}{r['p99_us']:9.2f}"
            for r in results))
    print(flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
