# SPDX-License-Identifier: BSD-3-Clause
"""Verified I/O, and disks that come, go and grow under it."""
import os

from peer import Disk, Skip
from rpc import RpcError
from vm import fio

NS1, NS3 = "/dev/nvme0n1", "/dev/nvme0n3"


def verify(env, guest, device, mib=16, **more):
    """Random writes of mixed sizes, then all is read and compared."""
    job = fio(guest, device, rw="randwrite", size=f"{mib}M",
              verify="crc32c", do_verify=1, **{
                  "bssplit": "4k/50:8k/20:32k/10:64k/10:128k/10",
                  "iodepth": 32, **more})
    for way in ("read", "write"):
        env.expect(job[way]["io_bytes"] >= mib << 20, f"fio {way} only "
                   f"{job[way]['io_bytes']} bytes of {device}")


def case_fio_aio(env):
    """Verified writes on a file, 512-byte blocks, unaligned ones too."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    verify(env, guest, ns1, 24)
    verify(env, guest, ns1, 2, bssplit="512/30:1536/30:3584/20:7168/20")
    # A few MiB at once: split by the kernel at MDTS, PRP lists in full.
    verify(env, guest, ns1, 32, bssplit="1M/50:2M/30:4M/20", iodepth=8)


def case_fio_malloc(env):
    """Verified writes on memory, 4096-byte blocks."""
    _, _, disks, guest = env.main()
    ns2 = disks[1].device
    verify(env, guest, ns2, 24)
    verify(env, guest, ns2, 32, bssplit="1M/50:2M/50", iodepth=8)


def case_fio_queues(env):
    """Many jobs at once over both namespaces and both queues."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    ns2 = disks[1].device
    guest.check(
        f"[ -b {ns1} ] && [ -b {ns2} ] && cd /tmp && fio --direct=1 "
        "--ioengine=libaio --iodepth=16 --bs=4k --size=4M --thread "
        "--rw=randwrite --verify=crc32c --verify_fatal=1 --numjobs=4 "
        f"--offset_increment=4M --name=a --filename={ns1} "
        f"--name=b --filename={ns2}", 90)


