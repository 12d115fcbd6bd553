#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What clients that rest cost, and that their first command is seen. Processor time, so other work matters little."""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import Daemon, main  # noqa: E402
from nvme import Host, PAGE  # noqa: E402

NQN = "nqn.2014-08.org.x:"
READ = 2
QUEUES = 100


def listen(d, name, trapped):
    path = d.mkdir(name)
    d.rpc("nvmf_create_subsystem", nqn=NQN + name, allow_any_host=True, serial_number="S")
    d.rpc("bdev_null_create", name=name, block_size=512, num_blocks=2048)
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN + name, namespace={"bdev_name": name})
    d.rpc("nvmf_subsystem_add_listener", nqn=NQN + name, listen_address={"trtype": "VFIOUSER", "traddr": path},
          disable_mappable_bar0=trapped)
    return Host(path + "/cntrl")


def seconds(d):
    tasks = f"/proc/{d.proc.pid}/task"
    return sum(int(open(f"{tasks}/{t}/schedstat", encoding="ascii").read().split()[0]) for t in os.listdir(tasks)) / 1e9


def share(d, span=1.5):
    """Of a core, while all rest."""
    time.sleep(0.3)
    begin, before = time.monotonic(), seconds(d)
    time.sleep(span)
    return (seconds(d) - before) / (time.monotonic() - begin)


def add_queues(h):
    for q in range(2, QUEUES + 1):
        assert h.admin(5, prp1=(q + 16) * PAGE, dw10=15 << 16 | q, dw11=1) == 0
        assert h.admin(1, prp1=(q + 16 + QUEUES) * PAGE, dw10=15 << 16 | q, dw11=q << 16 | 1) == 0


def measured(trapped):
    """Shares with no client, with one, with 20 of 100 queues each; the daemon served the last queue of all afterwards."""
    with Daemon() as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", max_io_qpairs_per_ctrlr=QUEUES)
        none = share(d)
        hosts = [listen(d, "a", trapped)]
        one = share(d)
        for i in range(1, 20):
            hosts.append(listen(d, "b%d" % i, trapped))
        for h in hosts:
            add_queues(h)
        many = share(d)
        for h in hosts[::-1]:
            time.sleep(0.01)
            assert h.io(READ) == 0
        h = hosts[-1]
        q, base = QUEUES, (QUEUES + 16 + QUEUES) * PAGE
        h.mem[base:base + 64] = struct.pack("<BBHIQQQQIIIIII", READ, 0, 7, 1, 0, 0, 5 * PAGE, 0, 0, 0, 7, 0, 0, 0)
        time.sleep(0.05)
        h.write(0, 0x1000 + 8 * q, struct.pack("<I", 1))
        end = time.monotonic() + 10
        while not h.mem[(q + 16) * PAGE + 14] & 1:
            assert time.monotonic() < end, "no completion"
            time.sleep(0.001)
        for h in hosts:
            h.close()
    print("%s: no client %.2f %%, one %.2f %%, 2000 queues %.2f %% of a core" %
          ("trapped" if trapped else "mapped", 100 * none, 100 * one, 100 * many))
    return none, one, many


def test_mapped():
    """A timer is what it costs, not queues."""
    none, one, many = measured(False)
    assert none < 0.005, none
    assert one < 0.1, one  # of a virtual machine's timers; 0.3 % elsewhere
    assert many < 1.7 * one + 0.005, (one, many)


def test_trapped():
    """Nothing but a tick now and then."""
    none, one, many = measured(True)
    assert none < 0.005 and one < 0.005, (none, one)
    assert many < 0.01, many


def wakes(d):
    """How often each reactor went to sleep in a second in which all rest."""
    time.sleep(0.3)
    before = [r["sleeps"] for r in d.rpc("framework_get_reactors")["reactors"]]
    time.sleep(1)
    return [r["sleeps"] - b for r, b in zip(d.rpc("framework_get_reactors")["reactors"], before)]


LOOKS = 500  # a second, of who looks at mapped doorbells; 1100 where the machine keeps time


def create(h, q):
    assert h.admin(5, prp1=(q + 16) * PAGE, dw10=15 << 16 | q, dw11=1) == 0
    assert h.admin(1, prp1=(q + 32) * PAGE, dw10=15 << 16 | q, dw11=q << 16 | 1) == 0


def test_only_owners_look():
    """Mapped doorbells are looked at by the reactors that own queues of such a controller, by no others."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return
    with Daemon("-m", "[%d,%d]" % tuple(cores)) as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        assert max(wakes(d)) < LOOKS / 5
        hosts = [listen(d, "trapped", True)]
        for q in range(2, 6):
            create(hosts[0], q)
        trapped = wakes(d)
        assert max(trapped) < LOOKS / 5, trapped  # queues on both, none of them mapped
        for q in range(1, 6):  # so that the next ones are placed anew
            assert hosts[0].admin(0, dw10=q) == 0 and hosts[0].admin(4, dw10=q) == 0
        h = listen(d, "mapped", False)
        hosts.append(h)
        assert h.admin(0, dw10=1) == 0 and h.admin(4, dw10=1) == 0
        admin = wakes(d)
        assert max(admin) > LOOKS and min(admin) < LOOKS / 5, admin  # home has the admin queue
        for q in (1, 2, 3, 4):
            create(h, q)
        both = wakes(d)
        assert min(both) > LOOKS, both
        for q in (1, 2, 3, 4):
            assert h.admin(0, dw10=q) == 0 and h.admin(4, dw10=q) == 0
        again = wakes(d)
        assert max(again) > LOOKS and min(again) < LOOKS / 5, again
        for host in hosts:
            host.close()
        none = wakes(d)
        assert max(none) < LOOKS / 5, none
    print("sleeps a second: trapped %s, mapped %s, with I/O queues %s, without %s, no client %s" %
          (trapped, admin, both, again, none))


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
