#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Mistakes of operators, and machines that lack something: a message names it, the exit code is right, nothing is left behind."""
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import io_test
from daemon import BELFRYD, Client, Daemon, die_with_us, main, raises, raises_errno, until
from nvme import CQ, DATA

NQN = "nqn.2024-01.io.example:disk"


def run(*args, **kw):
    return subprocess.run([os.path.abspath(BELFRYD), *args], capture_output=True, text=True, timeout=20, check=False, **kw)


def disk(d, name, size=1 << 20):
    with open(d.path(name), "wb") as f:
        f.truncate(size)
    return d.path(name)


def export(d, name):
    d.rpc("nvmf_create_transport", trtype="VFIOUSER")
    d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "VFIOUSER", "traddr": d.mkdir(name)})
    return d.path(name + "/cntrl")


def test_bad_start():
    """Sockets and files of the command line."""
    with Daemon() as d:
        d.stop()
        disk(d, "file")
        d.mkdir("dir")
        deep = d.path("x" * 100)
        for args, part in [(["-r", d.path("nodir/s")], "nodir/s"), (["-r", deep], "103 bytes"), (["-r", d.path("file")], "no socket"),
                           (["-r", d.path("dir")], "no socket"), (["-r", d.path("s"), "-r", d.path("file")], "no socket"),
                           (["-r", d.path("s"), "-c", d.path("dir")], "directory"), (["-r", d.path("s"), "-c", d.path("none")], "none")]:
            r = run(*args)
            assert r.returncode == 1 and part in r.stderr and args[-1] in r.stderr, (args, r)
            assert sorted(os.listdir(d.dir)) == ["dir", "file", "log"], (args, os.listdir(d.dir))


def test_shared_core():
    """Two daemons on a core are told of it, and serve."""
    core = str(min(os.sched_getaffinity(0)))
    with Daemon("-m", core) as d, Daemon("-m", core) as other:
        assert f"core {core}: another belfryd" in other.logged(), other.logged()
        assert d.rpc("bdev_get_bdevs") == other.rpc("bdev_get_bdevs") == []


def test_names():
    """What a name is refused for is read no more afterwards."""
    with Daemon() as d:
        for method, more in [("bdev_malloc_create", {"num_blocks": 8, "block_size": 512}), ("bdev_null_create", {"num_blocks": 8, "block_size": 512}),
                             ("bdev_aio_create", {"filename": disk(d, "disk")})]:
            for name in "", "a\nb", "\x7f", "x" * 256:
                raises(-32602, "'name'", d.rpc, method, name=name, **more)
            assert d.rpc(method, name="x" * 255, **more) == "x" * 255
            assert d.rpc(method.replace("create", "delete"), name="x" * 255) is True
        assert d.rpc("bdev_get_bdevs") == []


def test_nohup():
    """SIGHUP stops the daemon, but one that nohup(1) started."""
    with Daemon() as d:
        assert d.stop(signal.SIGHUP) == 0
        old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            d.start()
        finally:
            signal.signal(signal.SIGHUP, old)
        d.proc.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert d.rpc("bdev_get_bdevs") == [] and d.proc.poll() is None
        assert d.stop() == 0


