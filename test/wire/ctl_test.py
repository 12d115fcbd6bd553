#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""belfryctl as its user sees it: what it prints, what it refuses, what it leaves behind."""
import base64
import fcntl
import json
import os
import pty
import stat
import struct
import subprocess
import termios
import time

from daemon import Client, Daemon, has_uring, main
from io_test import READ, WRITE, export

CTL = os.path.abspath(os.environ.get("BELFRYCTL", "build/bin/belfryctl"))


def ctl(d, *args, stdin=None, cwd=None):
    return subprocess.run([CTL, "-s", d.sock, *args], capture_output=True, text=True, timeout=30, check=False, input=stdin,
                          cwd=cwd or d.dir)


def good(d, *args, **kw):
    r = ctl(d, *args, **kw)
    assert r.returncode == 0, (args, r)
    return r.stdout


def test_export_and_list():
    """list names the process that is connected; what unexport leaves is what was there."""
    with Daemon() as d:
        good(d, "bdev", "create", "malloc", "m", "1M")
        d.mkdir("vm")
        assert "vm/cntrl" in good(d, "export", "m", "vm")
        assert "none" in good(d, "list")
        c = Client(d.path("vm/cntrl"))
        assert f"pid {os.getpid()}" in good(d, "list"), good(d, "list")
        listed = json.loads(good(d, "--json", "list"))["clients"][0]
        assert listed["client"]["pid"] == os.getpid(), listed
        c.close()
        r = ctl(d, "export", "m", "vm")
        assert r.returncode == 1 and "unexport" in r.stderr, r
        good(d, "unexport", "vm")
        assert os.listdir(d.path("vm")) == []


def test_export_to_others():
    """--owner, --group and --mode are the socket's, and open the directory that is made for it."""
    with Daemon() as d:
        good(d, "bdev", "create", "malloc", "m", "1M")
        for args, part in [(["--owner", "no-such-user"], "no-such-user"), (["--mode", "9"], "'mode'"), (["--group", "no-such-group"], "no-such-group")]:
            r = ctl(d, "export", "m", "vm", *args)
            assert r.returncode == 1 and part in r.stderr and not os.path.exists(d.path("vm")), (args, r)
        owner, group = (65534, 1) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        good(d, "export", "m", "vm", "--owner", str(owner), f"--group={group}", "--mode", "0660", "--trap-doorbells")
        for path, mode in ("vm", 0o710), ("vm/cntrl", 0o660):
            st = os.stat(d.path(path))
            assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (owner, group, mode), (path, st)
        nqn = d.rpc("nvmf_get_subsystems")[1]["nqn"]
        assert d.rpc("nvmf_subsystem_get_listeners", nqn=nqn)[0]["disable_mappable_bar0"] is True
        os.unlink(d.path("vm/cntrl"))
        os.rmdir(d.path("vm"))
        good(d, "unexport", "vm")  # though the directory is gone
        assert len(d.rpc("nvmf_get_subsystems")) == 1


def test_usage():
    """Exit code 2, a message that names the word, nothing done."""
    with Daemon() as d:
        for args, part in [(["bdev", "create"], "'bdev create malloc'"), (["nosuch"], "nosuch"), (["bdev", "list", "--nosuch"], "--nosuch"),
                           (["bdev", "create", "malloc", "m"], "NAME SIZE"), (["bdev", "create", "malloc", "m", "1x"], "1x"),
                           (["bdev", "create", "malloc", "m", "1000"], "multiple"), (["bdev", "create", "malloc", "m", "1M", "--uuid"], "UUID"),
                           (["rpc", "bdev_get_bdevs", "{"], "column"), (["--timeout"], "seconds"), (["--timeout", "x", "list"], "'x'"),
                           (["--timeout", "0", "list"], "'0'"), (["-s"], "socket"), (["--nope", "list"], "--nope"),
                           (["list", "--timeout=x"], "'x'"), (["list", "-x"], "'-x'"), (["list", "x"], "unexpected argument 'x'"),
                           (["--json=1", "list"], "no value"), (["bdev", "create", "aio", "x"], "needs NAME FILE"), (["--timeout=", "list"], "seconds"),
                           (["bdev", "create", "malloc", "m", "-5"], "'--'"), (["bdev", "create", "malloc", b"\xff", "1M"], "UTF-8"),
                           (["help", "nosuch"], "nosuch"), ([], "Commands:")]:
            r = ctl(d, *args)
            assert r.returncode == 2 and part in r.stderr, (args, r)
        assert d.rpc("bdev_get_bdevs") == []


