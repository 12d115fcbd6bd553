#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""belfryd as its operator sees it: start, stop, configuration, listeners and their clients."""
import errno
import json
import mmap
import os
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

from daemon import BELFRYD, Client, Daemon, RpcError, main, raises, raises_errno, until
from nvme import DATA, Host

NQN = "nqn.2024-01.io.example:disk"


def address(d, name):
    return {"trtype": "VFIOUSER", "traddr": d.path(name), "trsvcid": "0"}


def export(d, *dirs, **transport):
    """A null bdev behind listeners in these directories."""
    d.rpc("nvmf_create_transport", trtype="VFIOUSER", **transport)
    d.rpc("bdev_null_create", name="n0", block_size=512, num_blocks=20480)
    d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    d.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "n0"})
    for name in dirs:
        d.mkdir(name)
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address(d, name))


def run(*args, timeout=20, **kw):
    return subprocess.run([os.path.abspath(BELFRYD), *args], capture_output=True, text=True, timeout=timeout,
                          check=False, **kw)


def test_start_and_stop():
    with Daemon() as d:
        assert stat.S_IMODE(os.stat(d.sock).st_mode) == 0o600
        assert d.stop() == 0
        assert os.listdir(d.dir) == ["log"], os.listdir(d.dir)


def test_two_sockets():
    with Daemon() as d:
        d.stop()
        d.start("-r", d.path("two"))
        first, d.sock = d.sock, d.path("two")
        assert d.rpc("spdk_get_version")["version"].startswith("Belfry")
        d.sock = first
        assert d.stop(signal.SIGINT) == 0
        assert os.listdir(d.dir) == ["log"]


def test_second_daemon():
    with Daemon() as d:
        second = run("-r", d.sock)
        assert second.returncode == 1 and d.sock in second.stderr and "another daemon" in second.stderr
        assert d.rpc("bdev_get_bdevs") == []


def test_dead_daemon_is_replaced():
    with Daemon() as d:
        export(d, "a")
        d.stop(signal.SIGKILL)
        assert os.path.exists(d.sock) and os.path.exists(d.path("a/cntrl"))
        d.start()
        os.mkdir(d.path("b"))
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        d.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address(d, "a"))
        Client(d.path("a/cntrl")).close()


def test_usage():
    for args, part in [(["-m", "0x"], "-m 0x"), (["-m", "1-0"], "backwards"), (["-m", "0,0"], "twice"),
                       (["-m", "4000"], "4000"), (["-m", "all"], "all"), (["-m", "[0"], "[0"), (["-m", "0]"], "0]"),
                       (["-m", "[0]1"], "[0]1"), (["--idle", "never"], "poll or adaptive"),
                       (["-L", "LOUD"], "DEBUG"), (["--log-flag", "nvmf"], "vfio_user"), (["--arena-size", "1"], "256G"), (["--arena-size", "512MiB"], "256G"), (["--arena-size", "65TB"], "256G"), (["--spin-us", "0"], "--spin-us"),
                       (["-r", "a", "-r", "b", "-r", "c"], "third"), (["extra"], "extra"), (["--nope"], "nope")]:
        r = run(*args)
        assert r.returncode == 2 and part in r.stderr, (args, r)
    assert run("--version").stdout.startswith("belfryd ")
    assert "--wait-for-rpc" in run("--help").stdout


def test_log_flags():
    """DEBUG shows what was asked for, and no more: of each part something is said."""
    said = {"bdev": "bdev n0: opened, 1 users", "ioas": "map 0, 0x100000 bytes", "nvme": "enabled, admin queues", "rpc": "rpc: bdev_null_create",
            "target": ": listens on ", "vfio_user": "command 2, "}
    for flags in [], ["bdev", "target"], ["rpc"], ["ioas", "nvme", "vfio_user"], ["all"]:
        with Daemon("-L", "DEBUG", *(a for f in flags for a in ("--log-flag", f))) as d:
            export(d, "a")
            Host(d.path("a/cntrl")).close()
            text = d.logged()
            for name, part in said.items():
                assert (part in text) == (name in flags or flags == ["all"]), (flags, name, text)
            d.rpc("log_clear_flag", flag="all")
            before = d.logged()
            d.rpc("bdev_null_create", name="m", block_size=512, num_blocks=64)
            assert d.logged() == before