def case_backing_file(env):
    """Guest and host see the same bytes; fio notices when they differ."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    data = os.urandom(1 << 20)
    at = 100 << 20
    with open(disks[0].path, "r+b") as file:
        file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    guest.check(f"dd if={ns1} of=/tmp/d bs=1M skip=100 count=1 iflag=direct; "
                f"tr 'A-Za-z' 'N-ZA-Mn-za-m' </tmp/d >/tmp/e; dd if=/tmp/e "
                f"of={ns1} bs=1M seek=101 oflag=direct conv=fsync")
    rot13 = bytes.maketrans(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        b"NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm")
    with open(disks[0].path, "rb") as file:
        file.seek(at + (1 << 20))
        env.expect(file.read(1 << 20) == data.translate(rot13),
                   "what the guest wrote is not what it read, turned")
    options = {"offset": "96M", "size": "1M", "bs": "4k", "rw": "write",
               "verify": "crc32c", "do_verify": 0, "verify_state_save": 0}
    fio(guest, ns1, **options)
    with open(disks[0].path, "r+b") as file:
        file.seek((96 << 20) + 777777)
        file.write(b"belfry")
        file.flush()
        os.fsync(file.fileno())
    status, _ = guest.run(f"cd /tmp; fio --name=v --filename={ns1} --direct=1 "
                          "--offset=96M --size=1M --bs=4k --rw=read "
                          "--ioengine=libaio --verify=crc32c --verify_only "
                          "--verify_fatal=1")
    env.expect(status, "fio did not notice six wrong bytes")


def case_hotplug_ns(env):
    """A namespace comes, works and goes by RPC, under I/O on another."""
    peer, export, disks, guest = env.main()
    ns1 = disks[0].device
    peer.rpc("rpc_get_methods")
    guest.check(f"cd /tmp; (fio --name=bg --filename={ns1} --direct=1 "
                "--thread --ioengine=libaio --iodepth=8 --rw=randwrite "
                "--bs=4k --size=8M --verify=crc32c --verify_fatal=1 "
                "--loops=100 --time_based --runtime=8; echo $? >/tmp/bg) "
                ">/tmp/bg.out 2>&1 &")
    disk = Disk("malloc", 32, 512)
    for nsid, by_bdev in ((3, False), (3, True)):
        peer.create_bdev("hot", disk)
        got = peer.rpc("nvmf_subsystem_add_ns", nqn=export.nqn,
                       namespace={"bdev_name": "hot"})
        env.expect(got == nsid, f"add_ns answered {got}")
        guest.wait_for(f"[ -b {NS3} ]")
        size = int(guest.check(f"blockdev --getsize64 {NS3}"))
        env.expect(size == disk.size, f"the new disk has {size} bytes")
        verify(env, guest, NS3, 4)
        if by_bdev:
            peer.rpc("bdev_malloc_delete", name="hot")
        else:
            peer.rpc("nvmf_subsystem_remove_ns", nqn=export.nqn, nsid=3)
            peer.rpc("bdev_malloc_delete", name="hot")
        guest.wait_for(f"[ ! -e {NS3} ]")
    guest.wait_for("[ -e /tmp/bg ]", 20)
    status = guest.check("cat /tmp/bg").strip()
    env.expect(status == "0", "fio on the other namespace: "
               + guest.check("tail -c 400 /tmp/bg.out"))


def case_fio_uring(env):
    """Verified writes on a file by io_uring, which is discarded and grows."""
    peer, export, _, guest = env.main()
    disk = Disk("uring", 48, 512)
    try:
        peer.create_bdev("ring", disk)
    except RpcError as error:
        if "io_uring" not in str(error):
            raise
        raise Skip(str(error)) from None
    peer.rpc("nvmf_subsystem_add_ns", nqn=export.nqn,
             namespace={"bdev_name": "ring", "nsid": 3})
    guest.wait_for(f"[ -b {NS3} ]")
    verify(env, guest, NS3, 24)
    verify(env, guest, NS3, 2, bssplit="512/30:1536/30:3584/20:7168/20")
    verify(env, guest, NS3, 32, bssplit="1M/50:2M/30:4M/20", iodepth=8)
    verify(env, guest, NS3, 4, fdatasync=8)
    left = guest.check(f"blkdiscard -o {4 << 20} -l {8 << 20} {NS3} && "
                       f"dd if={NS3} bs=1M skip=4 count=8 iflag=direct "
                       "2>/dev/null | tr -d '\\0' | wc -c")
    env.expect(left.strip() == "0", f"{left} bytes after a discard")
    os.truncate(disk.path, disk.size + (16 << 20))
    peer.rpc("bdev_uring_rescan", name="ring")
    guest.wait_for(f"[ $(blockdev --getsize64 {NS3}) = "
                   f"{disk.size + (16 << 20)} ]")
    peer.rpc("bdev_uring_delete", name="ring")
    guest.wait_for(f"[ ! -e {NS3} ]")


def case_resize(env):
    """A file grows; bdev_aio_rescan tells the guest."""
    peer, _, disks, guest = env.main()
    ns1 = disks[0].device
    peer.rpc("bdev_get_bdevs")
    disk = disks[0]
    os.truncate(disk.path, disk.size + (16 << 20))
    disk.size += 16 << 20
    peer.rpc("bdev_aio_rescan", name=disk.name)
    guest.wait_for(f"[ $(blockdev --getsize64 {ns1}) = {disk.size} ]")
    guest.check(f"dd if=/dev/zero of={ns1} bs=1M count=1 seek="
                f"{(disk.size >> 20) - 1} oflag=direct")


def case_poweroff(env):
    """An orderly shutdown; the next guest finds a fresh controller."""
    peer, export, _, guest = env.main()
    status = guest.poweroff()
    env.expect(status == 0, f"QEMU exited {status}")
    env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
    peer.sound()
    with env.guest("again", export.args) as again:
        again.check(f"dd if={again.namespace(1)} of=/dev/null bs=1M count=4 "
                    "iflag=direct")
    env.drop_main()


def case_intx(env):
    """Without MSI-X, by legacy interrupts."""
    export = env.peer().export("intx", [Disk("aio", 64, 512)])
    with env.guest("vm", export.args, append="pci=nomsi") as guest:
        guest.wait_for(f"[ -b {NS1} ]")
        verify(env, guest, NS1, 8)
        lines = guest.check("grep nvme /proc/interrupts")
        env.expect("IO-APIC" in lines and "MSI" not in lines,
                   f"not INTx: {lines}")
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")


def case_two_controllers(env):
    """Two at once, 512 and 4096, memory above 4 GiB; nothing is mixed up."""
    peer = env.peer()
    disks = [Disk("aio", 48, 512), Disk("aio", 48, 4096)]
    # 3 GiB: the third lies above 4 GiB, and is what Linux hands out first.
    exports = [peer.export("one", disks[:1]), peer.export("two", disks[1:])]
    with env.guest("vm", exports[0].args + exports[1].args,
                   mem=3072) as guest:
        guest.wait_for(f"[ -b {NS1} ] && [ -b /dev/nvme1n1 ]")
        guest.check(
            f"[ -b {NS1} ] && [ -b /dev/nvme1n1 ] && cd /tmp && fio "
            "--direct=1 --ioengine=libaio --iodepth=16 --size=16M --thread "
            "--bssplit=4k/60:128k/40 --rw=randwrite --verify=crc32c "
            f"--verify_fatal=1 --name=a --filename={NS1} "
            "--name=b --filename=/dev/nvme1n1", 90)
        for i in (0, 1):
            guest.check(f"yes disk{i} | head -c 1048576 >/tmp/m; dd if=/tmp/m "
                        f"of=/dev/nvme{i}n1 bs=1M oflag=direct conv=fsync")
        # Which of the two came first is the guest's affair.
        heads = []
        for disk in disks:
            with open(disk.path, "rb") as file:
                heads.append(file.read(1 << 20))
        want = [(b"disk%d\n" % i * 174763)[:1 << 20] for i in (0, 1)]
        env.expect(sorted(heads) == want, "the disks' data is mixed up")
        env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")
