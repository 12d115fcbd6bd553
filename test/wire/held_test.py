#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""I/O that is held for long, at a limit, by a delay or an error device, in stacks: it holds up nobody else."""
import struct
import time

from daemon import Daemon, main, until
from io_test import NQN, READ, WRITE
from nvme import DATA, Host

LONG = 60 * 10**6
SOON = 5  # s; LONG is far more
DEPTH = 8


class Held(Daemon):
    """Each of @stack is above the one before it; the first stands on memory."""

    def __init__(self, *stack):
        super().__init__()
        self.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=32768)
        top = "m"
        for i, (kind, arg) in enumerate(stack):
            if kind == "limit":
                assert self.rpc("bdev_set_qos_limit", name=top, rw_ios_per_sec=arg)
            elif kind == "delay":
                p = {f"{a}_{b}_latency": arg for a in ("avg", "p99") for b in ("read", "write")}
                top = self.rpc("bdev_delay_create", name=f"d{i}", base_bdev_name=top, **p)
            else:
                self.rpc("bdev_error_create", base_name=top)
                top = "EE_" + top
                self.rpc("bdev_error_inject_error", name=top, io_type="all", error_type="pending", num=arg)
        self.top = top
        self.h = self.export()

    def export(self):
        self.rpc("nvmf_create_transport", trtype="VFIOUSER")
        self.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        self.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": self.top})
        self.mkdir("a")
        self.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": self.path("a")})
        return Host(self.path("a/cntrl"))

    def held(self):
        return self.rpc("bdev_get_iostat", names=[self.top])["bdevs"][0]["queue_depth"]

    def fill(self, h):
        for i in range(DEPTH):
            h.submit(1, WRITE if i % 2 else READ, nsid=1, prp1=DATA, dw12=7)
        until(lambda: self.held() >= DEPTH - 1)


STACKS = {
    "delay": [("delay", LONG)],
    "error": [("error", 1 << 31)],
    "limit": [("limit", 1)],
    "delay above a limit": [("limit", 1), ("delay", LONG)],
    "error above a limit": [("limit", 1), ("error", 1)],
    "delay above error": [("error", 1 << 31), ("delay", LONG)],
    "a limit above both": [("error", 1 << 31), ("delay", LONG), ("limit", 1)],
}


def soon(what, start):
    took = time.monotonic() - start
    print(f"    {what}: {took * 1000:.0f} ms")
    assert took < SOON, what


def test_resets_and_ends():
    for name, stack in STACKS.items():
        with Held(*stack) as d:
            d.fill(d.h)
            start = time.monotonic()
            d.h.write(0, 0x14, bytes(4))  # CC.EN
            until(lambda: not d.h.read32(0x1c) & 1)
            soon(f"{name}: controller reset", start)
            assert d.held() == 0
            d.h.close()
            h = Host(d.path("a/cntrl"))
            d.fill(h)
            start = time.monotonic()
            h.close()
            h = Host(d.path("a/cntrl"))
            soon(f"{name}: the next client", start)
            assert d.held() == 0
            d.fill(h)
            start = time.monotonic()
            assert h.admin(0, dw10=1) == 0
            soon(f"{name}: queue deletion", start)
            assert d.held() == 0
            h.close()


def test_unmap():
    """After 4 s with an answer that is owed the controller fails, and that ends what is held."""
    for name in "delay", "delay above a limit":
        with Held(*STACKS[name]) as d:
            d.h.map(0, 1 << 20, iova=1 << 30)
            for _ in range(DEPTH):
                d.h.submit(1, READ, nsid=1, prp1=(1 << 30) + DATA, dw12=7)
            until(lambda: d.held() == DEPTH)
            start = time.monotonic()
            d.h.call(3, struct.pack("<IIQQ", 24, 0, 1 << 30, 1 << 20))
            took = time.monotonic() - start
            assert 3 < took < 3 + SOON, took
            assert d.h.read32(0x1c) & 2, "CSTS.CFS"
            assert d.held() == 0
            d.h.close()


if __name__ == "__main__":
    main([t for n, t in list(globals().items()) if n.startswith("test_")])
