# SPDX-License-Identifier: BSD-3-Clause
"""An NVMe host in a few lines: enough to do I/O on a listener and see what the daemon makes of it."""
import mmap
import os
import socket
import struct
import time

from daemon import Client

PAGE = 4096
ASQ, ACQ, SQ, CQ, DATA = (i * PAGE for i in range(1, 6))
DEPTH = 16


class Host(Client):
    """Enabled controller, one I/O queue pair of 16, doorbells by message."""

    def __init__(self, path):
        super().__init__(path)
        self.memfd = os.memfd_create("guest")
        os.ftruncate(self.memfd, 1 << 20)
        self.mem = mmap.mmap(self.memfd, 1 << 20)
        self.map(0, 1 << 20)
        self.tail, self.head, self.phase, self.cid = {0: 0, 1: 0}, {0: 0, 1: 0}, {0: 1, 1: 1}, 0
        self.write(0, 0x24, struct.pack("<I", (DEPTH - 1) << 16 | (DEPTH - 1)))
        self.write(0, 0x28, struct.pack("<QQ", ASQ, ACQ))
        self.write(0, 0x14, struct.pack("<I", 4 << 20 | 6 << 16 | 1))
        while not self.read32(0x1c) & 1:
            time.sleep(0.001)
        assert self.admin(5, prp1=CQ, dw10=(DEPTH - 1) << 16 | 1, dw11=1) == 0
        assert self.admin(1, prp1=SQ, dw10=(DEPTH - 1) << 16 | 1, dw11=1 << 16 | 1) == 0

    def map(self, off, size, iova=None):
        payload = struct.pack("<IIQQQ", 32, 3, off, off if iova is None else iova, size)
        msg = struct.pack("<HHIII", 7, 2, 16 + len(payload), 0, 0) + payload
        socket.send_fds(self.s, [msg], [self.memfd])
        _, _, size, flags, err = struct.unpack("<HHIII", self.receive(16))
        assert not flags & 0x20, os.strerror(err)

    def submit(self, q, opc, nsid=0, prp1=0, dw10=0, dw11=0, dw12=0):
        self.cid = (self.cid + 1) & 0xffff
        base = SQ if q else ASQ
        sqe = struct.pack("<BBHIQQQQIIIIII", opc, 0, self.cid, nsid, 0, 0, prp1, 0, dw10, dw11, dw12, 0, 0, 0)
        self.mem[base + 64 * self.tail[q]:base + 64 * self.tail[q] + 64] = sqe
        self.tail[q] = (self.tail[q] + 1) % DEPTH
        self.write(0, 0x1000 + 8 * q, struct.pack("<I", self.tail[q]))

    def complete(self, q, timeout=10):
        """(cid, dw0, status) of the next completion."""
        at = (CQ if q else ACQ) + 16 * self.head[q]
        end = time.monotonic() + timeout
        while True:
            dw0, _, _, _, cid, status = struct.unpack("<IIHHHH", self.mem[at:at + 16])
            if status & 1 == self.phase[q]:
                break
            assert time.monotonic() < end, "no completion"
            time.sleep(0.0005)
        self.head[q] = (self.head[q] + 1) % DEPTH
        self.phase[q] ^= self.head[q] == 0
        self.write(0, 0x1004 + 8 * q, struct.pack("<I", self.head[q]))
        return cid, dw0, status >> 1

    def admin(self, opc, **kw):
        self.submit(0, opc, **kw)
        return self.complete(0)[2]

    def io(self, opc, lba=0, blocks=8, nsid=1):
        self.submit(1, opc, nsid=nsid, prp1=DATA, dw10=lba, dw12=blocks - 1)
        return self.complete(1)[2]

    def close(self):
        self.mem.close()
        os.close(self.memfd)
        super().close()