def test_options_anywhere():
    with Daemon() as d:
        for args in (["bdev", "list", "-s", d.sock, "--json"], [f"-s{d.sock}", "--json", "bdev", "list"], ["bdev", f"--socket={d.sock}", "list"],
                     ["bdev", "list", f"--socket={d.sock}", "--timeout=5", "--json"]):
            r = subprocess.run([CTL, *args], capture_output=True, text=True, timeout=30, check=False)
            assert r.stdout.strip() == "[]" if "--json" in args else r.returncode == 2, (args, r)
        for args, part in [(["help"], "Commands:"), (["help", "bdev"], "bdev create aio NAME FILE"), (["bdev", "--help"], "bdev create aio NAME FILE"),
                           (["help", "bdev", "create", "aio"], "--read-only"), (["bdev", "create", "aio", "-h"], "--read-only")]:
            assert part in good(d, *args), args
        good(d, "bdev", "create", "malloc", "--", "-5", "1M")
        assert d.rpc("bdev_get_bdevs")[0]["name"] == "-5"


def test_tables_align():
    """By characters, where a name is no ASCII."""
    with Daemon() as d:
        for name in "größe ✓", "m":
            good(d, "bdev", "create", "malloc", name, "1M")
        assert len({line.index("Malloc disk") for line in good(d, "bdev", "list").splitlines()[1:]}) == 1


def test_refusals():
    """Exit code 1; an export that fails takes back what it made, but for the transport."""
    with Daemon() as d:
        good(d, "bdev", "create", "malloc", "m", "1M")
        os.makedirs(d.path("taken/cntrl"))
        with open(d.path("file"), "w", encoding="utf-8") as f:
            f.write("x")
        deep = "x" * 100
        for args, part in [(["ns", "remove", "x", str(2 ** 32 - 1)], "'x'"), (["export", "nosuch", "vm"], "nosuch"), (["export", "m", "vm", "--nqn", "x"], "nqn"), (["export", "m", "no/vm"], "no/vm"),
                           (["export", "m", "file"], "no directory"), (["export", "m", "taken"], "no socket"), (["export", "m", deep], "107"),
                           (["unexport", "vm"], "nothing listens"), (["bdev", "delete", "nosuch"], "nosuch"), (["log-level", "LOUD"], "DEBUG"),
                           (["save", "/nonexistent/x"], "/nonexistent/x"), (["save", "taken"], "taken"), (["load", "nosuch"], "nosuch"),
                           (["load", "file"], "line 1"), (["rpc", "nosuch"], "-32601")]:
            r = ctl(d, *args)
            assert r.returncode == 1 and part in r.stderr and "line -1" not in r.stderr, (args, r)
        assert sorted(os.listdir(d.dir)) == ["file", "log", "rpc.sock", "rpc.sock.lock", "taken"], os.listdir(d.dir)
        assert len(d.rpc("nvmf_get_subsystems")) == 1
    r = subprocess.run([CTL, "-s", "/nonexistent/s", "list"], capture_output=True, text=True, timeout=30, check=False)
    assert r.returncode == 1 and "/nonexistent/s" in r.stderr and "belfryd" in r.stderr, r


