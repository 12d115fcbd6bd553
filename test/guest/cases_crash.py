# SPDX-License-Identifier: BSD-3-Clause
"""Resets, crashes and ends: of the guest, of QEMU, of belfryd."""
import hashlib
import os
import re
import signal
import time

from cases_io import verify
from peer import Disk, Skip

NS1 = "/dev/nvme0n1"
BLOCK = 4096


def busy(guest, disk=NS1):
    """Start I/O in the guest that goes on for a minute."""
    guest.wait_for(f"[ -b {disk} ]")
    guest.check(f"cd /tmp; fio --name=bg --filename={disk} --direct=1 "
                "--thread --ioengine=libaio --iodepth=32 --rw=randrw "
                "--bs=16k --offset=32M --size=16M --time_based --runtime=60 "
                ">/dev/null 2>&1 &")
    guest.wait_for("[ $(awk '{ print $5 }' /sys/block/"
                   f"{disk.removeprefix('/dev/')}/stat) -gt 100 ]")


def case_sigterm(env):
    """SIGTERM under I/O: all ends in order, soon, with status 0."""
    if not env.peer_is_belfry():
        raise Skip("there is no daemon")
    peer, export, disks, guest = env.main()
    busy(guest, disks[0].device)
    start = time.monotonic()
    status = peer.kill(signal.SIGTERM, 15)
    took = time.monotonic() - start
    left = [str(p.name) for p in (peer.path, export.socket) if p.exists()]
    guest.kill()
    env.drop_main()
    env.expect(status == 0, f"belfryd exited {status}: {peer.tail()}")
    env.expect(took < 5, f"belfryd took {took:.1f} s to end")
    env.expect(not left, f"sockets left behind: {left}")


def case_device_add(env):
    """QMP device_add below a root port, and the device goes with QEMU."""
    peer = env.peer()
    export = peer.export("plug", [Disk("aio", 64, 512)])
    *before, device = export.args
    port = {"driver": "pcie-root-port", "id": "port0", "slot": 1}
    for turn in ("first", "second"):
        with env.guest(turn, before + [port]) as guest:
            env.expect(guest.run(f"[ -e {NS1} ]")[0], "a disk before the add")
            guest.qmp("device_add", **{**device, "bus": "port0"})
            guest.wait_for(f"[ -b {NS1} ]", 30)
            verify(env, guest, NS1, 8)
            env.expect(not guest.complaints(),
                       f"kernel: {guest.complaints()[:1]}")
            guest.kill()
        peer.sound()


def case_system_reset(env):
    """The reset button, twice, while I/O is in flight."""
    export = env.peer().export("push", [Disk("aio", 64, 512)])
    with env.guest("vm", export.args) as guest:
        for _ in range(2):
            busy(guest)
            guest.system_reset()
            guest.wait_for(f"[ -b {NS1} ]")
            env.expect(not guest.complaints(),
                       f"kernel: {guest.complaints()[:1]}")
        verify(env, guest, NS1, 8)


