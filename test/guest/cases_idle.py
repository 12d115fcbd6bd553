# SPDX-License-Identifier: BSD-3-Clause
"""A guest that rests, in the three ways of belfryd to wait for it: what that costs, and that no doorbell is lost."""
import pathlib
import time

from cases_io import verify
from peer import Disk, Skip

DBBUF = 0x100   # Identify, OACS: Doorbell Buffer Config


def used(peer):
    """Processor time of all threads of the daemon, in seconds; how often it slept."""
    tasks = pathlib.Path(f"/proc/{peer.process.pid}/task").iterdir()
    ns = sum(int((task / "schedstat").read_text().split()[0])
             for task in tasks)
    reactors = peer.rpc("framework_get_reactors")["reactors"]
    return ns / 1e9, sum(r["sleeps"] for r in reactors)


def rest(peer, seconds=3):
    """The daemon's share of a core, and its sleeps, while nothing happens."""
    time.sleep(0.5)
    begin, (before, sleeps) = time.monotonic(), used(peer)
    time.sleep(seconds)
    after, slept = used(peer)
    return (after - before) / (time.monotonic() - begin), slept - sleeps


def idle(env, how, trapped, least, most):
    if not env.peer_is_belfry():
        raise Skip("it is about belfryd")
    peer = env.peer(idle=how)
    export = peer.export("idle", [Disk("malloc", 64, 512)],
                         disable_mappable_bar0=trapped)
    with env.guest("vm", export.args, smp=2) as guest:
        ns1 = guest.namespace(1)
        oacs = guest.json("nvme id-ctrl /dev/nvme0 -o json")["oacs"]
        env.expect(bool(oacs & DBBUF) == trapped, f"OACS {oacs:#x}")
        verify(env, guest, ns1, 8)
        share, sleeps = rest(peer)
        env.expect(least <= share <= most, f"{100 * share:.1f} % of a core")
        env.expect(bool(sleeps) == (how != "poll"), f"it slept {sleeps} times")
        # one command after each rest, on all queues
        begin = time.monotonic()
        guest.check("for i in $(seq 1 40); do taskset $((1 + i % 2)) dd "
                    f"if={ns1} of=/dev/null bs=4k count=1 skip=$i iflag=direct "
                    "2>/dev/null || exit 1; sleep 0.05; done", 60)
        # a lost one would cost the driver's 30 s
        env.expect(time.monotonic() - begin < 25, "an answer came late")
        verify(env, guest, ns1, 8, iodepth=1)
        guest.check("nvme reset /dev/nvme0")
        guest.wait_for(f"[ -b {ns1} ]")
        verify(env, guest, ns1, 4)
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
    env.note = f"{100 * share:.2f} % of a core at rest, {sleeps} sleeps in 3 s"


def case_idle_poll(env):
    """--idle poll never sleeps."""
    idle(env, "poll", False, 0.2, 1.1)


def case_idle_mapped(env):
    """The default: looks at mapped doorbells by a timer."""
    idle(env, None, False, 0, 0.08)


def case_idle_trapped(env):
    """Trapped doorbells: shadow doorbells, and nothing at all to do at rest."""
    idle(env, "adaptive", True, 0, 0.01)