def config(*entries):
    return json.dumps({"subsystems": [{"subsystem": "bdev", "config": list(entries)}]})


def test_load():
    def null(name, **more):
        return {"method": "bdev_null_create", "params": {"name": name, "block_size": 512, "num_blocks": 8, **more}}
    with Daemon() as d:
        for text, part in [(config(null("a"), {"method": "bdev_raid_create"}), "entry 1, bdev_raid_create: Method not found; nothing was loaded"),
                           (config(null("a"), {"params": {}}), "entry 1: 'method'"), ("[]", "subsystems"), ("{", "line 1"), ('{"subsystems": [1]}', "'subsystems' 0"),
                           (config(null("a")).replace("config", "conf"), "'config'"),
                           ('{"subsystems": [], "subsystems": []}', "duplicate")]:
            r = ctl(d, "load", "-", stdin=text)
            assert r.returncode == 1 and part in r.stderr, (text, r)
            assert d.rpc("bdev_get_bdevs") == [], text
        # the first that fails ends it, what came before stays and is counted
        r = ctl(d, "load", "-", stdin=config(null("a"), null("a"), null("b")))
        assert r.returncode == 1 and "entry 1" in r.stderr and "1 entries loaded, then stopped" in r.stderr, r
        assert [b["name"] for b in d.rpc("bdev_get_bdevs")] == ["a"]
        # options that only go before the daemon has begun are left out, and counted
        r = ctl(d, "load", "-", stdin=config({"method": "bdev_set_options", "params": {"bdev_io_pool_size": 9}}, null("c"),
                                             {"method": "bdev_wait_for_examine"}))
        assert r.returncode == 0 and "2 entries loaded" in r.stdout and "1 entries skipped" in r.stderr, r
        # what was saved loads again
        saved = good(d, "save")
        good(d, "bdev", "delete", "a")
        good(d, "bdev", "delete", "c")
        good(d, "load", "-", stdin=saved)
        assert good(d, "save") == saved
        good(d, "save", "out")
        with open(d.path("out"), encoding="utf-8") as f:
            assert f.read() == saved


def percentile(reply, percent):
    """As doc/rpc.md has the buckets: the end of the one where that many are reached, in us."""
    counts = struct.unpack(f"<{len(base64.b64decode(reply['histogram'])) // 8}Q", base64.b64decode(reply["histogram"]))
    g, seen = reply["granularity"], 0
    for i, n in enumerate(counts):
        r, k = reply["min_range"] + (i >> g), i & (1 << g) - 1
        seen += n
        if seen and seen * 100 >= sum(counts) * percent:
            return (k + 1 if r == 0 else (1 << g + r - 1) + (k + 1) * (1 << r - 1)) / 1000
    raise AssertionError(counts)


def test_histogram():
    with Daemon() as d:
        h = export(d, "bdev_null_create", name="n", block_size=512, num_blocks=32768)
        good(d, "bdev", "create", "null", "idle", "1M")
        for args, part in [(["show"], "no block device has a histogram"), (["show", "n"], "start n"), (["show", "x"], "x"), (["start", "x"], "x"),
                           (["start", "n", "--op", "erase"], "none of read")]:
            r = ctl(d, "histogram", *args)
            assert r.returncode == 1 and part in r.stderr, (args, r)
        assert "2 block devices" in good(d, "histogram", "start")
        for i in range(200):
            assert h.io(READ if i % 3 else WRITE) == 0
        shown = {r["name"]: r for r in json.loads(good(d, "histogram", "show", "--json"))}
        reply = d.rpc("bdev_get_histogram", name="n")
        assert shown["idle"]["count"] == 0 and shown["idle"]["p99_us"] is None
        assert shown["n"]["count"] == 200
        for key, percent in ("p50_us", 50), ("p90_us", 90), ("p99_us", 99), ("p99.9_us", 99.9), ("max_us", 100):
            assert abs(shown["n"][key] - percentile(reply, percent)) < 1e-6, (key, shown, reply)
        table = good(d, "histogram", "show", "n").splitlines()
        assert len(table) == 2 and table[1].split()[:2] == ["n", "200"], table
        assert json.loads(good(d, "histogram", "show", "n", "--json", "-i", "0.1"))[0]["count"] == 0, "none in that time"
        good(d, "histogram", "start", "n", "--op", "write")
        for _ in range(3):
            h.io(READ)
        assert json.loads(good(d, "histogram", "show", "n", "--json"))[0]["count"] == 0
        good(d, "histogram", "stop")
        assert ctl(d, "histogram", "show").returncode == 1
        h.close()


