#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""belfry-perf, and the example of libbelfry-host, against a real daemon."""
import json
import os
import pty
import re
import signal
import struct
import subprocess
import time

from daemon import BELFRYD, Daemon, main

TREE = os.path.dirname(os.path.dirname(os.path.abspath(BELFRYD)))
PERF = os.path.join(TREE, "bin/belfry-perf")
EXAMPLE = os.path.join(TREE, "test/host-example")
MIB = 1 << 20


def export(d, name, create, transport=None, **params):
    """One device on one socket; gives the socket's folder."""
    nqn = f"nqn.2024-01.io.example:{name}"
    if not d.rpc("nvmf_get_transports"):
        d.rpc("nvmf_create_transport", trtype="VFIOUSER", **(transport or {}))
    d.rpc(create, name=name, **params)
    d.rpc("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    d.rpc("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": name})
    d.rpc("nvmf_subsystem_add_listener", nqn=nqn,
          listen_address={"trtype": "VFIOUSER", "traddr": d.mkdir(name)})
    return d.path(name)


def export_null(d, **transport):
    return export(d, "n", "bdev_null_create", transport, block_size=512, num_blocks=1 << 31)


def perf(folder, *args, want=0):
    """Runs it; gives its JSON and what it said."""
    p = subprocess.run([PERF, "-s", folder, "--json", "--time", "0.3", "--warmup", "0.1", *args],
                       capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == want, (args, p.returncode, p.stdout, p.stderr)
    return json.loads(p.stdout) if p.stdout else {}, p.stderr


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def test_kinds_of_load():
    with Daemon() as d:
        n = export_null(d)
        for mode in "legacy", "iommufd":
            for more in (["--qd", "1"], ["--queues", "4", "--qd", "8"], ["--bs", "128k", "--qd", "4"], ["--irq"],
                         ["--bs", "512"], ["--cpu", "0", "--queues", "2"]):
                for rw in "randread", "write", "randrw":
                    out, _ = perf(n, "--mode", mode, "--rw", rw, *more)
                    assert out["mode"] == mode and out["errors"] == 0 and out["iops"] > 10, out
                    assert 0 < out["p50_us"] <= out["p99_us"] <= out["p99_9_us"] <= out["max_us"], out


def test_numbers_agree_with_the_daemon():
    with Daemon() as d:
        n = export_null(d)
        before = d.rpc("bdev_get_iostat", names=["n"])["bdevs"][0]
        out, _ = perf(n, "--warmup", "0", "--rw", "randrw", "--rwmixread", "70", "--bs", "8k")
        after = d.rpc("bdev_get_iostat", names=["n"])["bdevs"][0]
        reads, writes = (after[k] - before[k] for k in ("num_read_ops", "num_write_ops"))
        # What was in flight at the end is not counted.
        assert reads + writes - 128 <= out["ios"] <= reads + writes, (reads, writes, out)
        assert after["bytes_read"] - before["bytes_read"] == reads * 8192
        if reads + writes > 1000:
            assert 0.6 < reads / (reads + writes) < 0.8, (reads, writes)


def test_rate():
    with Daemon() as d:
        n = export_null(d)
        for irq in [], ["--irq"]:
            best = 0
            for _ in range(4):  # what the pacing misses while another has the core is not made up for
                out, _ = perf(n, "--rate", "2000", "--qd", "64", "--queues", "2", "--time", "1", *irq)
                assert out["iops"] <= 2200, out
                best = max(best, out["iops"])
                if best > 1500:
                    break
            assert best > 1500, out


def test_no_figures_of_nothing():
    with Daemon() as d:
        n = export_null(d)
        out, said = perf(n, "--rate", "1", "--warmup", "0", want=1)
        assert out["ios"] == 0 and out["exit"] == 1 and "no command was completed in 0.30 s" in said, (out, said)
        with subprocess.Popen([PERF, "-s", n, "--warmup", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as p:
            time.sleep(0.7)
            assert p.poll() is None
            p.send_signal(signal.SIGINT)
            out, said = p.communicate(timeout=20)
            assert p.returncode == 1 and not out and "stopped before the measuring began" in said, (out, said)


def test_server_that_stands_still():
    """What is answered too late to count is told from what was never sent."""
    with Daemon() as d:
        n = export_null(d)
        with subprocess.Popen([PERF, "-s", n, "--warmup", "1", "--time", "0.5", "--qd", "7"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as p:
            time.sleep(0.7)
            assert p.poll() is None
            d.proc.send_signal(signal.SIGSTOP)
            time.sleep(1.8)
            assert p.poll() is None
            d.proc.send_signal(signal.SIGCONT)
            _, said = p.communicate(timeout=20)
            assert p.returncode == 1 and "in 0.50 s, 7 were answered after that: does the server's core" in said, said


def test_progress_line():
    """On a terminal, each half a second, and wiped off before the figures."""
    with Daemon() as d:
        n = export_null(d)
        ours, theirs = pty.openpty()
        with subprocess.Popen([PERF, "-s", n, "--time", "1.5", "--warmup", "0"], stdout=subprocess.PIPE, stderr=theirs,
                              text=True) as p:
            os.close(theirs)
            out, _ = p.communicate(timeout=60)
        said = b""
        try:
            while True:
                said += os.read(ours, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            os.close(ours)
        lines = re.findall(rb"\rrandread +\d+ s +(\d+) IOPS +[\d.]+ MiB/s", said)
        assert len(lines) >= 2 and all(int(iops) > 10 for iops in lines) and said.endswith(b"\r\x1b[K"), said
        for part in "IOPS", "MiB/s", "mean", "p50", "p99 ", "p99.9", "max", "CPU     client", "target":
            assert part in out, out


def test_verify_finds_one_flipped_byte():
    with Daemon() as d:
        file = d.path("disk")
        with open(file, "wb") as f:
            f.truncate(8 * MIB)
        folder = export(d, "a", "bdev_aio_create", filename=file, block_size=512)
        verify = ["--verify", "crc32c", "--qd", "8", "--size", "1m"]
        out, said = perf(folder, "--rw", "read", *verify, want=3)
        assert "never written" in said, said
        for mode in "legacy", "iommufd":
            out, _ = perf(folder, "--rw", "write", "--mode", mode, "--time", "3", *verify)
            assert out["checked"] == out["written"] > 0, out
        if out["written"] < 256:
            print("  (a slow disk: only", out["written"], "pieces)")
        perf(folder, "--rw", "read", "--size", str(out["written"] * 4096), "--verify", "crc32c", "--qd", "2")
        with open(file, "r+b") as f:
            f.seek(512 * 5)
            block = f.read(512)
            # The format of app/belfry-perf/verify.c, by other means.
            assert struct.unpack_from("<Q", block, 8)[0] == 5
            assert struct.unpack_from("<I", block, 24)[0] == crc32c(block[:24] + block[28:])
            # Magic, LBA, number, CRC, filler, data, the number again.
            for offset in 0, 8, 17, 27, 28, 32, 123, 504, 511:
                old = block[offset]
                f.seek(512 * 5 + offset)
                f.write(bytes([old ^ 1]))
                f.flush()
                _, said = perf(folder, "--rw", "read", "--size", "64k", "--verify", "crc32c", "--qd", "2", want=3)
                assert (f"lba 5, offset {offset} (byte {512 * 5 + offset} of the namespace): "
                        f"0x{old ^ 1:02x} instead of 0x{old:02x}") in said, said
                f.seek(512 * 5 + offset)
                f.write(bytes([old]))
            # A whole block in another's place.
            f.seek(512 * 9)
            f.write(block)
            f.flush()
            _, said = perf(folder, "--rw", "read", "--size", "64k", "--verify", "crc32c", "--qd", "2", want=3)
            assert "lba 9, offset 8" in said and "another block, lba 5" in said, said


def test_verify_on_memory_and_on_nothing():
    with Daemon() as d:
        m = export(d, "m", "bdev_malloc_create", block_size=512, num_blocks=32768)
        for more in (["--rw", "randwrite"], ["--rw", "randrw", "--bs", "64k", "--queues", "2", "--qd", "8"],
                     ["--rw", "write", "--bs", "12k", "--qd", "31"]):
            out, _ = perf(m, "--verify", "crc32c", *more)
            assert out["checked"] >= out["written"] > 0, out
        # All is read back, though that takes longer than --time.
        d.rpc("bdev_malloc_create", name="m2", block_size=512, num_blocks=8192)
        slow = export(d, "slow", "bdev_delay_create", base_bdev_name="m2", avg_read_latency=20000,
                      p99_read_latency=20000, avg_write_latency=0, p99_write_latency=0)
        out, _ = perf(slow, "--verify", "crc32c", "--rw", "write", "--qd", "16")
        assert out["checked"] >= out["written"] > 500, out
        # A device that drops the data is found out.
        _, said = perf(export_null(d), "--rw", "randwrite", "--verify", "crc32c", want=3)
        assert "wrong data: lba" in said, said


def test_shadow_doorbells():
    with Daemon() as d:
        n = export_null(d, disable_mappable_bar0=True)
        for more in [], ["--irq"], ["--queues", "3", "--qd", "4"]:
            out, _ = perf(n, "--shadow", *more)
            assert out["shadow"] and out["iops"] > 10, out
        perf(n, "--qd", "4")  # each doorbell a message
    with Daemon() as d:
        _, said = perf(export_null(d), "--shadow", want=1)
        assert "does not announce Doorbell Buffer Config" in said, said


def test_mistakes():
    with Daemon() as d:
        n = export_null(d)
        for args, want, part in (
                (["--qd", "0"], 2, "--qd '0'"), (["--bs", "100"], 2, "--bs '100'"), (["--bs", "4q"], 2, "--bs '4q'"),
                (["--rw", "reed"], 2, "--rw 'reed'"), (["--mode", "x"], 2, "--mode 'x'"),
                (["--time", "-1"], 2, "--time '-1'"), (["--verify", "md5"], 2, "--verify 'md5'"),
                (["--cpu", "4095"], 2, "--cpu '4095'"), (["--cpu", "0-"], 2, "--cpu '0-'"),
                (["--rwmixread", "30"], 2, "--rwmixread goes with"), (["extra"], 2, "'extra'"), (["--nope"], 2, "nope"),
                (["--bs", "2m"], 1, "--bs 2097152"), (["--bs", "1000"], 1, "--bs 1000"),
                (["--nsid", "7"], 1, "--nsid 7"), (["--size", "2t"], 1, "--size"),
                (["--qd", "60000"], 1, "--qd 60000"), (["--queues", "1024"], 1, "--queues 1024")):
            _, said = perf(n, *args, want=want)
            assert part in said, (args, said)
        for where in d.path("none"), d.dir:
            _, said = perf(where, want=1)
            assert "cntrl" in said or "none" in said, said
        for option in "--help", "--version":
            out = subprocess.run([PERF, option], capture_output=True, text=True, check=True).stdout
            assert "belfry-perf" in out


def test_errors_and_a_daemon_that_dies():
    with Daemon() as d:
        d.rpc("bdev_malloc_create", name="m", block_size=512, num_blocks=2048)
        d.rpc("bdev_error_create", base_name="m")
        d.rpc("nvmf_create_transport", trtype="VFIOUSER")
        d.rpc("nvmf_create_subsystem", nqn="nqn.2024-01.io.example:e", allow_any_host=True)
        d.rpc("nvmf_subsystem_add_ns", nqn="nqn.2024-01.io.example:e", namespace={"bdev_name": "EE_m"})
        d.rpc("nvmf_subsystem_add_listener", nqn="nqn.2024-01.io.example:e",
              listen_address={"trtype": "VFIOUSER", "traddr": d.mkdir("e")})
        d.rpc("bdev_error_inject_error", name="EE_m", io_type="read", error_type="failure", num=1)
        out, said = perf(d.path("e"), want=1)
        assert "failed: " in said and out["errors"] == 1, (out, said)
        out, _ = perf(d.path("e"))
        assert out["errors"] == 0
        with subprocess.Popen([PERF, "-s", d.path("e"), "--time", "60"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as p:
            time.sleep(0.7)
            assert p.poll() is None
            d.proc.kill()
            start = time.monotonic()
            assert p.wait(20) == 1 and time.monotonic() - start < 3
            assert "closed the connection" in p.stderr.read()


def test_example():
    with Daemon() as d:
        m = export(d, "m", "bdev_malloc_create", block_size=4096, num_blocks=256)
        out = subprocess.run([EXAMPLE, m + "/cntrl"], capture_output=True, text=True, timeout=30, check=True).stdout
        assert "namespace 1: 256 blocks of 4096 bytes" in out and "block 0 says: The bells hang in the belfry." in out


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