def case_two_reactors(env):
    """Queues on two cores: interrupts, resets and namespaces under verified I/O, and a death."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip("it wants two cores")
    peer = env.peer(core_count=2)
    export = peer.export("wide", [Disk("aio", 128, 512), Disk("malloc", 64, 4096)])
    with env.guest("vm", export.args, smp=2) as guest:
        one, two = (guest.namespace(nsid) for nsid in (1, 2))
        nqn = "nqn.2024-01.io.belfry:wide"
        where = {q["thread"] for q in peer.rpc("nvmf_subsystem_get_qpairs", nqn=nqn) if q["qid"]}
        env.expect(len(where) == 2, f"queues only on {where}")
        for device in (one, two):
            verify(env, guest, device, 16, numjobs=2, offset_increment="16M", thread=1)
        done = [g["completed_nvme_io"] for g in peer.rpc("nvmf_get_stats")["poll_groups"]]
        env.expect(min(done) > 100, f"I/O by reactor: {done}")
        busy(guest, one)
        for _ in range(3):
            guest.check("nvme reset /dev/nvme0", 60)
        peer.rpc("nvmf_subsystem_remove_ns", nqn=nqn, nsid=2)
        guest.wait_for(f"! [ -b {two} ]", 30)
        verify(env, guest, one, 8, numjobs=2, offset_increment="64M", thread=1)
        guest.system_reset()
        guest.wait_for(f"[ -b {NS1} ]")
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
        busy(guest)
        guest.kill()
    peer.sound()
    with env.guest("second", export.args, smp=2) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        verify(env, guest, NS1, 4)


def case_kill_qemu(env):
    """kill -9 of QEMU under I/O; a new one on the same socket has the data."""
    peer = env.peer()
    disk = Disk("aio", 64, 512)
    export = peer.export("kill", [disk])
    with env.guest("first", export.args) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        want = guest.check("head -c 8388608 /dev/urandom >/tmp/r; "
                           f"dd if=/tmp/r of={NS1} bs=1M oflag=direct "
                           "conv=fsync; sha256sum </tmp/r").split()[-2]
        busy(guest)
        guest.kill()
    peer.sound()
    with open(disk.path, "rb") as file:
        got = hashlib.sha256(file.read(8 << 20)).hexdigest()
    env.expect(got == want, "the file does not hold what the guest flushed")
    with env.guest("second", export.args) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        got = guest.check(f"dd if={NS1} of=/tmp/r bs=1M count=8 iflag=direct; "
                          "sha256sum </tmp/r").split()[-2]
        env.expect(got == want, "the second guest reads something else")
        verify(env, guest, NS1, 4)


def acknowledged(text, workers):
    """The last number that each worker was told is durable."""
    last = [0] * workers
    for worker, seq in re.findall(r"^ACK (\d+) (\d+)\r?$", text, re.M):
        last[int(worker)] = int(seq)
    return last


def lost(path, size, last):
    """The first (worker, number) that the file should have and has not."""
    per_worker = size // BLOCK // len(last)
    with open(path, "rb") as file:
        for worker, until in enumerate(last):
            file.seek(worker * per_worker * BLOCK)
            for seq in range(1, until + 1):
                if file.read(BLOCK) != seq.to_bytes(8, "little") * 512:
                    return worker, seq
    return None


def durable(env, mode):
    """Kill whoever serves the disk; what was acknowledged is in the file."""
    workers = 4
    peer = env.peer()
    disk = Disk("aio", 128, 512)
    export = peer.export(mode, [disk])
    tool = (env.top / "seqwrite").read_bytes()
    with env.guest("vm", export.args,
                   files={"bin/seqwrite": (0o755, tool)}) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        guest.begin(f"seqwrite {NS1} {workers} {mode}")
        start = guest.serial.pos
        guest.serial.wait(r"^ACK 0 200\r?$", 60)
        try:
            status = peer.kill()
            env.expect(status == -signal.SIGKILL, f"belfryd ended: {status}")
        except Skip:
            guest.kill()
        time.sleep(0.5)             # late lines count: they were promised
        text = guest.serial.text[start:]
        guest.kill()
    last = acknowledged(text, workers)
    env.expect(min(last) > 0 and sum(last) >= 400, f"too little I/O: {last}")
    gone = lost(disk.path, disk.size, last)
    env.expect(not gone, f"acknowledged {last}, but of worker and number "
               f"{gone} the file has nothing")
    return peer, export, disk, last


def case_flush_kill(env):
    """kill -9 of belfryd: what was flushed is there; a new one takes over."""
    peer, export, disk, last = durable(env, "flush")
    if not peer.is_belfry:
        return
    peer.start()                    # the dead one's sockets are replaced
    export = peer.export("flush", [disk])
    with env.guest("again", export.args) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        out = guest.check(f"dd if={NS1} bs=4k skip={last[0] - 1} count=1 "
                          "iflag=direct 2>/dev/null | od -A n -t u8 -N 8")
        env.expect(int(out) == last[0], f"block {last[0]} reads as {out}")


def case_fua_kill(env):
    """kill -9 of belfryd: what was written with FUA is there."""
    durable(env, "fua")
