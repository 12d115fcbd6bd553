#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""belfryctl as its user sees it: what it prints, what it refuses, what it leaves behind."""
import json
import os
import subprocess

from daemon import Client, Daemon, main

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
                           (["help", "bdev", "create", "aio"], "--nowait"), (["bdev", "create", "aio", "-h"], "--nowait")]:
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