def test_signals():
    """Those that stop it say so, what was completed is on the disk, and nothing is left; exit code 0. SIGUSR1 changes nothing."""
    for sig in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP:
        with Daemon() as d:
            h = io_test.export(d, "bdev_aio_create", name="disk", filename=disk(d, "disk"))
            h.mem[DATA:DATA + 4096] = b"bell" * 1024
            d.proc.send_signal(signal.SIGUSR1)
            until(lambda: "SIGUSR1: nothing to do" in d.logged())
            for i in range(12):
                h.submit(1, io_test.WRITE, nsid=1, prp1=DATA, dw10=8 * i, dw12=7)
            assert h.complete(1)[2] == 0
            d.proc.send_signal(sig)
            assert d.proc.wait(10) == 0, d.logged()
            with open(d.path("disk"), "rb") as f:
                written = f.read()
            # the first entries of the ring, which were never used before: with the phase bit they are completions
            status = [int.from_bytes(h.mem[CQ + 16 * i + 14:CQ + 16 * i + 16], "little") for i in range(12)]
            done = [x for x in status if x & 1]
            assert done and not any(x >> 1 for x in done) and written.count(b"bell" * 1024) >= len(done), (sig, status)
            assert os.listdir(d.path("a")) == [] and not os.path.exists(d.sock)
            assert re.search(rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z NOTICE: {sig.name}: stopping$", d.logged(), re.M), d.logged()
            h.close()


def limited(kind, n):
    def set_limit():
        die_with_us()
        resource.setrlimit(kind, (n, n))
    return set_limit


def test_few_files():
    """The limit is named at the start; who has to wait for a descriptor is served later; the log does not fill."""
    with Daemon() as d:
        d.stop()
        d.proc = subprocess.Popen([os.path.abspath(BELFRYD), "-r", d.sock], stderr=d.log, preexec_fn=limited(resource.RLIMIT_NOFILE, 64))
        d.wait_up()
        assert "64 files" in d.logged() and "LimitNOFILE" in d.logged(), d.logged()
        held = []
        for _ in range(80):
            s = socket.socket(socket.AF_UNIX)
            s.connect(d.sock)
            held.append(s)
        until(lambda: "cannot accept" in d.logged())
        time.sleep(0.5)
        assert d.logged().count("cannot accept") == 1, d.logged()
        for s in held:
            s.close()
        assert d.rpc("bdev_get_bdevs") == []


def test_no_address_space():
    with Daemon() as d:
        if os.environ.get("SANITIZE"):
            return  # their own reservations are larger
        d.stop()
        d.proc = subprocess.Popen([os.path.abspath(BELFRYD), "-r", d.sock], stderr=d.log, preexec_fn=limited(resource.RLIMIT_AS, 4 << 30))
        d.wait_up()
        path = export(d, "a")
        raises_errno(12, Client, path)
        until(lambda: "--arena-size" in d.logged())
        d.stop()
        d.proc = subprocess.Popen([os.path.abspath(BELFRYD), "-r", d.sock, "--arena-size", "1G"], stderr=d.log,
                                  preexec_fn=limited(resource.RLIMIT_AS, 4 << 30))
        d.wait_up()
        os.rmdir(d.path("a"))
        Client(export(d, "a")).close()


def test_file_in_use():
    """A file has one daemon that writes it, or several that read it."""
    with Daemon() as d, Daemon() as other:
        path = disk(d, "disk")
        d.rpc("bdev_aio_create", name="a", filename=path)
        for more in {}, {"readonly": True}, {"uuid": "5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54"}:
            raises(-16, path, other.rpc, "bdev_aio_create", name="b", filename=path, **more)
        raises(-17, "bdev a", d.rpc, "bdev_aio_create", name="b", filename=path)
        raises(-17, "bdev a", d.rpc, "bdev_aio_create", name="a", filename=disk(d, "another"))
        d.rpc("bdev_aio_delete", name="a")
        for x in d, other:
            x.rpc("bdev_aio_create", name="ro", filename=path, readonly=True)
        raises(-16, "readonly", d.rpc, "bdev_aio_create", name="b", filename=path, uuid="5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54")
        for x in d, other:
            x.rpc("bdev_aio_delete", name="ro")
        other.rpc("bdev_aio_create", name="b", filename=path)
        other.proc.kill()
        other.proc.wait()
        d.rpc("bdev_aio_create", name="a", filename=path)


LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4c00, 0x4c01, 0x4c82


def test_disk_in_use():
    """A block device that another has for itself, as a mount does, is not written."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR)
        name = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        os.close(control)
        loop = os.open(name, os.O_RDWR)
    except OSError:
        return  # no loop devices here
    with Daemon() as d:
        try:
            with open(disk(d, "disk"), "r+b") as f:
                fcntl.ioctl(loop, LOOP_SET_FD, f.fileno())
        except OSError:
            os.close(loop)
            return  # not for us
        try:
            mine = os.open(name, os.O_RDWR | os.O_EXCL)
            raises(-16, name, d.rpc, "bdev_aio_create", name="a", filename=name)
            assert d.rpc("bdev_aio_create", name="ro", filename=name, readonly=True) == "ro"
            d.rpc("bdev_aio_delete", name="ro")
            os.close(mine)
            assert d.rpc("bdev_aio_create", name="a", filename=name) == "a"
            raises_errno(16, os.open, name, os.O_RDWR | os.O_EXCL)
            d.rpc("bdev_aio_delete", name="a")
        finally:
            fcntl.ioctl(loop, LOOP_CLR_FD)
            os.close(loop)


def test_claims_are_named():
    with Daemon() as d:
        d.rpc("bdev_null_create", name="n", block_size=512, num_blocks=8)
        d.rpc("nvmf_create_subsystem", nqn=NQN)
        d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "n"})
        raises(-1, NQN, d.rpc, "bdev_error_create", base_name="n")
        d.rpc("nvmf_create_subsystem", nqn=NQN + "2")
        raises(-32602, NQN, d.rpc, "nvmf_subsystem_add_ns", nqn=NQN + "2", namespace={"bdev_name": "n"})


def test_not_root():
    """Who may not give a socket away is told which member asks for it."""
    if os.geteuid():
        return
    with Daemon() as d:
        d.stop()
        os.chmod(d.dir, 0o777)
        d.mkdir("a")
        os.chmod(d.path("a"), 0o777)
        # the build may be where others cannot look
        shutil.copy(BELFRYD, d.path("belfryd"))
        d.proc = subprocess.Popen([d.path("belfryd"), "-r", d.sock], stderr=d.log, preexec_fn=die_with_us, user=65534, group=65534,
                                  extra_groups=[])
        d.wait_up()
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        add = {"nqn": NQN, "listen_address": {"trtype": "VFIOUSER", "traddr": d.path("a")}}
        raises(-32602, "'owner'", d.rpc, "nvmf_subsystem_add_listener", owner="root", **add)
        assert os.listdir(d.path("a")) == []
        assert d.rpc("nvmf_subsystem_add_listener", **add) is True
        raises(-13, "readonly", d.rpc, "bdev_aio_create", name="b", filename="/etc/passwd")


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
