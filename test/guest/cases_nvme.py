# SPDX-License-Identifier: BSD-3-Clause
"""What the guest's driver and nvme-cli see of a controller."""
import re
import time

from peer import Skip

D = "/dev/nvme0"


def case_boot(env):
    """Both disks are there, as large as they should be; SeaBIOS saw them."""
    peer, _, disks, guest = env.main()
    for disk in disks:
        device = disk.device
        size, block = guest.check(f"blockdev --getsize64 {device}; "
                                  f"blockdev --getss {device}").split()
        env.expect(int(size) == disk.size, f"{device} has {size} bytes")
        env.expect(int(block) == disk.block, f"{device}: blocks of {block}")
    pci = guest.check("lspci -D -nn -vv -d ::0108")
    env.expect("[0108]" in pci, f"no NVMe class code: {pci[:200]}")
    env.expect(re.search(r"MSI-X: Enable\+", pci), "MSI-X is not on")
    env.expect("Express" in pci, "no PCI Express capability")
    if peer.is_belfry:
        env.expect("[4e58:0001]" in pci, f"other ids: {pci[:200]}")
        env.expect("Power Management" in pci, "no PM capability")
    env.expect(not guest.complaints(), f"kernel: {guest.complaints()[:1]}")


def case_identify(env):
    """nvme list, id-ctrl, id-ns, ns-descs, list-ns, list-ctrl."""
    peer, export, disks, guest = env.main()
    listed = guest.json("nvme list -o json")
    env.expect(all(disk.device in str(listed) for disk in disks),
               f"nvme list: {listed}")
    ctrl = guest.json(f"nvme id-ctrl {D} -o json")
    env.expect(ctrl["sn"].strip() == "SN-main", f"serial {ctrl['sn']!r}")
    env.expect(ctrl["subnqn"] == export.nqn, f"subnqn {ctrl['subnqn']!r}")
    env.expect(ctrl["nn"] >= 2, f"nn {ctrl['nn']}")
    env.expect(ctrl["sqes"] == 0x66 and ctrl["cqes"] == 0x44,
               f"sqes {ctrl['sqes']:#x} cqes {ctrl['cqes']:#x}")
    if peer.is_belfry:
        env.expect(ctrl["vid"] == 0x4E58, f"vid {ctrl['vid']:#x}")
        env.expect(ctrl["ver"] == 0x20000, f"ver {ctrl['ver']:#x}")
        env.expect(ctrl["mdts"] == 8, f"mdts {ctrl['mdts']}")
        env.expect(ctrl["oncs"] & 0x8D == 0x8D, f"oncs {ctrl['oncs']:#x}")
    for nsid, disk in enumerate(disks, 1):
        ns = guest.json(f"nvme id-ns {D} -n {nsid} -o json")
        env.expect(ns["nsze"] == disk.size // disk.block, f"nsze {ns['nsze']}")
        lbaf = ns["lbafs"][ns["flbas"] & 15]
        env.expect(1 << lbaf["ds"] == disk.block, f"lbaf {lbaf}")
        descs = guest.check(f"nvme ns-descs {D} -n {nsid}")
        env.expect(disk.uuid in descs, f"no {disk.uuid} in {descs}")
    out = guest.check(f"nvme list-ns {D}; nvme list-ctrl {D}")
    env.expect(re.search(r"\[\s*0\]:0x1\s+\[\s*1\]:0x2\s", out), out)
    status, out = guest.run(f"nvme id-ns {D} -n 77777")
    env.expect(status, f"id-ns of a namespace that is not there: {out}")


def case_logs(env):
    """smart-log, error-log, effects-log, fw-log and lists of pages."""
    peer, _, disks, guest = env.main()
    ns1 = disks[0].device
    before = guest.json(f"nvme smart-log {D} -o json")
    guest.check(f"dd if={ns1} of=/dev/null bs=4k count=50 iflag=direct")
    guest.check(f"dd if=/dev/zero of={ns1} bs=4k count=30 oflag=direct")
    after = guest.json(f"nvme smart-log {D} -o json")
    reads = after["host_read_commands"] - before["host_read_commands"]
    writes = after["host_write_commands"] - before["host_write_commands"]
    env.expect(reads == 50, f"50 reads are counted as {reads}")
    env.expect(writes == 30, f"30 writes are counted as {writes}")
    env.expect(after["critical_warning"] == 0, f"warning in {after}")
    effects = guest.check(f"nvme effects-log {D} -c 0")
    env.expect("Read" in effects and "Identify" in effects, effects[:300])
    pages = ["error-log", "fw-log", "changed-ns-list-log"]
    if peer.is_belfry:
        pages += ["supported-log-pages"]
    for page in pages:
        guest.check(f"nvme {page} {D}")
    if peer.is_belfry:
        status, out = guest.run(f"nvme get-log {D} -i 0x6f -l 512")
        env.expect(status and "Invalid" in out, f"unknown log page: {out}")
        # Beyond the end, and a length that is no multiple of a page.
        guest.check(f"nvme get-log {D} -i 2 -l 512 -b >/dev/null")
        guest.check(f"nvme get-log {D} -i 2 -l 12 --lpo=4 -b >/dev/null")


def case_features(env):
    """get-feature of all, set-feature of the write cache, refusals."""
    peer, _, disks, guest = env.main()
    ns1 = disks[0].device
    known = "1 2 4 6 7 8 0xa 0xb"
    if peer.is_belfry:
        known += " 9 0xe 0xf 0x16 0x19"
    guest.check(f"for f in {known}; do nvme get-feature {D} -f $f || "
                "{ echo feature $f; exit 1; }; done", 60)
    if peer.is_belfry:
        guest.check(f"for f in {known}; do for s in 1 3; do nvme get-feature "
                    f"{D} -f $f -s $s || {{ echo feature $f select $s; exit "
                    "1; }; done; done", 60)
    guest.check(f"nvme get-feature {D} -f 5 -n 1")
    guest.check(f"nvme set-feature {D} -f 6 -V 0")
    out = guest.check(f"nvme get-feature {D} -f 6")
    env.expect("00000000" in out, f"write cache is not off: {out}")
    guest.check(f"dd if=/dev/zero of={ns1} bs=4k count=4 oflag=direct")
    guest.check(f"nvme set-feature {D} -f 6 -V 1")
    out = guest.check(f"nvme get-feature {D} -f 6")
    env.expect("00000001" in out, f"write cache is not on: {out}")
    for bad in (f"get-feature {D} -f 0x7f", f"set-feature {D} -f 0x7f -V 1",
                f"set-feature {D} -f 6 -V 1 --save"):
        status, out = guest.run(f"nvme {bad}")
        if peer.is_belfry or "--save" not in bad:
            env.expect(status, f"nvme {bad} was not refused: {out}")


def case_commands(env):
    """Flush, write zeroes, deallocate, compare, verify; on both sizes."""
    peer, _, disks, guest = env.main()
    for disk in disks:
        device = disk.device
        n = 65536 // disk.block
        io = f"--start-block=0 --block-count={n - 1} --data-size=65536 "
        guest.check(
            "tr '\\0' x </dev/zero | head -c 65536 >/tmp/x; "
            f"nvme write {device} {io} --data=/tmp/x && "
            f"nvme flush {device} && "
            f"nvme read {device} {io} --data=/tmp/y && cmp /tmp/x /tmp/y && "
            f"nvme compare {device} {io} --data=/tmp/x")
        guest.check("printf y | dd of=/tmp/x bs=1 seek=40000 conv=notrunc")
        status, out = guest.run(f"nvme compare {device} {io} --data=/tmp/x")
        env.expect(status, f"compare of other data passed: {out}")
        if peer.is_belfry:
            guest.check(f"nvme verify {device} -s 0 -c {n - 1}")
        zeroes = ("head -c 65536 /dev/zero >/tmp/z; dd if=%s of=/tmp/y "
                  "bs=64k count=1 iflag=direct; cmp /tmp/z /tmp/y" % device)
        guest.check(f"nvme write-zeroes {device} -s 0 -c {n - 1}; " + zeroes)
        guest.check(f"nvme write {device} {io} --data=/tmp/x && "
                    f"blkdiscard -o 0 -l 65536 {device} && " + zeroes)
        status, out = guest.run(f"nvme read {device} "
                                f"-s {disk.size // disk.block} -c 0 -z "
                                f"{disk.block} --data=/tmp/y")
        env.expect(status, f"a read behind the end passed: {out}")


def case_deallocate(env):
    """A discard gives the blocks of the file back."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    mib = 1 << 20
    guest.check(f"dd if=/dev/zero of={ns1} bs=1M count=16 seek=64 "
                "oflag=direct conv=fsync")
    full = disks[0].path.stat().st_blocks * 512
    guest.check(f"blkdiscard -o {64 * mib} -l {16 * mib} {ns1}")
    until = time.monotonic() + 5
    left = full
    while time.monotonic() < until and left > full - 15 * mib:
        left = disks[0].path.stat().st_blocks * 512
        time.sleep(0.1)
    env.expect(left <= full - 15 * mib,
               f"{full} bytes on disk, {left} after a discard of 16 MiB")


def case_format(env):
    """nvme format is refused, or works; either way the disk goes on."""
    peer, _, disks, guest = env.main()
    ns1 = disks[0].device
    guest.check(f"tr '\\0' f </dev/zero | head -c 4096 >/tmp/f; "
                f"dd if=/tmp/f of={ns1} bs=4k oflag=direct")
    status, out = guest.run(f"nvme format {ns1} -f", 60)
    same, _ = guest.run(f"dd if={ns1} of=/tmp/g bs=4k count=1 iflag=direct; "
                        "cmp /tmp/f /tmp/g")
    if peer.is_belfry and status:
        env.expect("Invalid" in out or "INVALID" in out, f"refused by: {out}")
        env.expect(same == 0, "refused, but the data has changed")
    guest.check(f"dd if=/dev/zero of={ns1} bs=4k count=1 oflag=direct")
    for bad in ("write-uncor %s -s 0 -c 0" % ns1, "sanitize %s -a 2" % D):
        status, out = guest.run(f"nvme {bad}")
        if peer.is_belfry:
            env.expect(status, f"nvme {bad} was not refused")


WORKS = """
id-ctrl {D} -H
id-ns {ns} -H
nvm-id-ctrl {D}
nvm-id-ns {ns}
cmdset-ind-id-ns {ns}
id-iocs {D}
list-ctrl {D}
smart-log {D} -n 1
error-log {D} -e 64
fid-support-effects-log {D}
mi-cmd-support-effects-log {D}
set-feature {D} -f 1 -V 7
set-feature {D} -f 2 -V 0x20
set-feature {D} -f 4 -V 0x170
set-feature {D} -f 5 -n 1 -V 10
set-feature {D} -f 8 -V 0
set-feature {D} -f 9 -V 0x10001
set-feature {D} -f 0xa -V 1
dsm {ns} -d -s 0 -b 8
dsm {ns} -w -s 0 -b 8
"""

REFUSED = {
    "Invalid Field in Command": """
list-ns {D} --all
list-ctrl {D} -n 1
id-uuid {D}
id-nvmset {D}
id-ns-granularity {D}
primary-ctrl-caps {D}
list-secondary {D}
list-endgrp {D}
get-feature {D} -f 3
get-feature {D} -f 0xc
get-feature {D} -f 0xd
get-feature {D} -f 0x81
set-feature {D} -f 2 -V 1
set-feature {D} -f 9 -V 0xffff
set-feature {D} -f 0x10 -V 0
set-feature {D} -f 0x84 -n 1 -V 1""",
    "Invalid Namespace or Format": """
id-ns {D} -n 77777
get-feature {D} -f 5
smart-log {D} -n 77777""",
    "Feature Identifier Not Saveable": "set-feature {D} -f 4 -V 350 --save",
    "Command Sequence Error": "set-feature {D} -f 7 -V 0x10001",
    "Invalid Log Page": """
self-test-log {D}
persistent-event-log {D} -a 1
sanitize-log {D}
endurance-log {D} -g 1
ana-log {D}
resv-notif-log {D}
lba-status-log {D}
get-log {D} -i 7 -l 512
get-log {D} -i 8 -l 512""",
    "Invalid Command Opcode": """
device-self-test {D} -n 1 -s 1
sanitize {D} -a 1
get-lba-status {ns} -s 0 -m 10 -a 0x10
resv-report {ns} -e
resv-register {ns} --nrkey=1 -r 0
copy {ns} -d 8 -s 0 -b 0
write-uncor {ns} -s 0 -c 0
security-recv {D} -p 0 -s 0 -t 16 -x 16
dir-receive {ns} -D 0 -O 1 -l 4096
delete-ns {D} -n 2
attach-ns {D} -n 1 -c 0
fw-download {D} -f /bin/busybox
fw-commit {D} -s 1 -a 1
virt-mgmt {D} -c 0 -r 0 -a 1 -n 0""",
}


def case_refusals(env):
    """What nvme-cli knows and we have, and what we refuse, by its status."""
    peer, _, disks, guest = env.main()
    if not peer.is_belfry:
        raise Skip("what is refused is belfryd's choice")

    def lines(text):
        text = text.format(D=D, ns=disks[0].device)
        return text.strip().splitlines()

    for line in lines(WORKS):
        guest.check(f"nvme {line}")
    for status, text in REFUSED.items():
        for line in lines(text):
            failed, out = guest.run(f"nvme {line} 2>&1")
            env.expect(failed and status in out, f"nvme {line}: {out[:200]}")
    log = guest.json(f"nvme error-log {D} -e 1 -o json")["errors"][0]
    env.expect(log["sqid"] == 0 and "status_field" in log, f"entry: {log}")
    guest.check(f"nvme reset {D}", 60)  # the features are as they were
    guest.wait_for(f"[ -b {disks[0].device} ]")


def case_reset(env):
    """nvme reset, idle and with I/O in flight; nothing is lost."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    guest.check(f"for i in 1 2 3 4 5; do nvme reset {D} || exit 1; done", 60)
    guest.wait_for(f"[ -b {ns1} ]")
    out = guest.check(
        f"cd /tmp; fio --name=r --filename={ns1} --direct=1 --thread "
        "--ioengine=libaio --iodepth=16 --rw=randwrite --bs=4k --size=16M "
        "--verify=crc32c --verify_fatal=1 --time_based --runtime=6 "
        "--loops=100 >/tmp/fio.out 2>&1 & fio=$!; sleep 1; "
        f"for i in 1 2 3 4; do nvme reset {D} || echo RESET FAILED; sleep 1; "
        "done; wait $fio; echo status $?; cat /tmp/fio.out", 90)
    env.expect("RESET FAILED" not in out, f"reset failed: {out[:200]}")
    env.expect("status 0" in out, f"fio under resets: {out[-400:]}")


def case_function(env):
    """FLR under I/O; the driver unbound and bound, D3hot and FLR between."""
    _, _, disks, guest = env.main()
    ns1 = disks[0].device
    dev = guest.check("basename $(readlink -f "
                      "/sys/class/nvme/nvme0/device)").split()[-1]
    at = f"/sys/bus/pci/devices/{dev}"
    methods = guest.check(f"cat {at}/reset_method")
    env.expect("flr" in methods, f"reset methods: {methods}")
    out = guest.check(
        f"echo flr >{at}/reset_method; cd /tmp; fio --name=r --filename={ns1} "
        "--direct=1 --thread --ioengine=libaio --iodepth=16 --rw=randwrite "
        "--bs=4k --size=16M --verify=crc32c --verify_fatal=1 --time_based "
        "--runtime=5 --loops=100 >/tmp/fio.out 2>&1 & fio=$!; sleep 1; "
        f"for i in 1 2 3; do echo 1 >{at}/reset || echo RESET FAILED; "
        "sleep 1; done; wait $fio; echo status $?; cat /tmp/fio.out", 90)
    env.expect("RESET FAILED" not in out, f"reset failed: {out[:200]}")
    env.expect("status 0" in out, f"fio under resets: {out[-400:]}")
    driver = "/sys/bus/pci/drivers/nvme"
    for _ in range(3):
        guest.check(f"echo {dev} >{driver}/unbind; ! [ -e {ns1} ]", 30)
        state = guest.check(f"setpci -s {dev} CAP_PM+4.W=3; sleep 0.1; "
                            f"setpci -s {dev} CAP_PM+4.W; "
                            f"setpci -s {dev} CAP_PM+4.W=0; sleep 0.1; "
                            f"setpci -s {dev} CAP_PM+4.W").split()[-2:]
        env.expect([int(s, 16) & 3 for s in state] == [3, 0],
                   f"power states: {state}")
        guest.check(f"echo 1 >{at}/reset; echo {dev} >{driver}/bind", 30)
        ns1 = guest.namespace(1)
        guest.check(f"dd if={ns1} of=/dev/null bs=64k count=16 iflag=direct")
