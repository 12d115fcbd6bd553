#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""I/O against the control plane: statistics, devices that go or hang, the end of the daemon with commands in flight."""
import base64
import os
import struct
import time

from daemon import Daemon, main, raises, until
from nvme import DATA, Host

NQN = "nqn.2024-01.io.example:disk"
WRITE, READ, FLUSH = 1, 2, 0


def export(d, create, **params):
    d.rpc("nvmf_create_transport", trtype="VFIOUSER")
    name = d.rpc(create, **params)
    d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, max_namespaces=4)
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": name})
    d.mkdir("a")
    d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": d.path("a")})
    return Host(d.path("a/cntrl"))


def export_error(d):
    d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
    return export(d, "bdev_error_create", base_name="m")


def inject(d, io_type, error_type, num=1):
    d.rpc("bdev_error_inject_error", name="EE_m", io_type=io_type, error_type=error_type, num=num)


def test_statistics_are_true():
    with Daemon() as d:
        h = export(d, "bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        h.mem[DATA:DATA + 4096] = os.urandom(4096)
        wrote = h.mem[DATA:DATA + 4096]
        for i in range(5):
            assert h.io(WRITE, lba=8 * i) == 0
        h.mem[DATA:DATA + 4096] = bytes(4096)
        for i in range(3):
            assert h.io(READ, lba=8 * i) == 0
        assert h.mem[DATA:DATA + 4096] == wrote
        s = d.rpc("bdev_get_iostat", names=["m"], reset_mode="all")["bdevs"][0]
        assert (s["num_write_ops"], s["bytes_written"], s["num_read_ops"], s["bytes_read"]) == (5, 20480, 3, 12288), s
        assert d.rpc("bdev_get_iostat", names=["m"])["bdevs"][0]["num_write_ops"] == 0
        groups = d.rpc("nvmf_get_stats")["poll_groups"]
        for key, want in ("completed_nvme_io", 8), ("current_io_qpairs", 1), ("current_admin_qpairs", 1):
            assert sum(g[key] for g in groups) == want, groups
        polled = d.rpc("thread_get_pollers")["threads"][0]["active_pollers"][0]
        rounds = d.rpc("framework_get_reactors")["reactors"][0]["rounds"]
        assert 8 <= polled["busy_count"] <= polled["run_count"] <= rounds, (polled, rounds)
        assert [q["qid"] for q in d.rpc("nvmf_subsystem_get_qpairs", nqn=NQN)] == [0, 1]
        q = d.rpc("nvmf_subsystem_get_qpairs", nqn=NQN)[1]
        assert q["listen_address"]["traddr"] == d.path("a") and q["depth"] == 16, q
        assert d.rpc("nvmf_subsystem_get_controllers", nqn=NQN)[0]["num_io_qpairs"] == 1
        assert h.admin(0, dw10=1) == 0
        until(lambda: d.rpc("nvmf_subsystem_get_controllers", nqn=NQN)[0]["num_io_qpairs"] == 0)
        client = d.rpc("belfry_get_clients")[0]["client"]
        assert client["quota"]["extents"]["used"] == 1 and client["quota"]["extents"]["limit"] > 1, client
        h.close()


def histogram(d, name):
    """(first value, count) of each bucket that has one, as a program that knows SPDK's layout reads it."""
    h = d.rpc("bdev_get_histogram", name=name)
    assert h["tsc_rate"] == 10 ** 9
    g, counts = h["granularity"], [n for n, in struct.iter_unpack("<Q", base64.b64decode(h["histogram"], validate=True))]
    starts = [(1 << g + r - 1) + (i << r - 1) if r else i for r in range(h["min_range"], h["max_range"] + 1) for i in range(1 << g)]
    assert len(starts) == len(counts), h
    return [(s, n) for s, n in zip(starts, counts) if n]


def test_histograms():
    with Daemon() as d:
        d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        h = export(d, "bdev_delay_create", name="slow", base_bdev_name="m", avg_read_latency=3000, p99_read_latency=3000,
                   avg_write_latency=0, p99_write_latency=0)
        assert h.io(READ) == 0
        raises(-2, "slow", d.rpc, "bdev_get_histogram", name="slow")
        for granularity in 0, 7, 10:
            assert d.rpc("bdev_enable_histogram", name="slow", enable=True, opc="read", granularity=granularity) is True
            assert not histogram(d, "slow")
            for i in range(5):
                assert h.io(READ, lba=8 * i) == 0 and h.io(WRITE, lba=8 * i) == 0
            found = histogram(d, "slow")
            slack = 1 + 1 / (1 << granularity)
            assert sum(n for _, n in found) == 5 and all(2.9e6 / slack < s < 5e9 for s, _ in found), found
        d.rpc("bdev_enable_histogram", name="slow", enable=True)
        for op in READ, WRITE, WRITE:
            assert h.io(op) == 0
        assert h.io(READ, lba=1 << 31) != 0
        assert sum(n for _, n in histogram(d, "slow")) == 3
        # while it is switched, I/O goes on
        for i in range(20):
            h.submit(1, READ, nsid=1, prp1=DATA, dw12=7)
            d.rpc("bdev_enable_histogram", name="slow", enable=i % 2 == 0)
            assert h.complete(1)[2] == 0
        raises(-2, "slow", d.rpc, "bdev_get_histogram", name="slow")
        d.rpc("bdev_enable_histogram", name="slow", enable=True)
        d.rpc("bdev_delay_delete", name="slow")
        raises(-19, "slow", d.rpc, "bdev_get_histogram", name="slow")
        h.close()


def test_latency_is_true():
    with Daemon() as d:
        d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        h = export(d, "bdev_delay_create", name="slow", base_bdev_name="m", avg_read_latency=5000,
                   p99_read_latency=5000, avg_write_latency=20000, p99_write_latency=20000)
        assert h.io(WRITE) == h.io(WRITE) == h.io(READ) == 0
        s = d.rpc("bdev_get_iostat", names=["slow"])["bdevs"][0]
        assert s["write_latency_ticks"] >= 38e6 and s["max_write_latency_ticks"] >= s["min_write_latency_ticks"] >= 19e6, s
        assert 4e6 < s["read_latency_ticks"] < 19e6, s
        h.close()


def test_errors_are_counted():
    with Daemon() as d:
        h = export_error(d)
        inject(d, "read", "failure", 2)
        assert h.io(READ) != 0 and h.io(READ) != 0 and h.io(READ) == 0
        s = d.rpc("bdev_get_iostat", names=["EE_m"])["bdevs"][0]
        assert s["io_error"] == {"read": 2} and s["num_read_ops"] == 1, s
        h.close()


def test_namespaces_come_and_go():
    with Daemon() as d:
        h = export(d, "bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        h.submit(0, 0x0c)  # an Asynchronous Event Request
        h.admin(9, dw10=0x0b, dw11=0x100)
        d.rpc("bdev_malloc_create", name="m2", block_size=512, num_blocks=64)
        assert h.io(READ, nsid=2) != 0
        d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "m2"})
        assert h.complete(0)[1] == 0x040002
        assert h.io(READ, nsid=2) == 0
        assert d.rpc("bdev_malloc_delete", name="m") is True
        assert h.io(READ, nsid=1) != 0 and h.io(READ, nsid=2) == 0
        assert d.rpc("nvmf_subsystem_remove_ns", nqn=NQN, nsid=2) is True
        assert h.io(READ, nsid=2) != 0
        h.close()


