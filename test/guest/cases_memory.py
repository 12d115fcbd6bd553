# SPDX-License-Identifier: BSD-3-Clause
"""The guest's memory: huge pages, above 4 GiB, behind a virtual IOMMU."""
import re

from cases_io import NS1, verify
from peer import Disk, Skip
from vm import fio, iommu, iommu_set

HUGE_KIB = 2048
FOUR_GIB = 4 << 30


class HugePages:
    """Pages of 2 MiB that the kernel sets aside while this is open."""
    PATH = "/proc/sys/vm/nr_hugepages"

    def __init__(self, mib):
        self.pages = mib * 1024 // HUGE_KIB
        self.before = None

    @staticmethod
    def meminfo(key):
        """A count; reservations may be below 0, which shows as 2^64 - n."""
        with open("/proc/meminfo", encoding="ascii") as file:
            found = re.search(rf"^{key}: +(\d+)", file.read(), re.M)
        value = int(found[1]) if found else 0
        return value - (1 << 64) if value >> 63 else value

    def spare(self):
        """Pages that nobody has or was promised."""
        return self.meminfo("HugePages_Free") - \
            max(self.meminfo("HugePages_Rsvd"), 0)

    def write(self, pages):
        with open(self.PATH, "w", encoding="ascii") as file:
            file.write(f"{pages}\n")

    def __enter__(self):
        if self.meminfo("Hugepagesize") != HUGE_KIB:
            raise Skip("the kernel's huge pages are not of 2 MiB")
        try:
            with open(self.PATH, encoding="ascii") as file:
                self.before = int(file.read())
            self.write(self.before + self.pages)
        except OSError as error:
            raise Skip(f"no huge pages: {error}") from None
        if self.spare() < self.pages:
            spare = self.spare()
            self.write(self.before)
            raise Skip(f"only {spare} of {self.pages} huge pages to be had")
        return self

    def __exit__(self, *_):
        self.write(self.before)


def huge_kib(pid):
    """How much of a process's shared memory lies on 2 MiB pages."""
    with open(f"/proc/{pid}/smaps", encoding="ascii",
              errors="replace") as file:
        return sum(int(kib) for kib in re.findall(
            r"^Shared_Hugetlb: +(\d+)|^Private_Hugetlb: +(\d+)",
            file.read(), re.M) for kib in kib if kib)


def case_hugetlb(env):
    """The guest's RAM on huge pages of 2 MiB; belfryd maps them as such."""
    mem = 256
    with HugePages(mem):
        peer = env.peer()
        export = peer.export("huge", [Disk("aio", 64, 512)])
        with env.guest("vm", export.args, mem=mem,
                       backend=",hugetlb=on,hugetlbsize=2M") as guest:
            guest.wait_for(f"[ -b {NS1} ]")
            verify(env, guest, NS1, 16)
            has = huge_kib(guest.process.pid)
            env.expect(has, "QEMU has no huge pages")
            if env.peer_is_belfry():
                env.expect(huge_kib(peer.process.pid),
                           f"of QEMU's {has} KiB on huge pages belfryd "
                           "touched none")
            env.expect(not guest.complaints(),
                       f"kernel: {guest.complaints()[:1]}")


def buffers_at(guest, path):
    """Physical addresses of the file @path where a process has it mapped."""
    out = guest.check(
        "for m in /proc/[0-9]*/maps; do "
        f"r=$(grep -m 1 -F {path} $m 2>/dev/null | cut -d ' ' -f 1); "
        '[ "$r" ] || continue; a=$((0x${r%-*} / 4096)); '
        "b=$((0x${r#*-} / 4096)); "
        "dd if=${m%maps}pagemap bs=8 skip=$a count=$((b - a)) 2>/dev/null | "
        "od -A n -v -t u8; break; done")
    entries = [int(word) for word in out.split()]
    return [(entry & (1 << 55) - 1) * 4096 for entry in entries
            if entry >> 63]


