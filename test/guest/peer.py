# SPDX-License-Identifier: BSD-3-Clause
"""Who serves the disks: belfryd, or QEMU's own NVMe device.

The second is there to check the tests themselves: whatever a case says about
NVMe should hold for both. Not for guests: that is vm.py.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

from rpc import Rpc, RpcError
from vm import cores, end, spawn, vfio_user

MIB = 1 << 20


class Skip(Exception):
    """The case is not for this peer."""


class PeerError(Exception):
    """The daemon did not do what it was told."""


class Disk:
    """One namespace: a file (aio, uring) or memory (malloc)."""

    def __init__(self, kind, mib, block, path=None):
        self.kind, self.mib, self.block, self.path = kind, mib, block, path
        self.size = mib * MIB
        self.uuid = str(uuid.uuid4())
        self.name = None
        self.device = None      # its name in the guest, where that is known


class Export:
    """A controller that a guest can attach to."""

    def __init__(self, name, nqn, args, socket=None):
        self.name, self.nqn, self.args, self.socket = name, nqn, args, socket

    def device(self, **more):
        """The member for QMP's device_add."""
        return {**self.args[-1], **more}


def make_file(folder, name, mib):
    """A sparse backing file."""
    path = pathlib.Path(folder) / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    return path


class Belfryd:
    """A running daemon with its sockets in a short, private folder."""
    is_belfry = True

    def __init__(self, folder, binary=None, idle=None, level=None,
                 core_count=1):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.binary = binary or os.environ.get("BELFRYD") or os.path.join(
            os.environ.get("B", "build"), "bin/belfryd")
        if not os.access(self.binary, os.X_OK):
            raise PeerError(f"{self.binary} is missing: make")
        self.idle, self.level, self.core_count = idle, level, core_count
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="belfry-"))
        self.path = self.run / "rpc.sock"
        self.log = self.folder / "belfryd.log"
        self.process = self.rpc = None
        self.killed = False
        try:
            self.start()
        except BaseException:
            self.kill()
            self.close()
            raise

    def start(self):
        """Start it and wait for its first answer."""
        self.killed = False
        on = cores(self.core_count)[0]
        line = [self.binary, "-m", ",".join(map(str, on)), "-r",
                str(self.path)]
        if self.idle:
            line += ["--idle", self.idle]
        if self.level:
            line += ["-L", self.level]
        if os.environ.get("SANITIZE"):
            line = ["setarch", "-R", *line]
        with open(self.log, "ab") as log:
            self.process = spawn(line, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=subprocess.STDOUT)
        until = time.monotonic() + 10
        while True:
            if self.process.poll() is not None:
                raise PeerError("belfryd ended at once: " + self.tail())
            try:
                self.rpc = Rpc(self.path)
                self.rpc("spdk_get_version")
                break
            except (OSError, RpcError) as error:
                if time.monotonic() > until:
                    raise PeerError(f"no answer by RPC: {error}") from None
                time.sleep(0.01)
        self.rpc("nvmf_create_transport", trtype="VFIOUSER")

    def tail(self):
        return self.log.read_text(errors="replace").strip()[-400:]

    def create_bdev(self, name, disk, folder=None):
        """Make the disk's block device; its file too, unless there is one."""
        disk.name = name
        if disk.kind != "malloc":
            disk.path = disk.path or make_file(folder or self.folder, name,
                                               disk.mib)
            self.rpc(f"bdev_{disk.kind}_create", name=name, filename=str(disk.path),
                     block_size=disk.block, uuid=disk.uuid)
        else:
            self.rpc("bdev_malloc_create", name=name, uuid=disk.uuid,
                     block_size=disk.block, num_blocks=disk.size // disk.block)

    def export(self, name, disks, **listener):
        """A subsystem with @disks as namespaces 1, 2, ... and a listener with these options."""
        nqn = f"nqn.2024-01.io.belfry:{name}"
        where = self.run / name
        where.mkdir(exist_ok=True)
        self.rpc("nvmf_create_subsystem", nqn=nqn, allow_any_host=True,
                 serial_number=f"SN-{name}")
        for i, disk in enumerate(disks, 1):
            self.create_bdev(f"{name}{i}", disk)
            self.rpc("nvmf_subsystem_add_ns", nqn=nqn,
                     namespace={"bdev_name": disk.name, "nsid": i})
        self.rpc("nvmf_subsystem_add_listener", nqn=nqn, listen_address={
            "trtype": "VFIOUSER", "traddr": str(where), "trsvcid": "0"},
                 **listener)
        return Export(name, nqn, [vfio_user(where / "cntrl", name)],
                      where / "cntrl")

    def sound(self):
        """Raises if the daemon died; for a look after each case."""
        if self.process.poll() is not None:
            raise PeerError(f"belfryd ended with {self.process.returncode}: "
                            + self.tail())

    def kill(self, how=signal.SIGKILL, wait=15):
        """Its exit status after a signal; negative if that ended it."""
        if self.rpc:
            self.rpc.close()
        self.killed = how == signal.SIGKILL
        return end(self.process, how, wait) if self.process else None

    def close(self):
        """End it in order, unless the case killed it already."""
        killed = self.killed
        status = self.kill(signal.SIGTERM)
        shutil.rmtree(self.run, ignore_errors=True)
        if status and not killed:       # a sanitizer's findings too
            raise PeerError(f"belfryd ended with {status}: {self.tail()}")


class QemuNvme:
    """The same interface over QEMU's NVMe device. Has no RPC."""
    is_belfry = False

    def __init__(self, folder, **_):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def rpc(self, method, **_):
        raise Skip(f"{method} is for belfryd")

    def export(self, name, disks):
        args = [{"driver": "nvme-subsys", "id": f"sub-{name}", "nqn": name},
                {"driver": "nvme", "id": name, "serial": f"SN-{name}",
                 "subsys": f"sub-{name}"}]
        if len(disks) == 1:     # what device_add can take in one go
            args = [{"driver": "nvme", "id": name, "serial": f"SN-{name}"}]
        for i, disk in enumerate(disks, 1):
            disk.name = f"{name}{i}"
            disk.path = disk.path or make_file(self.folder, disk.name,
                                               disk.mib)
            args = ["-drive", f"file={disk.path},id={disk.name},if=none,"
                    "format=raw,cache=none,discard=unmap"] + args
            if len(disks) == 1:
                args[-1].update(drive=disk.name, physical_block_size=disk.block,
                                logical_block_size=disk.block)
                continue
            args.append({"driver": "nvme-ns", "nsid": i, "bus": name,
                         "drive": disk.name, "uuid": disk.uuid,
                         "logical_block_size": disk.block,
                         "physical_block_size": disk.block})
        return Export(name, f"nqn.2019-08.org.qemu:{name}", args)

    def sound(self):
        pass

    def kill(self, *_):
        raise Skip("there is no daemon")

    def close(self):
        pass