HELD = dict(avg_read_latency=5000000, p99_read_latency=5000000, avg_write_latency=5000000,
            p99_write_latency=5000000)


def held(d):
    """A delay device has one write, for longer than anything may take."""
    d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
    h = export(d, "bdev_delay_create", name="slow", base_bdev_name="m", **HELD)
    h.submit(1, WRITE, nsid=1, prp1=DATA, dw12=7)
    until(lambda: d.rpc("bdev_get_iostat", names=["slow"])["bdevs"][0]["queue_depth"] == 1)
    return h, time.monotonic()


def test_stop_ends_what_is_held():
    with Daemon() as d:
        h, start = held(d)
        assert d.stop() == 0, d.logged()
        assert time.monotonic() - start < 3
        h.close()


def test_listener_ends_what_is_held():
    with Daemon() as d:
        h, start = held(d)
        d.rpc("nvmf_subsystem_remove_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": d.path("a")})
        assert time.monotonic() - start < 3
        assert h.gone()
        h.close()


def test_client_dies_in_flight():
    """The next client is served when the last I/O of the one before has ended."""
    with Daemon() as d:
        h, start = held(d)
        h.close()
        h = Host(d.path("a/cntrl"))
        assert time.monotonic() - start < 3
        assert d.rpc("bdev_get_iostat", names=["slow"])["bdevs"][0]["queue_depth"] == 0
        h.close()


def test_stop_with_a_pending_error():
    with Daemon() as d:
        h = export_error(d)
        inject(d, "write", "pending")
        h.submit(1, WRITE, nsid=1, prp1=DATA, dw12=7)
        until(lambda: d.rpc("bdev_get_iostat", names=["EE_m"])["bdevs"][0]["queue_depth"] == 1)
        start = time.monotonic()
        assert d.stop() == 0, d.logged()
        assert time.monotonic() - start < 3
        assert os.listdir(d.path("a")) == []
        h.close()


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
