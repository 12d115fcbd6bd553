#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients of the RPC socket that mean no good, or know no better: what they may not do to the daemon and to others."""
import json
import os
import random
import select
import socket
import time

from daemon import Client, Daemon, RpcError, main, until

NQN = "nqn.2024-01.io.example:x"


def call_of(method, params, ident):
    return json.dumps({"id": ident, "method": method, "params": params}).encode()


def call(method, ident=1, **params):
    return call_of(method, params, ident)


def batch(*calls):
    return b"[" + b",".join(calls) + b"]"


def connect(d):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(d.sock)
    return s


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def test_batch_takes_down_what_it_answers_for():
    """The next request of a batch does away with what the one before was about."""
    with Daemon() as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        for i in range(20):
            address = {"trtype": "VFIOUSER", "traddr": d.mkdir(f"v{i}")}
            replies = d.raw(batch(
                call("nvmf_create_subsystem", 1, nqn=NQN, allow_any_host=True),
                call("nvmf_subsystem_add_listener", 2, nqn=NQN, listen_address=address),
                call("nvmf_subsystem_remove_listener", 3, nqn=NQN, listen_address=address),
                call("nvmf_delete_subsystem", 4, nqn=NQN),
                call("bdev_malloc_create", 5, name="m", block_size=512, num_blocks=2048),
                call("bdev_delay_create", 6, name="s", base_bdev_name="m", avg_read_latency=1, p99_read_latency=1,
                     avg_write_latency=1, p99_write_latency=1),
                call("bdev_malloc_delete", 7, name="m"),
                call("bdev_get_bdevs", 8)), 1)[0]
            assert [r["id"] for r in replies] == [1, 2, 3, 4, 5, 6, 7, 8], replies
            assert all("result" in r for r in replies), replies
            assert replies[-1]["result"] == [], replies


def test_nothing_is_lost_at_the_end():
    """A client may say what it wants, and that this is all."""
    with Daemon() as d:
        for n in (90, 200, 1000):
            replies = d.raw(b"".join(call("spdk_get_version", i) for i in range(n)))
            assert [r["id"] for r in replies] == list(range(n)), (n, len(replies))
        replies = d.raw(b"".join(call("bdev_get_bdevs", i, name="x", timeout=50) for i in range(300)))
        assert sorted(r["id"] for r in replies) == list(range(300)), len(replies)


def test_long_replies():
    """Many long replies at once are sent as fast as they are read."""
    with Daemon() as d:
        d.raw(batch(*(call("bdev_null_create", i, name=f"n{i}", block_size=512, num_blocks=8) for i in range(400))), 1)
        one = len(json.dumps(d.rpc("bdev_get_bdevs")))
        assert one > 200000, one
        replies = d.raw(b"".join(call("bdev_get_bdevs", i) for i in range(400)), timeout=60)
        assert [r["id"] for r in replies] == list(range(400)), len(replies)
        # as a batch they would be one reply of more than 32 MiB
        before = rss_kib(d.proc.pid)
        replies = d.raw(batch(*(call("bdev_get_bdevs", i) for i in range(400))), timeout=60)
        assert replies[0]["error"]["message"] == "Internal error: the reply is too large", replies[0]
        grown = rss_kib(d.proc.pid) - before
        assert grown < (400 if os.environ.get("SANITIZE") else 80) * 1024, f"{grown} KiB more"


def test_batch_lets_others_in():
    """A long batch is done a piece at a time: another client is answered in its middle."""
    with Daemon() as d:
        d.raw(batch(*(call("bdev_null_create", i, name=f"n{i}", block_size=512, num_blocks=8) for i in range(400))), 1)
        with connect(d) as s:
            s.sendall(batch(*(call("bdev_get_iostat", i) for i in range(1000))))
            time.sleep(0.02)
            start = time.monotonic()
            d.rpc("spdk_get_version")
            took = time.monotonic() - start
            assert took < 0.1, f"{took:.3f} s"
            assert not select.select([s], [], [], 0)[0], "too quick a batch: it tests nothing"