def test_idle():
    """A daemon without clients sleeps, but when it was told not to."""
    for args, sleeps in [(["-m", "[0]"], True), (["--idle", "adaptive", "--spin-us", "50"], True),
                         (["--idle", "poll"], False)]:
        with Daemon(*args) as d:
            before = d.rpc("framework_get_reactors")["reactors"][0]
            time.sleep(0.5)
            after = d.rpc("framework_get_reactors")["reactors"][0]
            assert after["in_interrupt"] is sleeps, (args, after)
            assert (after["sleeps"] > before["sleeps"]) is sleeps, (args, before, after)
    bad = run("--idle", "poll", "--spin-us", "5")
    assert bad.returncode == 2 and "--spin-us" in bad.stderr, bad


def notify_socket(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(name)
    s.settimeout(10)
    return s


def test_notify():
    for name, env in [("path", "path"), ("\0belfry-test-%d" % os.getpid(), "@belfry-test-%d" % os.getpid())]:
        with Daemon() as d:
            d.stop()
            name, env = (d.path(name), d.path(env)) if env == "path" else (name, env)
            with notify_socket(name) as s:
                d.start(env={"NOTIFY_SOCKET": env})
                assert b"READY=1" in s.recv(256)
                d.proc.terminate()
                assert b"STOPPING=1" in s.recv(256)
                assert d.proc.wait(10) == 0


def test_wait_for_rpc():
    with Daemon("--wait-for-rpc", wait=False) as d:
        until(lambda: os.path.exists(d.sock))
        raises(-1, "framework_start_init", d.rpc, "bdev_get_bdevs")
        names = d.rpc("rpc_get_methods", current=True)
        assert "framework_start_init" in names and "bdev_get_bdevs" not in names
        waited = []
        t = threading.Thread(target=lambda: waited.append(d.rpc("framework_wait_init")))
        t.start()
        time.sleep(0.05)
        assert not waited
        assert d.rpc("bdev_set_options", bdev_io_pool_size=65535, bdev_io_cache_size=256) is True
        assert d.rpc("nvmf_set_config", discovery_filter="match_any") is True
        assert d.rpc("framework_start_init") is True
        t.join(10)
        assert waited == [True]
        raises(-1, "framework_start_init", d.rpc, "framework_start_init")
        assert d.rpc("bdev_get_bdevs") == []


def test_requests_wait_for_the_start():
    """Whoever comes while the daemon starts is not told to call framework_start_init."""
    with Daemon("--wait-for-rpc", wait=False) as d:
        until(lambda: os.path.exists(d.sock))
        got = d.raw(b'{"id":1,"method":"framework_start_init"}'
                    b'{"id":2,"method":"bdev_null_create","params":{"name":"n","block_size":512,"num_blocks":8}}'
                    b'{"id":3,"method":"nvmf_create_transport","params":{"trtype":"VFIOUSER"}}', 3)
        assert sorted((r["id"], r.get("result")) for r in got) == [(1, True), (2, "n"), (3, True)], got
    with Daemon("--wait-for-rpc", wait=False) as d:  # and nobody who waits keeps it from going
        until(lambda: os.path.exists(d.sock))
        assert d.stop() == 0


def test_config_reaches_the_socket():
    """Mode, group and PCI ids of a listener, after a restart with what was saved."""
    with Daemon() as d:
        export(d, "a")
        d.mkdir("b")
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address(d, "b"), mode="0660", owner="0",
              group="daemon", pci_vendor_id="0x1b36", pci_device_id=16)
        with open(d.path("config"), "w", encoding="utf-8") as f:
            f.write(d.save())
        assert d.stop() == 0
        d.start("-c", d.path("config"))
        st = os.stat(d.path("b/cntrl"))
        assert stat.S_IMODE(st.st_mode) == 0o660 and st.st_gid == 1, st
        c = Client(d.path("b/cntrl"))
        assert struct.unpack("<HH", c.read(c.CONFIG, 0, 4)) == (0x1b36, 16)
        c.close()