def case_big_ram(env):
    """5 GiB: three of them lie above 4 GiB, and fio's buffers do."""
    export = env.peer().export("big", [Disk("aio", 64, 512)])
    with env.guest("vm", export.args, mem=5120) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM",
                            guest.check("cat /proc/iomem"), re.M)
        above = sum(int(last, 16) + 1 - int(first, 16)
                    for first, last in ranges if int(first, 16) >= FOUR_GIB)
        env.expect(above >= 2 << 30, f"RAM above 4 GiB: {above} bytes")
        # At that rate there is time to look; fio's buffers are in a file
        # so that we find them.
        guest.check("cd /tmp; dd if=/dev/zero of=buffers bs=64k count=17; "
                    f"(fio --name=bg --filename={NS1} --direct=1 --thread "
                    "--ioengine=libaio --iodepth=16 --rw=randwrite --bs=64k "
                    "--mem=mmapshared:/tmp/buffers --size=16M --rate=8M,8M "
                    "--verify=crc32c --verify_fatal=1 --do_verify=1; "
                    "echo $? >/tmp/bg) >/tmp/bg.out 2>&1 &")
        at = []
        while len(at) < 256 and guest.run("[ -e /tmp/bg ]")[0]:
            at = buffers_at(guest, "/tmp/buffers")
        env.expect(len(at) >= 256, f"found {len(at)} pages of buffers: "
                   + guest.check("tail -c 400 /tmp/bg.out"))
        low = [address for address in at if address < FOUR_GIB]
        env.expect(not low, f"{len(low)} of {len(at)} pages of buffers lie "
                   "below 4 GiB")
        guest.wait_for("[ -e /tmp/bg ]", 30)
        env.expect(guest.check("cat /tmp/bg").strip() == "0", "fio: "
                   + guest.check("tail -c 400 /tmp/bg.out"))
        verify(env, guest, NS1, 16)
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
        env.note = f"{above >> 20} MiB and all {len(at)} pages of fio's " \
            "buffers above 4 GiB"


def mapped(peer):
    """(maps, unmaps) that the one client has asked for."""
    client = peer.rpc("belfry_get_clients")[0]["client"]
    return client["quota"]["maps"], client["quota"]["unmaps"]


def behind_iommu(env, mode):
    """Run fio behind a virtual IOMMU; (maps, unmaps, I/Os).

    The case's note gets the rates of maps and unmaps.
    """
    peer = env.peer()
    export = peer.export(mode, [Disk("aio", 64, 512)])
    device, options = iommu(mode, caching=peer.is_belfry)
    with env.guest("vm", [device] + export.args, **options) as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        env.expect(guest.check("ls /sys/class/iommu").strip(), "no IOMMU")
        iommu_set(guest, mode)
        verify(env, guest, NS1, 4)
        if peer.is_belfry:
            before = mapped(peer)
            job = fio(guest, NS1, rw="randwrite", bs="4k", iodepth=32,
                      size="4M", verify="crc32c", do_verify=1)
            maps, unmaps = (after - then for after, then
                            in zip(mapped(peer), before))
            ios = job["read"]["total_ios"] + job["write"]["total_ios"]
            took = (job["read"]["runtime"] + job["write"]["runtime"]) / 1000
            env.note = f"{ios} I/Os in {took:.2f} s, {maps / took:.0f} " \
                f"maps/s, {unmaps / took:.0f} unmaps/s"
        else:
            maps = unmaps = ios = 0
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
    return maps, unmaps, ios


def case_viommu(env):
    """Behind a virtual IOMMU: every buffer is mapped and unmapped."""
    maps, unmaps, ios = behind_iommu(env, "strict")
    env.expect(maps >= ios and unmaps >= ios,
               f"{maps} maps and {unmaps} unmaps for {ios} I/Os")


def case_viommu_lazy(env):
    """The same, but Linux unmaps late and by the batch."""
    maps, unmaps, ios = behind_iommu(env, "lazy")
    env.expect(maps >= ios and unmaps, f"{maps} maps and {unmaps} unmaps "
               f"for {ios} I/Os")


def case_viommu_pt(env):
    """A virtual IOMMU that passes through: nothing is mapped for an I/O."""
    maps, unmaps, _ = behind_iommu(env, "pt")
    env.expect(not maps and not unmaps, f"{maps} maps and {unmaps} unmaps")