def test_waits_end_with_their_client():
    """Who asks for a device that never comes, and goes, leaves nothing behind."""
    with Daemon() as d:
        ask = b"".join(call("bdev_get_bdevs", i, name="never", timeout=4294967295) for i in range(128))
        for _ in range(150):
            with connect(d) as s:
                s.sendall(ask + call("spdk_get_version"))
                s.settimeout(0.02)
                try:
                    s.recv(4096)
                except TimeoutError:
                    pass
        time.sleep(0.3)
        before, start = cpu_ticks(d.proc.pid), time.monotonic()
        time.sleep(1)
        share = (cpu_ticks(d.proc.pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - start)
        print(f"     {share:.2f} of a core")
        assert share < 0.15, f"{share:.2f} of a core for nobody"


def test_waits_for_the_start():
    """Nor does who asks for the start of a daemon that is not told to, and goes."""
    with Daemon("--wait-for-rpc", wait=False) as d:
        until(lambda: os.path.exists(d.sock))
        ask = b"".join(call("framework_wait_init", i) for i in range(120))
        grown = []
        for _ in range(2):
            before = rss_kib(d.proc.pid)
            for _ in range(200):
                with connect(d) as s:
                    s.sendall(ask + call("spdk_get_version"))
                    s.recv(4096)
            grown.append(rss_kib(d.proc.pid) - before)
        print("    ", grown, "KiB")
        # a sanitizer keeps what was freed for a while
        assert grown[1] < (300000 if os.environ.get("SANITIZE") else 2000), grown
        assert d.rpc("framework_start_init") is True


def test_waits_end_with_the_daemon():
    """With a sanitizer: what waits for a device as the daemon goes is not left behind."""
    with Daemon() as d:
        with connect(d) as s:
            s.sendall(call("bdev_get_bdevs", 1, name="none", timeout=60000) + call("spdk_get_version", 2))
            assert json.loads(s.recv(4096))["id"] == 2
            assert d.stop() == 0


def test_refused_json():
    """JSON that is well-formed but cannot be taken is answered, and the next request served."""
    with Daemon() as d:
        for text in (b'{"id":1,"id":2,"method":"spdk_get_version"}', b'{"id":1,"method":"x","params":{"a":{"b":1,"b":2}}}',
                     b'{"id":1,"method":"spdk_get_version","params":{"x":18446744073709551616}}',
                     b'{"id":1,"method":"spdk_get_version","params":{"x":1e999}}', b'{"id":1,"method":"a\\u0000b"}'):
            replies = d.raw(text + call("spdk_get_version", 7))
            assert [r["id"] for r in replies] == [None, 7], (text, replies)
            assert replies[0]["error"]["code"] == -32700, replies
        for text in (b'{"id":1,"method":NaN}', b'{"id":1,"method":"x","params":{"x":Infinity}}', b"{'id':1}", b'{"id":01}'):
            replies = d.raw(text + call("spdk_get_version", 7))
            assert [r["id"] for r in replies] == [None], (text, replies)


def test_cut_names_are_named():
    """A complaint quotes the begin of a long name, also where that cuts a character in two."""
    with Daemon() as d:
        for pad in range(4):
            name = "a" * pad + "\U0001f4a9" * 60
            for method, params in (("log_set_level", {"level": name}), ("bdev_aio_delete", {"name": name}),
                                   ("bdev_get_bdevs", {"name": name}), ("nvmf_create_subsystem", {"nqn": name}),
                                   ("nvmf_delete_subsystem", {"nqn": name}), ("log_set_flag", {"flag": name, name: 1})):
                try:
                    d.rpc(method, **params)
                    raise AssertionError(f"{method} took it")
                except RpcError as e:
                    assert "is none of" in e.message or "No such device" in e.message or "not found" in e.message \
                        or "longer than" in e.message or "unknown member" in e.message, (method, e.message)


def test_unknown_members():
    """Thousands of them, where they are only told of: a few lines of the log."""
    with Daemon() as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", **{f"odd{i}": i for i in range(2000)})
        said = d.logged()
        assert said.count("is unknown here and has no effect") == 16 and "1984 more members are unknown" in said, len(said)


# What each integer of a method makes at the ends of its range.
NUMBERS = [-1, 0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**44, 2**62, 2**63 - 1, 0.5, -0.0, 1e308, 512.0]


def test_numbers():
    """No number in any place makes anything but a result or an error, and quickly."""
    forms = [("bdev_null_create", {"name": "x", "block_size": 512, "num_blocks": 8}, "bdev_null_delete"),
             ("bdev_null_create", {"name": "x", "block_size": 4096, "num_blocks": 8, "physical_block_size": 4096}, "bdev_null_delete"),
             ("bdev_malloc_create", {"name": "x", "block_size": 512, "num_blocks": 8, "numa_id": 0}, "bdev_malloc_delete"),
             ("bdev_null_resize", {"name": "base", "new_size": 1}, None),
             ("bdev_delay_create", {"name": "x", "base_bdev_name": "base", "avg_read_latency": 1, "p99_read_latency": 1,
                                    "avg_write_latency": 1, "p99_write_latency": 1}, "bdev_delay_delete"),
             ("bdev_set_qos_limit", {"name": "base", "rw_ios_per_sec": 0, "r_mbytes_per_sec": 0}, None),
             ("bdev_enable_histogram", {"name": "base", "enable": True, "granularity": 7, "min_nsec": 1, "max_nsec": 1000}, None),
             ("notify_get_notifications", {"id": 0, "max": 1}, None),
             ("nvmf_create_subsystem", {"nqn": NQN, "max_namespaces": 1, "min_cntlid": 1, "max_cntlid": 2}, None),
             ("nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 1}, None),
             ("bdev_get_bdevs", {"name": "base", "timeout": 1}, None)]
    with Daemon() as d:
        d.rpc("bdev_null_create", name="base", block_size=512, num_blocks=8)
        for method, good, undo in forms:
            for member in [k for k, v in good.items() if isinstance(v, int) and not isinstance(v, bool)]:
                for n in NUMBERS:
                    start = time.monotonic()
                    try:
                        d.rpc(method, **{**good, member: n})
                        if undo:
                            d.rpc(undo, name="x")
                        elif method == "nvmf_create_subsystem":
                            d.rpc("nvmf_delete_subsystem", nqn=NQN)
                    except RpcError as e:
                        assert e.code != -32603 and e.message, (method, member, n, e.message)
                    assert time.monotonic() - start < 2, (method, member, n)
        saved = json.loads(d.save())
        size = d.rpc("bdev_get_bdevs", name="base")[0]
        assert size["num_blocks"] * size["block_size"] < 2**63, size
        assert saved["subsystems"]


def test_admission_while_it_goes():
    """Who may connect changes twice, and then the listener goes, all before another reactor has heard of the first."""
    with Daemon("-m", "0,1" if len(os.sched_getaffinity(0)) > 1 else "0") as d:
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        d.rpc("nvmf_create_subsystem", nqn=NQN)
        address = {"trtype": "VFIOUSER", "traddr": d.mkdir("a")}
        for _ in range(50):
            d.rpc("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address)
            replies = d.raw(b"".join([*(call("nvmf_subsystem_allow_any_host", i, nqn=NQN, allow_any_host=bool(i & 1)) for i in range(3)),
                                      call("nvmf_subsystem_remove_listener", 3, nqn=NQN, listen_address=address)]))
            assert len(replies) == 4 and all("result" in r for r in replies), replies
        assert d.stop() == 0


def random_call(rng, d, i):
    """Something that is possible, or was a moment ago, or will be."""
    nqn, bdev = NQN + str(rng.randrange(2)), f"b{rng.randrange(3)}"
    address = {"trtype": "VFIOUSER", "traddr": d.path(f"v{rng.randrange(3)}")}
    return call_of(*rng.choice((
        ("bdev_malloc_create", {"name": bdev, "block_size": 512, "num_blocks": 2048}),
        ("bdev_null_create", {"name": bdev, "block_size": 512, "num_blocks": 2048}),
        ("bdev_aio_create", {"name": bdev, "block_size": 512, "filename": d.path("disk")}),
        ("bdev_delay_create", {"name": "s" + bdev, "base_bdev_name": bdev, "avg_read_latency": 1, "p99_read_latency": 1,
                               "avg_write_latency": 1, "p99_write_latency": 1}),
        ("bdev_error_create", {"base_name": bdev}),
        ("bdev_malloc_delete", {"name": bdev}), ("bdev_null_delete", {"name": bdev}), ("bdev_aio_delete", {"name": bdev}),
        ("bdev_aio_rescan", {"name": bdev}), ("bdev_null_resize", {"name": bdev, "new_size": rng.randrange(1, 4)}),
        ("bdev_set_qos_limit", {"name": bdev, "rw_ios_per_sec": rng.randrange(3) * 1000}),
        ("bdev_enable_histogram", {"name": bdev, "enable": rng.random() < 0.7}),
        ("bdev_get_iostat", {"reset_mode": "all"}), ("bdev_get_bdevs", {"name": bdev, "timeout": 2}), ("bdev_get_bdevs", {}),
        ("nvmf_create_subsystem", {"nqn": nqn, "allow_any_host": True}), ("nvmf_create_subsystem", {"nqn": nqn}),
        ("nvmf_delete_subsystem", {"nqn": nqn}),
        ("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": rng.choice((bdev, "s" + bdev, "EE_" + bdev))}}),
        ("nvmf_subsystem_remove_ns", {"nqn": nqn, "nsid": rng.randrange(1, 4)}),
        ("nvmf_subsystem_add_listener", {"nqn": nqn, "listen_address": address}),
        ("nvmf_subsystem_remove_listener", {"nqn": nqn, "listen_address": address}),
        ("nvmf_subsystem_allow_any_host", {"nqn": nqn, "allow_any_host": rng.random() < 0.5}),
        ("nvmf_subsystem_add_host", {"nqn": nqn, "host": NQN}), ("nvmf_subsystem_remove_host", {"nqn": nqn, "host": NQN}),
        ("nvmf_get_subsystems", {}), ("nvmf_get_stats", {}), ("thread_get_pollers", {}), ("belfry_get_clients", {}),
        ("framework_get_config", {"name": rng.choice(("bdev", "nvmf"))}), ("nvmf_subsystem_get_qpairs", {"nqn": nqn}),
    )), i)


def test_all_at_once():
    """Methods on the same few names, side by side, while clients come and go: each is answered, and the end is clean."""
    rng = random.Random(int(os.environ.get("SEED", "7")))
    with Daemon("-m", "0,1" if len(os.sched_getaffinity(0)) > 1 else "0") as d:
        with open(d.path("disk"), "wb") as f:
            f.truncate(1 << 20)
        for i in range(3):
            d.mkdir(f"v{i}")
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        end, results, clients = time.monotonic() + float(os.environ.get("SECONDS_AT_ONCE", "3")), 0, []
        while time.monotonic() < end:
            for i in range(3):
                try:
                    clients.append(Client(d.path(f"v{i}/cntrl"), version=False))
                    clients[-1].s.settimeout(0.2)
                    clients[-1].version()
                except OSError:
                    pass
            texts = []
            for _ in range(4):
                calls = [random_call(rng, d, i) for i in range(25)]
                texts.append(batch(*calls) if rng.random() < 0.5 else b"".join(calls))
            socks = [connect(d) for _ in texts]
            for s, text in zip(socks, texts):
                s.sendall(text)
            for s, text in zip(socks, texts):
                if rng.random() < 0.1:  # who does not wait
                    s.close()
                    continue
                s.shutdown(socket.SHUT_WR)
                got = b"".join(iter(lambda: s.recv(65536), b""))
                replies = [json.loads(line) for line in got.splitlines()]
                replies = replies[0] if text.startswith(b"[") else replies
                assert sorted(r["id"] for r in replies) == list(range(25)), replies
                assert not any(r.get("error", {}).get("code") == -32603 for r in replies), replies
                results += sum("result" in r for r in replies)
                s.close()
            while clients and (len(clients) > 3 or rng.random() < 0.5):
                clients.pop(0).close()
        assert results > 100, results
        for c in clients:
            c.close()
        assert d.stop() == 0
        assert not any(os.listdir(d.path(f"v{i}")) for i in range(3))


def test_slow_and_silent():
    """Halves of requests, replies that nobody reads, and as many connections as there may be: others are served."""
    with Daemon() as d:
        idle = [connect(d) for _ in range(60)]
        for s in idle[:30]:
            s.sendall(b'{"id":1,"meth')
        for s in idle[30:]:
            s.setblocking(False)
            try:
                for _ in range(200):
                    s.send(call("rpc_get_methods") * 20)
            except BlockingIOError:
                pass
        for _ in range(20):
            start = time.monotonic()
            d.rpc("spdk_get_version")
            assert time.monotonic() - start < 1
        for s in idle[:30]:
            s.sendall(b'od":"spdk_get_version"}')
            assert b"Belfry" in s.recv(4096)
        for s in idle:
            s.close()


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
