#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""bdev_set_qos_limit: rates are kept over all queues and reactors, and change under I/O."""
import time

from daemon import Daemon, main, raises, until
from io_test import NQN, READ, WRITE, export
from nvme import DATA, Host
from perf_test import perf
from spread_test import cores

ALL = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")


class Limited(Daemon):
    def __init__(self, *args):
        super().__init__("-m", ",".join(map(str, cores())), *args)
        self.h = export(self, "bdev_malloc_create", name="m", block_size=512, num_blocks=32768)

    def limit(self, **limits):
        assert self.rpc("bdev_set_qos_limit", name="m", **limits) is True

    def limits(self):
        found = self.rpc("bdev_get_bdevs", name="m")[0]["assigned_rate_limits"]
        assert set(found) == set(ALL), found
        return [found[n] for n in ALL]

    def waiting(self):
        return self.rpc("bdev_get_iostat", names=["m"])["bdevs"][0]["queue_depth"]

    def rate(self, *args):
        """I/Os a second, of the tool; it takes the socket."""
        if self.h:
            self.h.close()
        self.h = None
        return perf(self.path("a"), "--time", "1", *args)[0]["iops"]


def keeps(d, want, *args):
    """Never more; as much, if no other work takes the cores in all of the runs."""
    rates = []
    while len(rates) < 5 and max(rates, default=0) <= 0.9 * want:
        rates.append(d.rate(*args))
        assert rates[-1] < 1.1 * want, (rates, want)
    assert rates[-1] > 0.9 * want, (rates, want)


def test_what_is_set_is_told():
    with Limited() as d:
        assert d.limits() == [0, 0, 0, 0]
        d.limit(rw_ios_per_sec=1500, w_mbytes_per_sec=3)
        assert d.limits() == [1500, 0, 0, 3]
        d.limit(r_mbytes_per_sec=9)
        d.limit(rw_ios_per_sec=0)
        assert d.limits() == [0, 0, 9, 3]
        raises(-32602, "at least one of", d.rpc, "bdev_set_qos_limit", name="m")
        raises(-32602, "w_mbytes_per_sec", d.rpc, "bdev_set_qos_limit", name="m", w_mbytes_per_sec=-1)
        raises(-22, f"w_mbytes_per_sec {1 << 60} is too high", d.rpc, "bdev_set_qos_limit", name="m", w_mbytes_per_sec=1 << 60)
        raises(-19, "no bdev none", d.rpc, "bdev_set_qos_limit", name="none", w_mbytes_per_sec=1)
        assert d.limits() == [0, 0, 9, 3]
        d.h.close()


def test_ios_over_two_reactors():
    for idle in "adaptive", "poll":
        with Limited("--idle", idle) as d:
            d.limit(rw_ios_per_sec=2000)
            keeps(d, 2000, "--queues", "4", "--qd", "8", "--rw", "randrw")
            groups = d.rpc("nvmf_get_stats")["poll_groups"]
            assert all(g["completed_nvme_io"] > 300 for g in groups), groups


def test_bytes_read_and_written_apart():
    with Limited() as d:
        d.limit(r_mbytes_per_sec=16, w_mbytes_per_sec=32)
        keeps(d, 256, "--bs", "64k", "--qd", "8", "--rw", "read")
        keeps(d, 512, "--bs", "64k", "--qd", "8", "--rw", "write")
        d.limit(rw_mbytes_per_sec=8)
        keeps(d, 512, "--bs", "16k", "--qd", "8", "--rw", "randrw")
        d.limit(rw_mbytes_per_sec=0, r_mbytes_per_sec=0)
        assert d.rate("--bs", "64k", "--qd", "8", "--rw", "read") > 1000


def submit(h, n, op=WRITE):
    for _ in range(n):
        h.submit(1, op, nsid=1, prp1=DATA, dw12=7)


def completed(h, n):
    """Takes @n completions; how long it took."""
    start = time.monotonic()
    for _ in range(n):
        assert h.complete(1)[2] == 0
    return time.monotonic() - start


def test_one_at_a_time():
    """A reactor that sleeps between them comes back in time."""
    with Limited() as d:
        d.limit(rw_ios_per_sec=20)
        start = time.monotonic()
        for i in range(6):
            submit(d.h, 1, READ if i % 2 else WRITE)
            completed(d.h, 1)
        assert 0.22 < time.monotonic() - start < 0.5
        d.h.close()


def test_changes_under_io():
    with Limited() as d:
        for to in 0, 100000:
            d.limit(rw_ios_per_sec=1)
            submit(d.h, 10)
            time.sleep(0.1)
            assert d.waiting() == 9
            d.limit(rw_ios_per_sec=to)
            assert completed(d.h, 10) < 0.8
        d.limit(rw_ios_per_sec=10)
        submit(d.h, 5)
        assert completed(d.h, 5) > 0.35
        d.h.close()


def test_reads_pass_waiting_writes():
    with Limited() as d:
        d.limit(w_mbytes_per_sec=1)
        submit(d.h, 10)  # 40 KiB: 36 ms
        submit(d.h, 1, READ)
        last = d.h.cid
        order = [d.h.complete(1)[0] for _ in range(11)]
        assert order.index(last) < 9, (order, last)
        d.h.close()


def test_device_goes_while_io_waits():
    with Limited() as d:
        d.limit(rw_ios_per_sec=1)
        submit(d.h, 8)
        until(lambda: d.waiting() == 7)
        start = time.monotonic()
        assert d.rpc("bdev_malloc_delete", name="m") is True
        assert time.monotonic() - start < 0.8
        bad = [d.h.complete(1)[2] != 0 for _ in range(8)]
        assert bad.count(True) == 7, bad
        d.h.close()


def test_cancelled():
    """What waits holds up nobody: a reset, the next client, the deletion of its queue."""
    with Limited() as d:
        d.limit(rw_ios_per_sec=1)
        assert d.h.io(WRITE) == 0
        start = time.monotonic()
        submit(d.h, 8)
        until(lambda: d.waiting() == 8)
        d.h.write(0, 0x14, bytes(4))  # CC.EN
        until(lambda: not d.h.read32(0x1c) & 1)
        assert d.waiting() == 0
        d.h.close()
        h = Host(d.path("a/cntrl"))
        submit(h, 8)
        until(lambda: d.waiting() == 8)
        h.close()
        h = Host(d.path("a/cntrl"))
        assert d.waiting() == 0
        submit(h, 8)
        until(lambda: d.waiting() == 8)
        assert h.admin(0, dw10=1) == 0
        assert [h.complete(1)[2] & 0x7ff for _ in range(8)] == [8] * 8, "Aborted due to SQ Deletion"
        assert time.monotonic() - start < 0.8
        h.close()


def test_aborted():
    with Limited("-m", str(cores()[0])) as d:
        d.limit(rw_ios_per_sec=1)
        assert d.h.io(WRITE) == 0
        submit(d.h, 8)
        until(lambda: d.waiting() == 8)
        cid = d.h.cid
        d.h.submit(0, 8, dw10=cid << 16 | 1)
        assert d.h.complete(0)[1] == 0
        got, _, status = d.h.complete(1)
        assert (got, status & 0x7ff) == (cid, 7), "Command Abort Requested"
        assert d.waiting() == 7
        d.h.close()


if __name__ == "__main__":
    main([t for n, t in list(globals().items()) if n.startswith("test_")])