def test_bad_configs():
    null = {"method": "bdev_null_create", "params": {"name": "n0", "block_size": 512, "num_blocks": 8}}
    bad = [("{", "line 1"), ("[]", "'subsystems'"), ('{"subsystems": {}}', "'subsystems'"),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": {}}]}), "'config'"),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "conf": [null]}]}), 'subsystem "bdev": unknown member \'conf\''),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": [null]}, 1]}), "'subsystems' 1"), ('{"subsystems": [{}]}', "'subsystems' 0"),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": [null, null]}]}),
            'subsystem "bdev", entry 1, bdev_null_create: File exists'),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": [{"method": "nosuch"}]}]}),
            "entry 0, nosuch: Method not found"),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": [{"params": {}}]}]}), "'method'"),
           (json.dumps({"subsystems": [{"subsystem": "bdev", "config": [dict(null, x=1)]}]}), "'x'")]
    for text, part in bad:
        with Daemon() as d:
            d.stop()
            with open(d.path("config"), "w", encoding="utf-8") as f:
                f.write(text)
            r = run("-r", d.sock, "-c", d.path("config"))
            assert r.returncode == 1 and d.path("config") in r.stderr and part in r.stderr, (text, r)
            assert sorted(os.listdir(d.dir)) == ["config", "log"]
    assert run("-r", "/nonexistent/s").returncode == 1
    r = run("-r", "sock", "-c", "/nonexistent/config")
    assert r.returncode == 1 and "/nonexistent/config: No such file" in r.stderr and "belfryctl save" in r.stderr and not os.path.exists("sock")


def test_client():
    with Daemon() as d:
        export(d, "a")
        c = Client(d.path("a/cntrl"))
        assert struct.unpack("<HH", c.read(c.CONFIG, 0, 4)) == (0x4e58, 1)
        assert c.read(c.CONFIG, 9, 3) == bytes([2, 8, 1])  # NVMe
        cap = struct.unpack("<Q", c.read(c.BAR0, 0, 8))[0]
        assert cap & 0xffff == 1023 and cap >> 37 & 1, hex(cap)
        ctrls = d.rpc("nvmf_subsystem_get_controllers", nqn=NQN)
        assert len(ctrls) == 1 and ctrls[0]["cntrltype"] == "io", ctrls
        seen = d.rpc("belfry_get_clients")[0]
        assert seen["connected"] and seen["client"]["pid"] == os.getpid() and seen["client"]["mode"] == "legacy"
        assert sum(g["current_admin_qpairs"] for g in d.rpc("nvmf_get_stats")["poll_groups"]) == 1
        # one client at a time
        raises_errno(errno.EBUSY, Client, d.path("a/cntrl"))
        # resets are answered, and leave a working device
        c.call(c.RESET)
        assert c.read32(0x1c) == 0
        pcie = c.read(c.CONFIG, 0x34, 1)[0]
        while c.read(c.CONFIG, pcie, 1)[0] != 0x10:
            pcie = c.read(c.CONFIG, pcie + 1, 1)[0]
        c.write(c.CONFIG, 4, struct.pack("<H", 0x406))
        control = struct.unpack("<H", c.read(c.CONFIG, pcie + 8, 2))[0]
        c.write(c.CONFIG, pcie + 8, struct.pack("<H", control | 0x8000))
        assert c.read(c.CONFIG, 4, 2) == b"\0\0"
        assert struct.unpack("<Q", c.read(c.BAR0, 0, 8))[0] == cap
        c.close()
        until(lambda: d.rpc("nvmf_subsystem_get_controllers", nqn=NQN) == [])
        Client(d.path("a/cntrl")).close()


def test_bar_is_deaf_in_d3hot():
    with Daemon() as d:
        export(d, "a")
        c = Client(d.path("a/cntrl"))
        pm = c.read(c.CONFIG, 0x34, 1)[0]
        while c.read(c.CONFIG, pm, 1)[0] != 1:
            pm = c.read(c.CONFIG, pm + 1, 1)[0]
        vs = c.read32(8)
        c.write(c.CONFIG, pm + 4, b"\3\0")
        assert c.read32(8) == 0xffffffff
        c.write(c.CONFIG, pm + 4, b"\0\0")
        assert c.read32(8) == vs != 0xffffffff
        c.close()


def test_hosts():
    with Daemon() as d:
        export(d, "a")
        path = d.path("a/cntrl")
        c = Client(path)
        d.rpc("nvmf_subsystem_allow_any_host", nqn=NQN, allow_any_host=False)
        assert c.gone()
        c.close()
        raises_errno(errno.EACCES, Client, path)
        d.rpc("nvmf_subsystem_add_host", nqn=NQN, host="nqn.2024-01.io.example:host")
        c = Client(path)
        raises(-32602, "already", d.rpc, "nvmf_subsystem_add_host", nqn=NQN, host="nqn.2024-01.io.example:host")
        raises(-32602, "dhchap_key", d.rpc, "nvmf_subsystem_add_host", nqn=NQN, host="nqn.2024-01.io.example:2",
               dhchap_key="secret")
        d.rpc("nvmf_subsystem_remove_host", nqn=NQN, host="nqn.2024-01.io.example:host")
        assert c.gone()
        c.close()
        raises_errno(errno.EACCES, Client, path)


