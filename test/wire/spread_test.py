#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A daemon of two cores: the queues of each controller are on both, and nothing of it shows."""
import mmap
import os
import socket
import struct
import time

from daemon import Client, Daemon, main, until

NQN = "nqn.2024-01.io.example:disk"
WRITE, READ = 1, 2
PAGE, DEPTH, QUEUES = 4096, 16, 4
RINGS, DATA, SIZE = PAGE, 1 << 20, 2 << 20


class Host(Client):
    """Enabled controller, QUEUES queue pairs without interrupts; a page of data for each at DATA."""

    def __init__(self, path, queues=QUEUES):
        super().__init__(path)
        self.memfd = os.memfd_create("guest")
        os.ftruncate(self.memfd, SIZE)
        self.mem = mmap.mmap(self.memfd, SIZE)
        self.map(0, DATA)
        self.map(DATA, SIZE - DATA)
        self.enable(queues)

    def enable(self, queues=QUEUES):
        self.cid = 0
        self.tail, self.head, self.phase = ([n] * (QUEUES + 1) for n in (0, 0, 1))
        self.mem[RINGS:RINGS + 2 * PAGE * (QUEUES + 1)] = bytes(2 * PAGE * (QUEUES + 1))
        self.write(0, 0x24, struct.pack("<I", (DEPTH - 1) << 16 | (DEPTH - 1)))
        self.write(0, 0x28, struct.pack("<QQ", self.sq(0), self.cq(0)))
        self.write(0, 0x14, struct.pack("<I", 4 << 20 | 6 << 16 | 1))
        until(lambda: self.read32(0x1c) & 1)
        for q in range(1, queues + 1):
            self.create(q)

    def disable(self):
        self.write(0, 0x14, struct.pack("<I", 0))
        until(lambda: not self.read32(0x1c) & 1)

    def create(self, q):
        assert self.admin(5, prp1=self.cq(q), dw10=(DEPTH - 1) << 16 | q, dw11=1) == 0
        assert self.admin(1, prp1=self.sq(q), dw10=(DEPTH - 1) << 16 | q, dw11=q << 16 | 1) == 0

    def delete(self, q):
        assert self.admin(0, dw10=q) == 0 and self.admin(4, dw10=q) == 0
        self.tail[q], self.head[q], self.phase[q] = 0, 0, 1
        self.mem[self.sq(q):self.sq(q) + 2 * PAGE] = bytes(2 * PAGE)

    @staticmethod
    def sq(q):
        return RINGS + 2 * PAGE * q

    @staticmethod
    def cq(q):
        return RINGS + 2 * PAGE * q + PAGE

    def map(self, off, size):
        payload = struct.pack("<IIQQQ", 32, 3, off, off, size)
        socket.send_fds(self.s, [struct.pack("<HHIII", 7, 2, 48, 0, 0) + payload], [self.memfd])
        _, _, size, flags, err = struct.unpack("<HHIII", self.receive(16))
        assert not flags & 0x20, os.strerror(err)

    def unmap(self, off, size):
        self.call(3, struct.pack("<IIQQ", 24, 0, off, size))

    def submit(self, q, opc, nsid=0, prp1=0, dw10=0, dw11=0, dw12=0):
        self.cid = (self.cid + 1) & 0xffff
        sqe = struct.pack("<BBHIQQQQIIIIII", opc, 0, self.cid, nsid, 0, 0, prp1, 0, dw10, dw11, dw12, 0, 0, 0)
        at = self.sq(q) + 64 * self.tail[q]
        self.mem[at:at + 64] = sqe
        self.tail[q] = (self.tail[q] + 1) % DEPTH
        self.write(0, 0x1000 + 8 * q, struct.pack("<I", self.tail[q]))

    def complete(self, q, timeout=10):
        at, end = self.cq(q) + 16 * self.head[q], time.monotonic() + timeout
        while True:
            status = struct.unpack("<H", self.mem[at + 14:at + 16])[0]
            if status & 1 == self.phase[q]:
                break
            assert time.monotonic() < end, f"no completion on queue {q}"
            time.sleep(0.0002)
        self.head[q] = (self.head[q] + 1) % DEPTH
        self.phase[q] ^= self.head[q] == 0
        self.write(0, 0x1004 + 8 * q, struct.pack("<I", self.head[q]))
        return status >> 1

    def admin(self, opc, **kw):
        self.submit(0, opc, **kw)
        return self.complete(0)

    def start(self, q, opc, lba):
        self.submit(q, opc, nsid=1, prp1=DATA + PAGE * q, dw10=lba, dw12=7)

    def io(self, q, opc, lba=0):
        self.start(q, opc, lba)
        return self.complete(q)

    def verify(self, queues=QUEUES):
        """What each queue writes another one reads."""
        for q in range(1, queues + 1):
            to, page, other = q % queues + 1, DATA + PAGE * q, DATA + PAGE * (q % queues + 1)
            want = os.urandom(PAGE)
            self.mem[page:page + PAGE] = want
            assert self.io(q, WRITE, 8 * q) == 0
            self.mem[other:other + PAGE] = bytes(PAGE)
            assert self.io(to, READ, 8 * q) == 0
            assert self.mem[other:other + PAGE] == want, (q, to)

    def close(self):
        self.mem.close()
        os.close(self.memfd)
        super().close()


def cores():
    return sorted(os.sched_getaffinity(0))[:2]