def test_stat():
    with Daemon() as d:
        h = export(d, "bdev_malloc_create", name="m", block_size=512, num_blocks=32768)
        good(d, "bdev", "create", "null", "idle", "1M")
        p = subprocess.Popen([CTL, "-s", d.sock, "stat", "--json", "-n2", "-i", "0.3"], stdout=subprocess.PIPE, text=True)
        n = 0
        while p.poll() is None:
            assert h.io(WRITE if n % 4 == 0 else READ) == 0
            n += 1
        looks = [json.loads(line) for line in p.stdout]
        p.stdout.close()
        assert p.returncode == 0 and len(looks) == 2
        for look in looks:
            bdevs = {b["name"]: b for b in look["bdevs"]}
            m, reactor = bdevs["m"], look["reactors"][0]
            assert 0.2 < look["seconds"] < 3 and abs(look["time"] - time.time()) < 60
            assert m["exported_on"] == [d.path("a")] and bdevs["idle"]["exported_on"] == [] and bdevs["idle"]["read_us"] is None
            assert 2 * m["write_iops"] < m["read_iops"] < 4.5 * m["write_iops"] and m["read_us"] is not None, m
            assert abs(m["read_mib_s"] * 256 - m["read_iops"]) < 1 and m["errors"] == 0 and m["queue_depth"] <= 1, m
            assert 0.5 < (m["read_iops"] + m["write_iops"]) / reactor["iops"] < 2 and reactor["controllers"] == reactor["queues"] == 1, look
        table = good(d, "stat", "--once", "--interval=0.1").splitlines()
        assert table[0].startswith("BDEV") and table[3].startswith("TOTAL") and table[-2].startswith("CORE"), table
        for args in ["--interval", "0"], ["-i", "x"], ["--count", "-1"], ["--once", "x"]:
            assert ctl(d, "stat", *args).returncode == 2, args
        h.close()
        assert d.stop() == 0
        assert ctl(d, "stat").returncode == 1


def test_stat_live():
    """On a terminal too small for all devices the busiest are shown; a daemon that goes ends it."""
    with Daemon() as d:
        for i in range(30):
            d.rpc("bdev_null_create", name=f"n{i}", block_size=512, num_blocks=8)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("<4H", 16, 200, 0, 0))
        p = subprocess.Popen([CTL, "-s", d.sock, "stat", "-i", "0.1"], stdout=slave, stderr=subprocess.PIPE, text=True)
        os.close(slave)
        text = ""
        while text.count("Ctrl-C") < 3:
            text += os.read(master, 65536).decode()
        screen = text.split("Ctrl-C")[1].splitlines()
        assert "8 busiest of 30" in text and len(screen) <= 16, screen
        d.stop()
        while True:
            try:
                if not os.read(master, 65536):
                    break
            except OSError:
                break
        os.close(master)
        assert p.wait(10) == 1 and "belfryctl" in p.stderr.read()
        p.stderr.close()


