#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Messages of a client in any order, each answered in time; the next client of the same listener finds a controller as new."""
import array
import os
import random
import socket
import struct

from daemon import Daemon, main, until
from nvme import ACQ, ASQ, CQ, DATA, DEPTH, SQ, Host

NQN = "nqn.2024-01.io.example:disk"
LIVES, STEPS = 12, 150
CC, CC_GOOD = 0x14, 6 << 16 | 4 << 20
CONFIG, COMMAND, PMCSR, DEVCTL = 7, 4, 0x44, 0x50
DMA_MAP, DMA_UNMAP, SET_IRQS, RESET, MULTI = 2, 3, 8, 13, 15
NO_REPLY = 0x10
ANSWER_S = 5  # QEMU's patience


class Wild:
    def __init__(self, path, seed):
        self.rnd = random.Random(seed)
        self.h = Host(path)
        self.h.s.settimeout(ANSWER_S)
        self.mapped = True

    def call(self, cmd, payload=b"", fds=(), reply=True):
        """Refusals are fine, silence is not."""
        h, size = self.h, 16 + len(payload)
        msg = struct.pack("<HHIII", self.rnd.randrange(65536), cmd, size, 0 if reply else NO_REPLY, 0) + payload
        h.s.sendmsg([msg], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        if not reply:
            return
        mid, rcmd, size, flags, _ = struct.unpack("<HHIII", h.receive(16))
        assert (mid, rcmd, flags & 15) == (struct.unpack_from("<H", msg)[0], cmd, 1), (mid, rcmd, flags)
        h.receive(size - 16)

    def write(self, region, off, data, reply=True):
        self.call(10, struct.pack("<QII", off, region, len(data)) + data, reply=reply)

    def any_cc(self):
        r = self.rnd
        return struct.pack("<I", CC_GOOD | r.randrange(2) | r.randrange(4) << 14 | (r.randrange(16) == 0) << 7)

    def cc(self):
        self.write(0, CC, self.any_cc(), self.rnd.randrange(2))

    def multi(self):
        n = self.rnd.randrange(1, 8)
        entry = [struct.pack("<QII", CC, 0, 4) + self.any_cc() + bytes(4) for _ in range(n)]
        self.call(MULTI, struct.pack("<Q", n) + b"".join(entry), reply=self.rnd.randrange(2))

    def flr(self):
        self.write(CONFIG, DEVCTL, struct.pack("<H", 0x8000 | 0x2810))

    def power(self):
        self.write(CONFIG, PMCSR, struct.pack("<H", self.rnd.randrange(4)))
        self.write(CONFIG, PMCSR, bytes(2), self.rnd.randrange(2))

    def command(self):
        self.write(CONFIG, COMMAND, struct.pack("<H", self.rnd.choice([0, 6, 0x406])))

    def reset(self):
        self.call(RESET)

    def irqs(self):
        index = self.rnd.choice([0, 2])
        fd = os.eventfd(0)
        kind = self.rnd.randrange(4)
        if kind == 0:
            self.call(SET_IRQS, struct.pack("<IIIII", 20, 4 | 32, index, 0, 1), [fd])
        elif kind == 1:
            self.call(SET_IRQS, struct.pack("<IIIII", 20, 1 | 32, index, 0, 0))
        else:  # mask, unmask
            self.call(SET_IRQS, struct.pack("<IIIII", 20, 1 | 8 << kind - 2, index, 0, 1))
        os.close(fd)

    def memory(self):
        if self.mapped:
            self.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, 0, 1 << 20))
        else:
            self.call(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, 1 << 20), [self.h.memfd])
        self.mapped = not self.mapped

    def rdy(self, want):
        until(lambda: self.h.read32(0x1c) & 1 == want, ANSWER_S)

    def as_specified(self):
        """A host that begins anew finds a working controller, whatever there was."""
        h = self.h
        if not self.mapped:
            self.memory()
        self.write(CONFIG, PMCSR, bytes(2))
        self.write(0, CC, struct.pack("<I", CC_GOOD))
        self.rdy(0)
        h.mem[ACQ:ACQ + 4096] = h.mem[CQ:CQ + 4096] = bytes(4096)
        h.tail, h.head, h.phase = {0: 0, 1: 0}, {0: 0, 1: 0}, {0: 1, 1: 1}
        h.write(0, 0x24, struct.pack("<I", (DEPTH - 1) << 16 | (DEPTH - 1)))
        h.write(0, 0x28, struct.pack("<QQ", ASQ, ACQ))
        self.write(0, CC, struct.pack("<I", CC_GOOD | 1))
        self.rdy(1)
        assert h.admin(5, prp1=CQ, dw10=(DEPTH - 1) << 16 | 1, dw11=1) == 0
        assert h.admin(1, prp1=SQ, dw10=(DEPTH - 1) << 16 | 1, dw11=1 << 16 | 1) == 0
        assert h.io(2) == 0

    def io(self):
        r = self.rnd
        self.h.submit(1, r.choice([0, 1, 2, 5, 8, 9, 12]), nsid=r.randrange(3), prp1=DATA, dw10=r.randrange(64), dw12=7)

    def admin(self):
        r = self.rnd
        self.h.submit(0, r.choice([0, 1, 4, 5, 6, 9, 0xa, 0xc]), nsid=1, prp1=DATA,
                      dw10=15 << 16 | r.randrange(3), dw11=r.randrange(2) << 16 | 1)

    def run(self):
        steps = [self.as_specified, self.as_specified, self.cc, self.multi, self.flr, self.power, self.command, self.reset, self.irqs, self.memory,
                 self.io, self.io, self.io, self.admin, self.admin]
        for _ in range(STEPS):
            self.rnd.choice(steps)()
        if self.rnd.randrange(2):
            self.as_specified()
        self.h.close()


def any_order(mappable):
    with Daemon("-m", ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))) as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", disable_mappable_bar0=not mappable)
        d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        d.rpc("bdev_delay_create", base_bdev_name="m", name="slow", avg_read_latency=300, p99_read_latency=20000,
              avg_write_latency=300, p99_write_latency=20000)
        d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, max_namespaces=4, enable_nssr=True)
        d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "slow"})
        d.mkdir("a")
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": d.path("a")})
        for seed in range(LIVES):
            try:
                Wild(d.path("a/cntrl"), seed).run()
            except Exception as e:
                raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}") from e
        h = Host(d.path("a/cntrl"))
        h.mem[DATA:DATA + 4096] = bytes(range(256)) * 16
        assert h.io(1) == 0 and h.io(0) == 0
        h.mem[DATA:DATA + 4096] = bytes(4096)
        assert h.io(2) == 0 and h.mem[DATA:DATA + 4096] == bytes(range(256)) * 16
        h.close()


def test_mapped_doorbells():
    any_order(True)


def test_trapped_doorbells():
    any_order(False)


if __name__ == "__main__":
    main([test_mapped_doorbells, test_trapped_doorbells])
