# SPDX-License-Identifier: BSD-3-Clause
"""A belfryd to measure and the programs that measure it. Not for what is measured: measures_*.py."""
import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "guest"))

# pylint: disable=wrong-import-position
from rpc import Rpc, RpcError  # noqa
from vm import end, spawn  # noqa

B = pathlib.Path(os.environ.get("B", "build")).resolve()
CORES = sorted(os.sched_getaffinity(0))


class BenchError(Exception):
    """Something could not be measured."""


def program(name):
    path = B / "test/bench" / name
    if not path.exists():
        raise BenchError(f"{path} is missing: make bench")
    return str(path)


def output(command, on=None, timeout=60):
    """What a program prints; it dies with us."""
    process = spawn(command, on, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]}: not done in {timeout} s") from None
    finally:
        end(process)
    if process.returncode:
        raise BenchError(f"{' '.join(map(str, command[:6]))}: {err.strip()[-300:]}")
    return out


def numbers(command, on=None, timeout=60):
    return [float(word) for word in output(command, on, timeout).split()]


def client(*args, on=CORES[-1], timeout=60):
    """test/bench/client on core @on."""
    return numbers([program("client"), *map(str, args)], [on], timeout)


def exchange(target, ms, depth):
    """Rate a second of the bare exchange, on the cores of @target and its client."""
    with target.aside():
        return numbers([program("exchange"), str(ms), str(depth)])[1] * 1e6


def median(values):
    return statistics.median(values)


_seen = {}
CROWDED = 0.1   # of the time somebody waited for a core: a row does not count