def test_listener_goes():
    with Daemon() as d:
        export(d, "a", "b")
        a, b = Client(d.path("a/cntrl")), Client(d.path("b/cntrl"))
        assert d.rpc("nvmf_subsystem_remove_listener", nqn=NQN, listen_address=address(d, "a")) is True
        assert a.gone() and not os.path.exists(d.path("a/cntrl"))
        b.read32(8)
        assert len(d.rpc("nvmf_subsystem_get_listeners", nqn=NQN)) == 1
        raises(-32602, "no such listener", d.rpc, "nvmf_subsystem_remove_listener", nqn=NQN,
               listen_address=address(d, "a"))
        assert d.rpc("nvmf_delete_subsystem", nqn=NQN) is True
        assert b.gone() and not os.path.exists(d.path("b/cntrl"))
        assert [s["nqn"] for s in d.rpc("nvmf_get_subsystems")] == ["nqn.2014-08.org.nvmexpress.discovery"]
        assert d.rpc("bdev_null_delete", name="n0") is True
        a.close()
        b.close()


def test_bdev_goes():
    with Daemon() as d:
        export(d, "a")
        c = Client(d.path("a/cntrl"))
        assert d.rpc("bdev_null_delete", name="n0") is True
        assert d.rpc("nvmf_get_subsystems", nqn=NQN)[0]["namespaces"] == []
        c.read32(8)
        raises(-19, "No such device", d.rpc, "bdev_get_bdevs", name="n0")
        raises(-19, "No such device", d.rpc, "bdev_null_delete", name="n0")
        c.close()


def test_stop_with_clients():
    with Daemon() as d:
        export(d, "a", "b")
        clients = [Client(d.path("a/cntrl")), Client(d.path("b/cntrl")), Client(d.path("a/cntrl"), version=False)]
        d.proc.terminate()
        d.proc.terminate()
        assert d.proc.wait(10) == 0, d.logged()
        for c in clients:
            assert c.gone()
            c.close()
        assert sorted(os.listdir(d.dir)) == ["a", "b", "log"] and os.listdir(d.path("a")) == []


def test_kill_over_rpc():
    with Daemon() as d:
        raises(-32602, "sig_name", d.rpc, "spdk_kill_instance", sig_name="SIGFOO")
        raises(-32602, "sig_name", d.rpc, "spdk_kill_instance", sig_name="0")
        assert d.rpc("spdk_kill_instance", sig_name="10") is True  # SIGUSR1
        assert d.rpc("spdk_kill_instance", sig_name="SIGTERM") is True
        assert d.proc.wait(10) == 0


def test_reconnects():
    """Clients that come and go, at any step, leave nothing behind."""
    with Daemon() as d:
        export(d, "a")
        path = d.path("a/cntrl")

        def fds():
            return len(os.listdir(f"/proc/{d.proc.pid}/fd"))

        def lone():
            return d.rpc("nvmf_subsystem_get_controllers", nqn=NQN) == []
        Client(path).close()
        until(lone)
        before = fds()
        for i in range(100):
            c = Client(path, version=i % 3 != 0)
            if i % 3 == 1:
                c.read32(0)
            elif i % 3 == 2:
                c.s.sendall(b"\1\0\4\0")
            c.close()
        until(lone)
        until(lambda: fds() <= before + 1)


