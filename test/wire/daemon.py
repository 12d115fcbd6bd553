# SPDX-License-Identifier: BSD-3-Clause
"""A belfryd to test: starts it in a directory of its own, calls its RPC methods, talks a little vfio-user to it."""
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_us():
    """In the child: no daemon is left polling when a test is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


BELFRYD = os.environ.get("BELFRYD", "build/bin/belfryd")
ARENA = os.environ.get("ARENA_SIZE")
OPTIONS = ["--arena-size", ARENA] if ARENA else []


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]
        self.message = error["message"]


class Daemon:
    """with Daemon() as d: d.rpc("bdev_get_bdevs")"""

    def __init__(self, *args, env=None, wait=True):
        self.dir = tempfile.mkdtemp(prefix="belfry-wire-")
        self.sock = self.path("rpc.sock")
        self.log = open(self.path("log"), "w+", encoding="utf-8")
        self.proc = None
        try:
            self.start(*args, env=env, wait=wait)
        except BaseException:
            if self.proc:
                self.proc.kill()
                self.proc.wait()
            self.log.close()
            shutil.rmtree(self.dir)
            raise

    def path(self, name):
        return os.path.join(self.dir, name)

    def mkdir(self, name):
        os.mkdir(self.path(name))
        return self.path(name)

    def start(self, *args, env=None, wait=True):
        self.proc = subprocess.Popen([os.path.abspath(BELFRYD), "-r", self.sock, *OPTIONS, *args], stderr=self.log, preexec_fn=die_with_us,
                                     cwd=self.dir, env={**os.environ, **(env or {})})
        if wait:
            self.wait_up()

    def wait_up(self):
        end = time.monotonic() + 10
        while self.proc.poll() is None and time.monotonic() < end:
            try:
                self.raw(b'{"id":1,"method":"framework_wait_init"}', 1)
                return
            except (FileNotFoundError, ConnectionError):
                time.sleep(0.002)
        raise AssertionError("belfryd does not answer:\n" + self.logged())

    def logged(self):
        self.log.flush()
        with open(self.path("log"), encoding="utf-8") as f:
            return f.read()

    def raw(self, data, replies=None, timeout=10):
        """Send bytes; gives the replies: as many as asked for, or all until the daemon closes."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.sock)
            s.sendall(data)
            if replies is None:
                s.shutdown(socket.SHUT_WR)
            text, out = "", []
            while replies is None or len(out) < replies:
                d = s.recv(65536)
                if not d:
                    break
                text += d.decode()
                while "\n" in text:
                    line, text = text.split("\n", 1)
                    out.append(json.loads(line))
            return out

    def rpc(self, method, **params):
        req = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params:
            req["params"] = params
        reply = self.raw(json.dumps(req, indent=2).encode(), 1)[0]
        if "error" in reply:
            raise RpcError(reply["error"])
        return reply["result"]

    def save(self):
        """What rpc.py save_config writes."""
        subs = [{"subsystem": s["subsystem"], "config": self.rpc("framework_get_config", name=s["subsystem"])}
                for s in self.rpc("framework_get_subsystems")]
        return json.dumps({"subsystems": subs}, indent=2)

    def stop(self, sig=signal.SIGTERM, timeout=15):
        self.proc.send_signal(sig)
        return self.proc.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(15)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        if kind:
            sys.stderr.write(self.logged())
        self.log.close()
        shutil.rmtree(self.dir)


class Client:
    """A vfio-user client, as small as it gets."""
    VERSION, GET_INFO, REGION_INFO, READ, WRITE, RESET = 1, 4, 5, 9, 10, 13
    BAR0, CONFIG = 0, 7

    def __init__(self, path, version=True, timeout=10):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.fds = []
        if version:
            self.version()

    def version(self):
        caps = json.dumps({"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1048576,
                                            "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": True}})
        return self.call(self.VERSION, struct.pack("<HH", 0, 0) + caps.encode() + b"\0")

    def receive(self, n):
        out = b""
        while len(out) < n:
            d, fds, _, _ = socket.recv_fds(self.s, n - len(out), 16)
            self.fds += fds
            if not d:
                raise ConnectionResetError("the server closed")
            out += d
        return out

    def call(self, cmd, payload=b""):
        """The reply's payload; OSError with its errno when it is an error."""
        self.s.sendall(struct.pack("<HHIII", 7, cmd, 16 + len(payload), 0, 0) + payload)
        mid, rcmd, size, flags, err = struct.unpack("<HHIII", self.receive(16))
        assert (mid, rcmd) == (7, cmd) and flags & 15 == 1, (mid, rcmd, flags)
        data = self.receive(size - 16)
        if flags & 0x20:
            raise OSError(err, os.strerror(err))
        return data

    def read(self, region, off, n):
        return self.call(self.READ, struct.pack("<QII", off, region, n))[16:]

    def write(self, region, off, data):
        self.call(self.WRITE, struct.pack("<QII", off, region, len(data)) + data)

    def read32(self, off):
        return struct.unpack("<I", self.read(self.BAR0, off, 4))[0]

    def gone(self):
        """Has the server closed?"""
        try:
            return self.s.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.s.close()
        for fd in self.fds:
            os.close(fd)


def has_uring(d):
    """Are there uring devices? Not in every container, nor in a build without liburing."""
    try:
        d.rpc("bdev_uring_create", name="x", filename="/nonexistent")
    except RpcError as e:
        return "/nonexistent" in e.message
    raise AssertionError("a device of nothing")


def raises(code, part, fn, *args, **kw):
    """fn fails with this RPC error."""
    try:
        fn(*args, **kw)
    except RpcError as e:
        assert e.code == code and part in e.message, (e.code, e.message)
        return
    raise AssertionError(f"no error, wanted {code} {part}")


def raises_errno(err, fn, *args):
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == err, e
        return
    raise AssertionError(f"no error, wanted {os.strerror(err)}")


def until(fn, timeout=5):
    end = time.monotonic() + timeout
    while not fn():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.005)


def main(tests):
    """Runs functions, or the one that TEST_ONLY names; the last line is what scripts/run-tests.sh counts."""
    passed = failed = 0
    only = os.environ.get("TEST_ONLY")
    for t in tests:
        if only and t.__name__ != only:
            continue
        try:
            t()
            passed += 1
            print("ok", t.__name__, flush=True)
        except Exception as e:  # noqa: a test may fail in any way
            failed += 1
            print(f"FAILED {t.__name__}: {type(e).__name__}: {e}", flush=True)
            tb = e.__traceback__
            while tb:
                print(f"  {os.path.basename(tb.tb_frame.f_code.co_filename)}:{tb.tb_lineno}")
                tb = tb.tb_next
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)