def export(d, name, listeners=("a",)):
    d.rpc("nvmf_create_transport", trtype="VFIOUSER")
    d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, max_namespaces=4)
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": name})
    for l in listeners:
        d.mkdir(l)
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": d.path(l)})


class Pair(Daemon):
    def __init__(self):
        super().__init__("-m", ",".join(map(str, cores())))
        self.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=4096)

    def slow(self, us):
        self.rpc("bdev_delay_create", name="slow", base_bdev_name="m", avg_read_latency=us, p99_read_latency=us,
                 avg_write_latency=us, p99_write_latency=us)
        return "slow"

    def threads(self):
        return [q["thread"] for q in
                self.rpc("nvmf_subsystem_get_qpairs", nqn=NQN) if q["qid"]]

    def io_queues(self):
        return [g["current_io_qpairs"] for g in self.rpc("nvmf_get_stats")["poll_groups"]]


def test_queues_are_on_both():
    with Pair() as d:
        export(d, "m", ("a", "b"))
        h, other = Host(d.path("a/cntrl")), Host(d.path("b/cntrl"), 2)
        assert d.io_queues() == [3, 3], d.io_queues()
        until(lambda: len(d.threads()) == 6)
        assert sorted(d.threads().count(t) for t in set(d.threads())) == [3, 3], d.threads()
        h.verify()
        other.verify(2)
        s = d.rpc("nvmf_get_stats")["poll_groups"]
        assert all(g["completed_nvme_io"] >= 4 for g in s), s
        h.delete(2)
        h.delete(3)
        h.create(3)
        h.create(2)
        h.verify()
        h.close()
        until(lambda: sum(d.io_queues()) == 2)
        other.verify(2)
        other.close()


def test_sleeping_reactors_hear_doorbells():
    with Pair() as d:
        export(d, "m")
        h = Host(d.path("a/cntrl"))
        for q in range(1, QUEUES + 1):
            time.sleep(0.05)  # longer than they spin
            start = time.monotonic()
            assert h.io(q, READ) == 0
            assert time.monotonic() - start < 1
        h.close()


def test_unmap_waits_for_io_elsewhere():
    with Pair() as d:
        export(d, d.slow(400000))
        h = Host(d.path("a/cntrl"))
        for q in range(1, QUEUES + 1):
            h.start(q, READ, 0)
        time.sleep(0.05)
        start = time.monotonic()
        h.unmap(DATA, SIZE - DATA)
        assert 0.2 < time.monotonic() - start < 5
        for q in range(1, QUEUES + 1):
            assert h.complete(q) == 0
            h.start(q, READ, 0)
            assert h.complete(q) & 0x7ff == 4  # Data Transfer Error
        h.map(DATA, SIZE - DATA)
        for q in range(1, QUEUES + 1):
            assert h.io(q, READ) == 0
        h.close()


def test_maps_are_seen_at_once():
    with Pair() as d:
        export(d, "m")
        h = Host(d.path("a/cntrl"))
        for _ in range(50):
            h.unmap(DATA, SIZE - DATA)
            h.map(DATA, SIZE - DATA)
            h.verify()
        h.close()


def test_resets_end_io_elsewhere():
    with Pair() as d:
        export(d, d.slow(300000))
        h = Host(d.path("a/cntrl"))
        for q in range(1, QUEUES + 1):
            h.start(q, WRITE, 0)
        time.sleep(0.05)
        start = time.monotonic()
        h.disable()
        assert time.monotonic() - start < 5
        assert d.io_queues() == [0, 0]
        h.enable()
        h.start(2, WRITE, 0)
        time.sleep(0.05)
        h.call(h.RESET)
        h.enable()
        assert d.io_queues() == [2, 2]
        assert h.io(2, READ) == h.io(3, READ) == 0
        h.close()


def test_clients_vanish():
    with Pair() as d:
        export(d, d.slow(100000))
        for i in range(12):
            h = Host(d.path("a/cntrl"), i % (QUEUES + 1))
            for q in range(1, i % (QUEUES + 1) + 1):
                h.start(q, (WRITE, READ)[q % 2], 8 * q)
            h.close()
        h = Host(d.path("a/cntrl"))
        assert d.io_queues() == [2, 2]
        h.verify()
        h.close()
        assert d.stop() == 0, d.logged()


def test_namespaces_go_with_io_elsewhere():
    with Pair() as d:
        export(d, d.slow(300000))
        h = Host(d.path("a/cntrl"))
        for q in range(1, QUEUES + 1):
            h.start(q, WRITE, 0)
        time.sleep(0.05)
        start = time.monotonic()
        assert d.rpc("nvmf_subsystem_remove_ns", nqn=NQN, nsid=1) is True
        assert 0.1 < time.monotonic() - start < 5
        for q in range(1, QUEUES + 1):
            assert h.complete(q) == 0
            assert h.io(q, READ) & 0x7ff == 0x02
        d.rpc("bdev_delay_delete", name="slow")
        d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "m"})
        h.verify()
        h.close()


def test_a_truncated_memory_ends_the_client():
    with Pair() as d:
        export(d, "m", ("a", "b"))
        h, other = Host(d.path("a/cntrl")), Host(d.path("b/cntrl"))
        os.ftruncate(h.memfd, DATA)
        h.start(2, WRITE, 0)
        assert h.gone()
        other.verify()
        other.close()
        until(lambda: d.io_queues() == [0, 0])


if __name__ == "__main__":
    if len(cores()) < 2:
        print("SKIP: one core only")
        raise SystemExit(77)
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
