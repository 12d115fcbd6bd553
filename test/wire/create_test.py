#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A controller that cannot be made, for want of descriptors: its client is told, the next one is served."""
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import Client, Daemon, main  # noqa: E402

NQN = "nqn.2014-08.org.x:a"


def listen(d):
    path = d.mkdir("a")
    d.rpc("nvmf_create_transport", trtype="VFIOUSER")
    d.rpc("bdev_malloc_create", name="M", block_size=512, num_blocks=2048)
    d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, serial_number="S")
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "M"})
    d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": path})
    return path + "/cntrl"


def open_fds(pid):
    """When they have been the same for a while: the last client's go a little later than it."""
    last, since = None, time.monotonic()
    while time.monotonic() - since < 0.3:
        now = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.01)
    return last


def try_with(path, pid, spare):
    """A client while the daemon may open @spare more descriptors; "" when it was served."""
    used = open_fds(pid)
    free = [n for n in range(max(used) + 2 + spare) if n not in used]
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[spare], old[1]))
    try:
        Client(path, timeout=3).close()
        return ""
    except OSError as e:
        return str(e) or type(e).__name__
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)


def test_descriptors_run_out():
    with Daemon() as d:
        path = listen(d)
        Client(path, timeout=30).close()
        refused = [try_with(path, d.proc.pid, spare) for spare in (1, 2, 3)]
        assert any(refused), "the limit was never hit"
        for _ in range(3):
            Client(path, timeout=30).close()  # raises when nobody answers
        assert d.stop() == 0
    print("refused:", refused)


if __name__ == "__main__":
    main([test_descriptors_run_out])