def test_listener_errors():
    with Daemon() as d:
        add = "nvmf_subsystem_add_listener"
        d.rpc("nvmf_create_subsystem", nqn=NQN)
        raises(-32602, "transport", d.rpc, add, nqn=NQN, listen_address=address(d, ""))
        d.rpc("nvmf_create_transport", trtype="vfioUSER", unknown_member=1, num_cqe=1)
        assert "nvmf_create_transport: 'unknown_member' is unknown here and has no effect" in d.logged()
        assert "num_cqe" not in d.logged()
        d.mkdir("a")
        for addr, more, part in [({"trtype": "TCP", "traddr": "a"}, {}, "'trtype'"),
                                 ({"trtype": "VFIOUSER"}, {}, "'traddr'"),
                                 ({"trtype": "VFIOUSER", "traddr": ""}, {}, "'traddr'"),
                                 (address(d, "none"), {}, "does not exist"),
                                 (address(d, "log"), {}, "no directory"),
                                 ({"trtype": "VFIOUSER", "traddr": "/" * 100 + d.dir}, {}, "too long"),
                                 (dict(address(d, "a"), adrfam="IPv5"), {}, "'adrfam'"),
                                 (address(d, "a"), {"mode": "999"}, "'mode'"),
                                 (address(d, "a"), {"owner": "no-such-user"}, "'owner'"),
                                 (address(d, "a"), {"group": "no-such-group"}, "'group'"),
                                 (address(d, "a"), {"pci_vendor_id": "0x12345"}, "'pci_vendor_id'"),
                                 (address(d, "a"), {"disable_mappable_bar0": 1}, "'disable_mappable_bar0'"),
                                 (address(d, "a"), {"numa_id": 63}, "'numa_id'"),
                                 (address(d, "a"), {"ana_state": "inaccessible"}, "'ana_state'"),
                                 (address(d, "a"), {"secure_channel": True}, "'secure_channel'")]:
            raises(-32602, part, d.rpc, add, nqn=NQN, listen_address=addr, **more)
            assert os.listdir(d.path("a")) == []
        d.rpc(add, nqn=NQN, listen_address=address(d, "a"))
        raises(-32602, "already exists", d.rpc, add, nqn=NQN, listen_address=address(d, "a/../a/"))


def doorbells_of(d, name):
    """(are they mappable, is Doorbell Buffer Config announced) for a client of this listener; both are used."""
    h = Host(d.path(name + "/cntrl"))
    info = h.call(h.REGION_INFO, struct.pack("<IIIIQQ", 256, 0, h.BAR0, 0, 0, 0))
    mappable = bool(struct.unpack_from("<I", info, 4)[0] & 4)
    assert len(h.fds) == mappable, h.fds
    if mappable:
        page = mmap.mmap(h.fds[0], 4096, offset=4096)
        h.write = lambda region, off, data: page.__setitem__(slice(off - 4096, off - 4092), data)
    assert h.io(2) == 0
    assert h.admin(6, prp1=DATA, dw10=1) == 0
    announced = bool(struct.unpack_from("<H", h.mem, DATA + 256)[0] & 1 << 8)
    # 1: Invalid Opcode; 13h: PRP Offset Invalid
    assert h.admin(0x7c, prp1=1) & 0xff == (0x13 if announced else 1)
    if mappable:
        page.close()
    h.close()
    return mappable, announced


def test_doorbells_of_each_listener():
    names = ["disable_mappable_bar0", "disable_adaptive_irq", "disable_shadow_doorbells"]
    trap, plain = {names[0]: True}, {names[0]: False, names[2]: False}
    for transport, options in [({}, [({}, True, False), (trap, False, True), (dict(trap, **{names[2]: True}), False, False),
                                     (plain, True, False), ({names[1]: True}, True, False)]),
                               (trap, [({}, False, True), (plain, True, False)]),
                               (dict(trap, **{names[2]: True}), [({}, False, False), ({names[2]: False}, False, True)])]:
        with Daemon() as d:
            export(d, **transport)
            for i, (given, _, _) in enumerate(options):
                d.mkdir(f"l{i}")
                d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address(d, f"l{i}"), **given)
            saved = d.save()
            with open(d.path("config"), "w", encoding="utf-8") as f:
                f.write(saved)
            for _ in range(2):
                listed = d.rpc("nvmf_subsystem_get_listeners", nqn=NQN)
                for i, (given, mappable, announced) in enumerate(options):
                    want = {**dict.fromkeys(names, False), **transport, **given}
                    assert {n: listed[i][n] for n in names} == want, (listed[i], want)
                    assert doorbells_of(d, f"l{i}") == (mappable, announced), (transport, given)
                d.stop()
                d.start("-c", d.path("config"))
                assert d.save() == saved


def test_home_on_a_node():
    with Daemon() as d:
        export(d, "a")
        node = max(d.rpc("framework_get_reactors")["reactors"][0]["numa_id"], 0)
        d.mkdir("b")
        d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address(d, "b"), numa_id=node)
        saved = d.save()
        assert f'"numa_id": {node}' in saved, saved
        assert doorbells_of(d, "b") == (True, False)


