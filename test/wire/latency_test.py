#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What one client may do to another's I/O on the same core. The bounds are wide: the machine may have other work."""
import mmap
import os
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import Daemon, main  # noqa: E402
from nvme import Host, PAGE  # noqa: E402

NQN = "nqn.2014-08.org.x:"
READ = 2


def listen(d, name, bdev):
    path = d.mkdir(name)
    d.rpc("nvmf_create_subsystem", nqn=NQN + name, allow_any_host=True, serial_number="S")
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN + name, namespace={"bdev_name": bdev})
    d.rpc("nvmf_subsystem_add_listener", nqn=NQN + name, listen_address={"trtype": "VFIOUSER", "traddr": path})
    return path + "/cntrl"


class Victim:
    """Reads one after the other, and how long each took."""

    def __init__(self, path):
        self.host, self.took, self.end = Host(path), [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.end:
            start = time.monotonic()
            assert self.host.io(READ) == 0
            self.took.append(time.monotonic() - start)

    def stop(self):
        """In seconds: what 90 of 100 reads took at most, and the slowest; since the last time."""
        end = time.monotonic() + 20
        while not self.took and time.monotonic() < end:
            time.sleep(0.01)
        took, self.took = sorted(self.took), []
        assert took, "no read came back"
        return took[len(took) * 9 // 10], took[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end = True
        self.thread.join(60)
        self.host.close()


def test_register_flood():
    """Interrupt masks by the thousand, with many queues to look at for each."""
    with Daemon() as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", max_io_qpairs_per_ctrlr=128)
        for name in ("a", "b"):
            d.rpc("bdev_malloc_create", name=name, block_size=512, num_blocks=2048)
        flood = Host(listen(d, "a", "a"))
        for q in range(2, 128):
            assert flood.admin(5, prp1=(q + 16) * PAGE, dw10=15 << 16 | q, dw11=1) == 0
        entries = struct.pack("<Q", 2048) + 2048 * struct.pack("<QII8s", 0xc, 0, 4, struct.pack("<II", 2, 0))
        msg = 8 * (struct.pack("<HHIII", 7, 15, 16 + len(entries), 0x10, 0) + entries)
        with Victim(listen(d, "b", "b")) as victim:
            time.sleep(1)
            idle, end = victim.stop(), time.monotonic() + 3
            while time.monotonic() < end:
                flood.s.sendall(msg)
            busy = victim.stop()
        print("register flood: 90%%, slowest: %.1f, %.1f ms; idle %.1f, %.1f ms" %
              tuple(1e3 * t for t in busy + idle))
        assert busy[0] < 0.012, busy
        flood.close()


def test_many_extents_go():
    """One unmap of 60 000 extents with 192 reads of 1 MiB on them in flight."""
    n, reads, apart = 60000, 192, 1 << 32
    with Daemon() as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", max_queue_depth=4096)
        for name in ("a", "b"):
            d.rpc("bdev_malloc_create", name=name, block_size=512, num_blocks=20480)
        slow = {f"{p}_{op}_latency": 3000000 for p in ("avg", "p99") for op in ("read", "write")}
        d.rpc("bdev_delay_create", base_bdev_name="a", name="slow", **slow)
        a = Host(listen(d, "a", "slow"))
        lists, queue, entries = 1 << 20, 2 << 20, 256
        os.ftruncate(a.memfd, (4 << 20) + n * 2 * PAGE)
        low = mmap.mmap(a.memfd, 4 << 20)
        a.map(1 << 20, 3 << 20)
        for i in range(n):  # every other page of the file, so that none touch
            a.map((4 << 20) + i * 2 * PAGE, PAGE, apart + i * PAGE)
        assert a.admin(5, prp1=queue, dw10=(entries - 1) << 16 | 2, dw11=1) == 0
        assert a.admin(1, prp1=queue + (1 << 16), dw10=(entries - 1) << 16 | 2, dw11=2 << 16 | 1) == 0
        for r in range(reads):
            page = [apart + (r * 256 + i) * PAGE for i in range(256)]
            struct.pack_into("<255Q", low, lists + r * PAGE, *page[1:])
            struct.pack_into("<BBHIQQQQIIIIII", low, queue + (1 << 16) + 64 * r, READ, 0, r, 1, 0, 0, page[0],
                             lists + r * PAGE, 0, 0, 2047, 0, 0, 0)
        with Victim(listen(d, "b", "b")) as victim:
            time.sleep(1)
            idle = victim.stop()
            a.write(0, 0x1010, struct.pack("<I", reads))
            time.sleep(0.3)  # all have been fetched
            a.s.settimeout(60)
            start = time.monotonic()
            a.s.sendall(struct.pack("<HHIIIIIQQ", 7, 3, 40, 0, 0, 24, 0, apart, n * PAGE))
            time.sleep(1.5)
            busy = victim.stop()
            assert a.receive(40)
            took, end = time.monotonic() - start, victim.stop()
        print("unmap: %.1f s, slowest read %.1f ms, as the reads end %.1f ms; idle %.1f ms" %
              (took, 1e3 * busy[1], 1e3 * end[1], 1e3 * idle[1]))
        assert 1 < took < 30, took  # it waited for the reads
        assert busy[1] < 0.1 and end[1] < 1, (busy, end)
        low.close()
        a.close()


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