def pressure():
    """Seconds in which somebody waited for a core; None: the kernel does not tell."""
    try:
        line = pathlib.Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(line.rpartition("=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None


def waited(since):
    """The share of the time since @since, (pressure(), monotonic()), that somebody waited."""
    now = pressure()
    if now is None or since[0] is None:
        return 0.0
    return (now - since[0]) / max(time.monotonic() - since[1], 1e-6)


def usual(key, *values):
    """The median of @key's values in this run, @values included."""
    _seen.setdefault(key, []).extend(values)
    return median(_seen[key])


def compare(keys, reps, bases, measures, tries, crowd=CROWDED):
    """Rows of [base, ..., value, ...]: (those that count, the others). @keys name the bases.

    Other work disturbs, and a virtual machine's cores and disk may change, which changes all figures at once. So
    the bases are measured before and after, in short pieces, and a row counts only if they were about the same, not far from
    what is usual in this run, and nobody waited for a core. It ends with @reps that count, or after @tries.
    """
    rows, unsteady = [], []
    before = [max(base(), 1.0) for base in bases]
    for _ in range(tries):
        since = pressure(), time.monotonic()
        values = [max(measure(), 1.0) for measure in measures]
        after = [max(base(), 1.0) for base in bases]
        means = [(old + new) / 2 for old, new in zip(before, after)]
        steady = waited(since) < crowd
        for key, mean, *both in zip(keys, means, before, after):
            steady &= min(both) >= 0.75 * max(both) and \
                0.6 <= mean / usual(key, *both) <= 1.5
        (rows if steady else unsteady).append([*means, *values])
        before = after
        if len(rows) == reps:
            break
    return rows, unsteady


def paired(key, reps, base, *measures):
    """Compare @measures with @base: (rows of [base, value, value, ...], were they undisturbed?).

    If no row counts, all are given and nothing should be judged by them.
    """
    rows, unsteady = compare([key], reps, [base], measures, 2 * reps)
    return rows or unsteady, bool(rows)


def middle(rows, which=1, against=0):
    """(value, base, ratio) of the row with the median ratio."""
    rows = sorted(rows, key=lambda row: row[which] / row[against])
    row = rows[len(rows) // 2]
    return row[which], row[against], row[which] / row[against]


class Target:
    """with Target("--idle", "poll") as t: a daemon in a folder of its own."""

    def __init__(self, *args, cores=None, **transport):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="belfry-bench-"))
        self.sockets = 0
        self.rpc = None
        self.log = open(self.folder / "log", "w+", encoding="utf-8")
        path = self.folder / "rpc"
        cores = cores or CORES[:1]
        begin = time.monotonic()
        self.process = spawn(
            [os.environ.get("BELFRYD") or str(B / "bin/belfryd"), "-m",
             ",".join(map(str, cores)), "-r", str(path), *args],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while True:
            try:
                self.rpc = Rpc(path)
                self.rpc("spdk_get_version")
                break
            except (OSError, RpcError):
                if self.process.poll() is not None or \
                        time.monotonic() - begin > 10:
                    self.close()
                    raise BenchError("belfryd does not start") from None
                time.sleep(0.0005)
        self.start_ms = (time.monotonic() - begin) * 1000
        self.rpc("nvmf_create_transport", trtype="VFIOUSER", **transport)

    def export(self, bdev=None):
        """A subsystem with one namespace and a listener; its socket."""
        self.sockets += 1
        nqn = f"nqn.2024-01.io.belfry:bench{self.sockets}"
        where = self.folder / f"s{self.sockets}"
        where.mkdir()
        self.rpc("nvmf_create_subsystem", nqn=nqn, allow_any_host=True,
                 serial_number=f"BENCH{self.sockets}")
        if bdev:
            self.rpc("nvmf_subsystem_add_ns", nqn=nqn,
                     namespace={"bdev_name": bdev, "nsid": 1})
        self.rpc("nvmf_subsystem_add_listener", nqn=nqn, listen_address={
            "trtype": "VFIOUSER", "traddr": str(where), "trsvcid": "0"})
        return where / "cntrl"

    @contextlib.contextmanager
    def namespace(self, bdev, path, kind="aio"):
        """A file is the namespace of the last export() while the block lasts."""
        nqn = f"nqn.2024-01.io.belfry:bench{self.sockets}"
        self.rpc(f"bdev_{kind}_create", name=bdev, filename=str(path),
                 block_size=512)
        self.rpc("nvmf_subsystem_add_ns", nqn=nqn,
                 namespace={"bdev_name": bdev, "nsid": 1})
        try:
            yield
        finally:
            self.rpc("nvmf_subsystem_remove_ns", nqn=nqn, nsid=1)
            self.rpc(f"bdev_{kind}_delete", name=bdev)

    def null(self, mib=1 << 20):
        """A new null device of 1 TiB."""
        name = f"null{self.sockets}"
        self.rpc("bdev_null_create", name=name, block_size=512,
                 num_blocks=mib << 11)
        return name

    @contextlib.contextmanager
    def aside(self):
        """Stopped while the block lasts: else it would spin on the core that something else is measured on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.01)

    @contextlib.contextmanager
    def meanwhile(self):
        """Inside aside(): runs again while the block lasts."""
        self.process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def cpu_seconds(self):
        """Processor time of all its threads, exactly."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self):
        """MiB: {VmRSS, RssAnon, RssFile, RssShmem}."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return {key: int(value.split()[0]) / 1024 for key, _, value in
                (line.partition(":") for line in text.splitlines())
                if key in ("VmRSS", "RssAnon", "RssFile", "RssShmem")}

    def own_memory(self):
        """MiB that are not the clients'."""
        memory = self.memory()
        return memory["RssAnon"] + memory["RssFile"]

    def close(self):
        if self.rpc:
            self.rpc.close()
        status = end(self.process, signal.SIGTERM, 20)
        self.log.seek(0)
        said = self.log.read().strip()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status, said

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status, said = self.close()
        if status and not kind:
            raise BenchError(f"belfryd ended with {status}: {said[-300:]}")
        if kind:
            print(f"belfryd: {said[-500:]}", file=sys.stderr)


class Idle:
    """Clients that do nothing, while the block lasts."""

    def __init__(self, mode, queues, sockets):
        self.process = spawn([program("client"), "hold", mode, str(queues),
                              *map(str, sockets)], CORES[-1:],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline().strip() != "ready":
            raise BenchError("idle clients: " + self.process.stderr.read()[-300:])
        return self

    def __exit__(self, *_):
        end(self.process)
