# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest in QEMU: start it, talk to its shell, drive QMP, end it.

Not for what is tested: that is in cases_*.py. The guest set (QEMU, kernel,
initramfs) comes from scripts/guest-fetch.sh. No QEMU outlives this process,
however it ends: each is killed by the kernel when its parent dies.
"""
import atexit
import base64
import ctypes
import importlib.util
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import threading
import time

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_alive = []


class GuestError(Exception):
    """The guest or QEMU did not do what it was told."""


def cache():
    """Where guest-fetch.sh put the guest set."""
    base = os.environ.get("BELFRY_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
        "belfry")
    return pathlib.Path(base) / "guest"


def accelerator():
    """kvm if it works on this machine, else tcg."""
    return subprocess.run([SCRIPTS / "guest-accel.sh", cache()], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()


def cores(daemon_cores=1):
    """(cores for the daemon, cores for QEMU), apart if there are enough."""
    own = sorted(os.sched_getaffinity(0))
    return own[:daemon_cores], own[daemon_cores:] or own


def spawn(command, on=None, **kwargs):
    """A process that dies with us, on the cores @on."""
    def child():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if on:
            os.sched_setaffinity(0, on)
    process = subprocess.Popen(command, preexec_fn=child, **kwargs)
    _alive.append(process)
    return process


def end(process, how=signal.SIGKILL, wait=10):
    """Signal a process that spawn() made and collect it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in _alive:
        _alive.remove(process)
    return process.returncode


@atexit.register
def end_all():
    """Leave nothing behind."""
    for process in list(_alive):
        end(process)


def overlay(files):
    """A cpio archive of {path: (mode, bytes)} to append to the initramfs."""
    spec = importlib.util.spec_from_file_location(
        "cpio", SCRIPTS / "guest-cpio.py")
    cpio = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cpio)
    return cpio.archive((name, 0o100000 | mode, data)
                        for name, (mode, data) in files.items())


def vfio_user(path, name, **more):
    """The device that attaches to the vfio-user socket @path."""
    return {"driver": "vfio-user-pci", "id": name,
            "socket": {"path": str(path), "type": "unix"}, **more}


# How Linux may be behind a virtual IOMMU: {mode: (what its kernel is told, the type of the disk's group then)}
IOMMU_MODES = {"strict": ("iommu.strict=1", "DMA"),
               "lazy": ("iommu.strict=0", "DMA-FQ"),
               "pt": ("iommu=pt", "identity")}


def iommu(mode, caching=True):
    """(QEMU's device, options of Guest) of a virtual IOMMU; @caching: the devices hear of each map."""
    device = {"driver": "intel-iommu", "intremap": "on"}
    if caching:
        device["caching-mode"] = True
    return device, {"machine": ",kernel-irqchip=split", "append":
                    f"intel_iommu=on iommu=on {IOMMU_MODES[mode][0]}"}


def iommu_set(guest, mode, ctrl="nvme0"):
    """See to it that the controller's group is of that mode."""
    kind = IOMMU_MODES[mode][1]
    group = f"/sys/class/nvme/{ctrl}/device/iommu_group/type"
    if mode == "lazy":          # a caching IOMMU is strict until told
        guest.check(f"echo {kind} >{group}")
    got = guest.check(f"cat {group}").strip()
    if got != kind:
        raise GuestError(f"the IOMMU is in mode {got}, not {kind}")


def kernel(folder, append):
    """Arguments that boot the guest set's kernel without a disk."""
    root = cache()
    initrd = folder / "initrd.img"
    if not initrd.exists():
        initrd = root / "initrd.img"
    return ["-kernel", str(root / "tools/vmlinuz"), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
            "tsc=reliable " + append]


def uefi():
    """Arguments that make UEFI the firmware; what it stores is forgotten."""
    ovmf = cache() / "boot/root/usr/share/OVMF"
    flash = "if=pflash,format=raw,file=" + str(ovmf)
    return ["-drive", flash + "/OVMF_CODE_4M.fd,readonly=on",
            "-drive", flash + "/OVMF_VARS_4M.fd,snapshot=on"]


