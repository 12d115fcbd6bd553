#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Write a folder as a cpio archive (newc) that the kernel takes as initramfs.

Archives may be concatenated: the tests append a small one to the big one.
"""
import os
import stat
import sys


def entry(name, mode, data=b"", rdev=(0, 0)):
    """One member; @mode includes the file type."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def archive(members):
    """@members: (name, mode, data). Padded, so that another can follow."""
    out = b"".join(entry(*m) for m in members) + entry("TRAILER!!!", 0)
    return out + bytes(-len(out) % 512)


def folder(top):
    """The members of a folder: directories, links and plain files."""
    yield "dev", stat.S_IFDIR | 0o755, b""
    yield "dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)
    for base, dirs, files in os.walk(top):
        dirs.sort()
        for name in dirs + sorted(files):
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            data = b""
            if stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    data = file.read()
            yield os.path.relpath(path, top), mode, data


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: guest-cpio.py FOLDER >ARCHIVE")
    sys.stdout.buffer.write(archive(folder(sys.argv[1])))