def test_delete_in_use():
    with Daemon() as d:
        good(d, "bdev", "create", "malloc", "m", "1M")
        good(d, "bdev", "create", "delay", "s", "m")
        good(d, "export", "s", "vm")
        nqn = d.rpc("nvmf_get_subsystems")[1]["nqn"]
        for name, user in ("m", "delay"), ("s", nqn):
            r = ctl(d, "bdev", "delete", name)
            assert r.returncode == 1 and f"used by {user}" in r.stderr and "--force" in r.stderr, r
        assert len(d.rpc("bdev_get_bdevs")) == 2
        good(d, "bdev", "delete", "s", "--force")
        good(d, "bdev", "delete", "m")
        assert d.rpc("bdev_get_bdevs") == d.rpc("nvmf_get_subsystems", nqn=nqn)[0]["namespaces"] == []


def test_limits_and_show():
    with Daemon() as d:
        for name in "a", "b":
            good(d, "bdev", "create", "null", name, "1M")
        assert "LIMITS" not in good(d, "bdev", "list")
        assert "at least one" in ctl(d, "bdev", "limit", "a").stderr
        good(d, "bdev", "limit", "a", "--iops", "2000", "--write=10")
        lines = good(d, "bdev", "list").splitlines()
        assert lines[0].endswith("LIMITS") and lines[1].endswith("2000 I/O/s, 10 MiB/s written") and lines[2].endswith("none"), lines
        with open(d.path("disk"), "wb") as f:
            f.truncate(1 << 20)
        for kind in ("aio", "uring") if has_uring(d) else ("aio",):
            good(d, "bdev", "create", kind, "f", "disk", "--read-only")
            shown = good(d, "bdev", "show", "f")
            assert d.path("disk") in shown and "Writes    refused" in shown and "Limits    none" in shown, shown
            assert f"{kind.upper()} disk" in shown, shown
            os.truncate(d.path("disk"), os.path.getsize(d.path("disk")) + (1 << 20))
            good(d, "bdev", "rescan", "f")
            assert f"{os.path.getsize(d.path('disk')) >> 9} blocks" in good(d, "bdev", "show", "f")
            good(d, "bdev", "delete", "f")
        assert ctl(d, "bdev", "rescan", "a").returncode == 1
        assert json.loads(good(d, "bdev", "show", "a", "--json"))["name"] == "a"
        assert ctl(d, "bdev", "show", "x").returncode == 1


def test_events_and_flags():
    with Daemon() as d:
        good(d, "bdev", "create", "null", "a", "1M")
        good(d, "bdev", "delete", "a")
        assert [line.split() for line in good(d, "events").splitlines()] == [["0", "bdev_register", "a"], ["1", "bdev_unregister", "a"]]
        assert json.loads(good(d, "events", "--json", "--since", "1")) == {"type": "bdev_unregister", "ctx": "a", "id": 1}
        p = subprocess.Popen([CTL, "-s", d.sock, "events", "-f", "--since", "2"], stdout=subprocess.PIPE, text=True)
        d.rpc("bdev_null_create", name="n", block_size=512, num_blocks=8)
        assert p.stdout.readline().split() == ["2", "bdev_register", "n"]
        p.terminate()
        p.communicate()
        for _ in range(600):
            d.rpc("bdev_null_delete", name="n")
            d.rpc("bdev_null_create", name="n", block_size=512, num_blocks=8)
        assert good(d, "events").splitlines()[0] == "0 to 178 are not kept any more"
        assert "nvme       off" in good(d, "log-flag")
        good(d, "log-flag", "nvme", "on")
        assert good(d, "log-level") == "NOTICE\n"
        good(d, "log-level", "info")
        assert good(d, "log-level") == "INFO\n"
        assert d.rpc("log_get_flags")["nvme"] and "nvme       on" in good(d, "log-flag")
        good(d, "log-flag", "all", "off")
        assert not d.rpc("log_get_flags")["nvme"]
        assert ctl(d, "log-flag", "nvme").returncode == 2 and ctl(d, "log-flag", "nvme", "yes").returncode == 2
        assert ctl(d, "log-flag", "nosuch", "on").returncode == 1