def boot_disk(path):
    """A disk that a firmware can boot the guest from."""
    subprocess.run([SCRIPTS / "guest-disk.sh", cache(), path], check=True)


def command(folder, args, mem=512, smp=1, append="", machine="", backend="",
            firmware=None):
    """QEMU's command line; @args are -device members or plain arguments.

    @append, @machine and @backend are added to what the kernel, -machine and
    the memory's -object are told. @firmware, "bios" or "uefi": it boots from a disk.
    """
    root = cache()
    boot = {None: lambda: kernel(folder, append), "uefi": uefi,
            "bios": list}[firmware]
    accel = accelerator()
    line = [
        str(root / "qemu/qemu-system-x86_64"), "-nodefaults",
        "-no-user-config", "-display", "none", "-accel", accel,
        "-cpu", "host" if accel == "kvm" else "max", "-smp", str(smp),
        "-m", f"{mem}M", "-machine", "q35,memory-backend=mem0" + machine,
        "-object", f"memory-backend-memfd,id=mem0,size={mem}M,share=on"
        + backend,
        *boot(),
    ]
    for arg in args:
        line += ["-device", json.dumps(arg)] if isinstance(arg, dict) \
            else [arg]
    return line


class Serial:
    """What comes out of the guest's second serial port, line by line."""

    def __init__(self, process, log):
        self.process = process
        self.text = ""
        self.pos = 0
        self.closed = False
        self.more = threading.Condition()
        self.log = open(log, "ab", buffering=0)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.log.write(data)
            with self.more:
                self.text += data.decode(errors="replace")
                self.more.notify_all()
        with self.more:
            self.closed = True
            self.more.notify_all()

    def send(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise GuestError("QEMU is gone") from error

    def wait(self, pattern, timeout):
        """Wait for @pattern in what has not been consumed; consume up to it.

        Returns (text before it, match).
        """
        until = time.monotonic() + timeout
        regex = re.compile(pattern, re.M)
        with self.more:
            while not (match := regex.search(self.text, self.pos)):
                left = until - time.monotonic()
                if self.closed:
                    raise GuestError("QEMU ended while we waited for "
                                     f"{pattern!r}")
                if left <= 0:
                    raise GuestError(f"no {pattern!r} from the guest in "
                                     f"{timeout} s")
                self.more.wait(left)
            before = self.text[self.pos:match.start()]
            self.pos = match.end()
        return before, match

    def drain(self):
        """All that has come and was not consumed."""
        with self.more:
            text, self.pos = self.text[self.pos:], len(self.text)
        return text


class Qmp:
    """QEMU's control socket."""

    def __init__(self, path, timeout=10):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        until = time.monotonic() + timeout
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > until:
                    raise GuestError("QEMU opened no QMP socket") from None
                time.sleep(0.02)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, execute, **arguments):
        self.file.write(json.dumps({"execute": execute,
                                    "arguments": arguments}) + "\n")
        self.file.flush()
        while line := self.file.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise GuestError(f"QMP {execute}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise GuestError(f"QMP {execute}: QEMU is gone")


class Guest:
    """A running guest. Use as a context manager, or call close()."""

    def __init__(self, folder, args, files=None, on=None, boot_timeout=90,
                 **options):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.boot_timeout = boot_timeout
        self.token = 0
        self.kernel_log = self.folder / "kernel.log"
        self.qemu_log = self.folder / "qemu.log"
        if files:
            base = (cache() / "initrd.img").read_bytes()
            (self.folder / "initrd.img").write_bytes(base + overlay(files))
        qmp = self.folder / "qmp"
        line = command(self.folder, args, **options) + [
            "-serial", f"file:{self.kernel_log}", "-serial", "stdio",
            "-qmp", f"unix:{qmp},server=on,wait=off"]
        (self.folder / "qemu.cmd").write_text(shlex.join(line) + "\n")
        self.process = spawn(line, on or cores()[1], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE,
                             stderr=open(self.qemu_log, "wb"))
        self.serial = Serial(self.process, self.folder / "serial.log")
        self.qmp = None
        try:
            self.ready()
            self.qmp = Qmp(qmp)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ready(self):
        """Wait until the guest's shell listens."""
        try:
            self.serial.wait(r"^@@READY\r?\n", self.boot_timeout)
        except GuestError as error:
            said = self.qemu_log.read_text(errors="replace").strip()
            raise GuestError(f"no boot: {error}; QEMU said: "
                             f"{said[-300:] or 'nothing'}") from error

    def begin(self, script):
        """Start a script whose output serial.wait() can follow."""
        self.token += 1
        code = base64.b64encode(script.encode()).decode()
        self.serial.send(f"t{self.token} {code}")

    def finish(self, timeout=30):
        """(status, output) of the script that begin() started."""
        out, match = self.serial.wait(
            rf"\r?\n@@RC t{self.token} (\d+)\r?\n", timeout)
        return int(match[1]), out

    def run(self, script, timeout=30):
        """(status, output) of a shell script in the guest."""
        self.begin(script)
        return self.finish(timeout)

    def check(self, script, timeout=30):
        """The output of a script that must succeed."""
        status, out = self.run(script, timeout)
        if status:
            out = out.strip() if len(out) < 1200 else \
                f"{out[:800].strip()} ... {out[-400:].strip()}"
            raise GuestError(f"`{script}` exited {status}: {out}")
        return out

    def json(self, script, timeout=30):
        """What a script prints as JSON, notes before it skipped."""
        out = self.check(script, timeout)
        try:
            return json.loads(out[out.index("{"):out.rindex("}") + 1])
        except ValueError as error:
            raise GuestError(f"`{script}` printed no JSON: "
                             f"{out[:300]}") from error

    def wait_for(self, condition, timeout=15):
        """Wait until a shell condition holds in the guest."""
        self.check(f"for i in $(seq {timeout * 10}); do {condition} && "
                   f"exit 0; sleep 0.1; done; echo 'never: {condition}'; "
                   "exit 1", timeout * 3 + 10)

    def namespace(self, nsid, ctrl="nvme0"):
        """The block device of a namespace: its name need not end in nsid."""
        return "/dev/" + self.check(
            "for i in $(seq 100); do "
            f"name=$(grep -lx {nsid} /sys/block/{ctrl}n*/nsid 2>/dev/null | "
            "cut -d / -f 4); [ -b \"/dev/$name\" ] && echo $name && exit 0; "
            f"sleep 0.1; done; echo no disk for nsid {nsid}; ls /sys/block; "
            "exit 1").strip()

    def system_reset(self):
        """Push the reset button; the shell is ready again on return."""
        self.serial.drain()
        self.qmp("system_reset")
        self.ready()

    def complaints(self):
        """The kernel's lines that no healthy disk causes."""
        bad = re.compile(r"BUG:|Oops|Call Trace|I/O error|timeout|"
                         r"CSTS|hung task|nobody cared|controller is down")
        text = self.kernel_log.read_text(errors="replace")
        return [line for line in text.splitlines() if bad.search(line)]

    def poweroff(self, timeout=30):
        """Shut the guest down in order; QEMU's exit status."""
        self.serial.send(f"off {base64.b64encode(b'poweroff -f').decode()}")
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise GuestError(f"no power-off in {timeout} s") from None
        return self.close()

    def kill(self):
        """As a crash of QEMU: SIGKILL."""
        return end(self.process)

    def close(self):
        """End QEMU if it still runs."""
        status = end(self.process)
        if self.qmp:
            self.qmp.socket.close()
        (self.folder / "initrd.img").unlink(missing_ok=True)
        return status


def fio(guest, device, timeout=120, **options):
    """Run fio on a disk of the guest; its JSON for the one job.

    The device must be a block device: fio would make a file and be happy.
    """
    options = {"name": "job", "filename": device, "direct": 1,
               "ioengine": "libaio", "thread": 1, "verify_fatal": 1,
               **options}
    words = " ".join(f"--{key}={value}" for key, value in options.items())
    result = guest.json(f"[ -b {device} ] || {{ echo no disk {device}; exit "
                        f"9; }}; cd /tmp; fio {words} --output-format=json",
                        timeout)
    job = result["jobs"][0]
    if job["error"]:
        raise GuestError(f"fio on {device}: error {job['error']}")
    return job