def test_subsystem_errors():
    with Daemon() as d:
        create = "nvmf_create_subsystem"
        for params, part in [({}, "'nqn'"), ({"nqn": "x"}, "'nqn'"), ({"nqn": "nqn.2024-13.io.x:a"}, "'nqn'"),
                             ({"nqn": NQN + "x" * 223}, "223"), ({"nqn": NQN, "serial_number": "x" * 21}, "'serial_number'"),
                             ({"nqn": NQN, "serial_number": "\t"}, "'serial_number'"),
                             ({"nqn": NQN, "model_number": "x" * 41}, "'model_number'"),
                             ({"nqn": NQN, "max_namespaces": 1025}, "'max_namespaces'"),
                             ({"nqn": NQN, "min_cntlid": 0}, "'min_cntlid'"),
                             ({"nqn": NQN, "min_cntlid": 9, "max_cntlid": 8}, "'max_cntlid'"),
                             ({"nqn": NQN, "max_cntlid": 0xfff0}, "'max_cntlid'"),
                             ({"nqn": NQN, "ana_reporting": True}, "'ana_reporting'"),
                             ({"nqn": NQN, "tgt_name": "other"}, "other"), ({"nqn": NQN, "nosuch": 1}, "'nosuch'")]:
            raises(-32602, part, d.rpc, create, **params)
        d.rpc(create, nqn=NQN, max_namespaces=2)
        raises(-32602, "already exists", d.rpc, create, nqn=NQN)
        d.rpc("bdev_null_create", name="n0", block_size=512, num_blocks=8)
        add = "nvmf_subsystem_add_ns"
        for ns, part in [({}, "'bdev_name'"), ({"bdev_name": "none"}, "none"), ({"bdev_name": "n0", "nsid": 1025}, "'nsid'"),
                         ({"bdev_name": "n0", "nsid": 3}, "'nsid'"), ({"bdev_name": "n0", "nsdi": 1}, "'nsdi'"),
                         ({"bdev_name": "n0", "nguid": "12"}, "'nguid' '12'"),
                         ({"bdev_name": "n0", "eui64": "zz" * 8}, "'eui64' 'zzz"),
                         ({"bdev_name": "n0", "uuid": "x"}, "'uuid'")]:
            raises(-32602, part, d.rpc, add, nqn=NQN, namespace=ns)
        assert d.rpc(add, nqn=NQN, namespace={"bdev_name": "n0", "nsid": 0}) == 1
        raises(-32602, "n0", d.rpc, add, nqn=NQN, namespace={"bdev_name": "n0"})
        for i in 1, 2:
            d.rpc("bdev_null_create", name=f"n{i}", block_size=512, num_blocks=8)
        raises(-32602, "1", d.rpc, add, nqn=NQN, namespace={"bdev_name": "n1", "nsid": 1})
        assert d.rpc(add, nqn=NQN, namespace={"bdev_name": "n1", "nsid": 2}) == 2
        raises(-32602, "", d.rpc, add, nqn=NQN, namespace={"bdev_name": "n2"})
        raises(-32602, "'nsid'", d.rpc, "nvmf_subsystem_remove_ns", nqn=NQN, nsid=9)
        assert d.rpc("nvmf_subsystem_remove_ns", nqn=NQN, nsid=1) is True
        raises(-32602, "not found", d.rpc, "nvmf_get_subsystems", nqn=NQN + "x")


def test_half_a_request_delays_nobody():
    with Daemon() as d:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(d.sock)
            s.sendall(b'{"method": "spdk_get')
            assert d.rpc("bdev_get_bdevs") == []
            s.sendall(b'_version", "id": 5}')
            s.settimeout(5)
            assert b'"id":5' in s.recv(4096)


def test_first_answer():
    """50 ms from exec to the first answer; sanitizers may take ten times that."""
    best = 99.0
    for _ in range(5):
        with Daemon() as d:
            d.stop()
            start = time.monotonic()
            d.start(wait=False)
            while True:
                try:
                    d.rpc("spdk_get_version")
                    break
                except (OSError, RpcError):
                    time.sleep(0.001)
            best = min(best, time.monotonic() - start)
    assert best < (0.5 if os.environ.get("SANITIZE") else 0.05), best


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