def test_wait():
    """For a socket that comes later, for a configuration that takes its time, and no longer than told."""
    with Daemon() as d:
        d.stop()
        assert not os.path.exists(d.sock)
        r = ctl(d, "wait", "--timeout", "0.2")
        assert r.returncode == 1 and "cannot reach" in r.stderr, r
        waiting = subprocess.Popen([CTL, "-s", d.sock, "wait"])
        time.sleep(0.1)
        d.start("--wait-for-rpc", wait=False)
        time.sleep(0.2)
        assert waiting.poll() is None
        good(d, "rpc", "framework_start_init")
        assert waiting.wait(10) == 0
        # nothing can ever come there
        start = time.monotonic()
        r = ctl(d, "-s", "/" + 107 * "x", "wait")
        assert r.returncode == 2 and r.stderr.count("longer than 107 bytes") == 1, r
        assert time.monotonic() - start < 5


def test_odd_folder():
    """A path goes into JSON as a whole, so the folder's name must be one that JSON has."""
    with Daemon() as d:
        odd = d.dir.encode() + b"/\xff"
        os.mkdir(odd)
        good(d, "bdev", "create", "malloc", "m", "1M")
        for args in (["bdev", "create", "aio", "x", "disk"], ["export", "m", "vm"], ["unexport", "vm"]):
            r = ctl(d, *args, cwd=odd)
            assert r.returncode == 1 and "is no UTF-8" in r.stderr and not os.listdir(odd), r


def test_sizes():
    """All forms of a size are understood alike."""
    with Daemon() as d:
        for i, size in enumerate(("1048576", "1024k", "1024KiB", "1M", "1MB", "1mib", "0x100000", "0.5M")):
            good(d, "bdev", "create", "null", f"n{i}", size)
            assert d.rpc("bdev_get_bdevs", name=f"n{i}")[0]["num_blocks"] == (1024 if size == "0.5M" else 2048), size
        for size in ("1MM", "1 M", "+1M", "M", "1.5", "010x"):
            r = ctl(d, "bdev", "create", "null", "x", size)
            assert r.returncode == 2 and "is not a size" in r.stderr, (size, r)


def test_save_to():
    """A file is replaced whole and keeps its mode, a link stays one, and what is no file is written to."""
    with Daemon() as d:
        saved = good(d, "save")
        good(d, "save", "file")
        mask = os.umask(0)
        os.umask(mask)
        assert os.stat(d.path("file")).st_mode & 0o777 == 0o666 & ~mask, "as any new file"
        os.symlink("file", d.path("link"))
        os.chmod(d.path("file"), 0o640)
        good(d, "bdev", "create", "null", "n", "1M")
        good(d, "save", "link")
        assert os.path.islink(d.path("link")) and os.stat(d.path("file")).st_mode & 0o777 == 0o640
        with open(d.path("file"), encoding="utf-8") as f:
            assert f.read() == good(d, "save") != saved
        os.mkfifo(d.path("pipe"))
        with subprocess.Popen(["cat", d.path("pipe")], stdout=subprocess.PIPE, text=True) as cat:
            good(d, "save", "pipe")
            assert cat.communicate(timeout=10)[0] == good(d, "save")
        r = ctl(d, "save", "/dev/full") if os.geteuid() else None  # a mistake here would cost the machine its device
        assert not r or (r.returncode == 1 and "No space left" in r.stderr), r
        assert sorted(os.listdir(d.dir)) == ["file", "link", "log", "pipe", "rpc.sock", "rpc.sock.lock"], os.listdir(d.dir)


def test_full_disk():
    """An old file outlives a save that fails; so does the exit code a full standard output."""
    with Daemon() as d:
        with open("/dev/full", "w", encoding="utf-8") as full:
            r = subprocess.run([CTL, "-s", d.sock, "save"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
        assert r.returncode == 1 and "No space left" in r.stderr, r


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
