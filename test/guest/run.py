# SPDX-License-Identifier: BSD-3-Clause
"""Runs the guest cases and counts. See run.sh."""
import argparse
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback

import cases_boot
import cases_crash
import cases_idle
import cases_io
import cases_memory
import cases_nvme
from peer import Belfryd, Disk, PeerError, QemuNvme, Skip
from vm import Guest, end_all

CASES = {name[5:]: function
         for module in (cases_nvme, cases_boot, cases_io, cases_memory,
                        cases_idle, cases_crash)
         for name, function in vars(module).items()
         if name.startswith("case_")}
CASE_SECONDS = 150


class Failed(Exception):
    """What a case found wrong."""


class Env:
    """What a case gets: folders, a peer, guests; it cleans up after it."""

    def __init__(self, folder, peer, level):
        self.top = folder
        self.make_peer = peer
        self.level = level
        self.folder = folder
        self.opened = []
        self.shared = None
        self.note = ""          # what a case has to tell if it went well

    def expect(self, condition, message):
        if not condition:
            raise Failed(message)

    def peer_is_belfry(self):
        return self.make_peer.is_belfry

    def peer(self, **options):
        """A daemon of the case's own; the shared one is not needed then."""
        self.drop_main()
        peer = self.make_peer(self.folder, level=self.level, **options)
        self.opened.append(peer)
        return peer

    def guest(self, name, args, **options):
        """A guest of the case's own."""
        guest = Guest(self.folder / name, args, **options)
        self.opened.append(guest)
        return guest

    def main(self):
        """(peer, export, disks, guest) that the friendly cases share."""
        if self.shared is None:
            folder = self.top / "main"
            shutil.rmtree(folder, ignore_errors=True)
            peer = self.make_peer(folder, level=self.level)
            self.shared = [peer]
            disks = [Disk("aio", 128, 512), Disk("malloc", 64, 4096)]
            export = peer.export("main", disks)
            guest = Guest(folder, export.args, smp=2)
            self.shared = [peer, export, disks, guest]
        _, _, disks, guest = self.shared
        # Linux scans namespaces side by side: after each probe their names may be others.
        for nsid, disk in enumerate(disks, 1):
            disk.device = guest.namespace(nsid)
        return self.shared

    def drop_main(self):
        """The next main() starts afresh."""
        shared, self.shared = self.shared, None
        if shared:
            shared[-1].close()
            shared[0].close()

    def autopsy(self):
        """Which daemon died, if one did, for a case that failed."""
        for peer in self.opened + (self.shared or [])[:1]:
            try:
                peer.sound()
            except AttributeError:
                pass                    # a guest
            except PeerError as error:
                return f"; {error}"
        return ""

    def clean(self):
        """Close what the case opened, guests first; judge what is shared."""
        wrong = []
        while self.opened:
            self.opened.pop().close()
        if self.shared:
            self.shared[0].sound()
            if len(self.shared) > 1:    # its guest booted
                wrong = self.shared[-1].complaints()
        if wrong:
            raise Failed(f"the guest's kernel said: {wrong[0]}")


def run_case(env, name):
    """None if it went well, else why not; Skip passes through."""
    env.note = ""
    env.folder = env.top / name
    shutil.rmtree(env.folder, ignore_errors=True)
    env.folder.mkdir(parents=True)
    why = None
    signal.alarm(CASE_SECONDS)
    try:
        CASES[name](env)
    except Skip:
        env.clean()
        raise
    except Exception as error:      # pylint: disable=broad-except
        why = f"{type(error).__name__}: {error}"
        (env.folder / "traceback").write_text(traceback.format_exc())
    finally:
        signal.alarm(0)
    try:
        if why:
            why += env.autopsy()
        env.clean()
    except Exception as error:      # pylint: disable=broad-except
        why = f"{why}; {error}" if why else f"{error}"
    if why:
        try:
            env.drop_main()
        except PeerError as error:
            why += f"; {error}"
    return why


def on_alarm(*_):
    raise Failed(f"not done in {CASE_SECONDS} s")


def parse():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--peer", choices=("belfryd", "qemu-nvme"),
                        default="belfryd", help="qemu-nvme: check the tests "
                        "against QEMU's own NVMe device")
    parser.add_argument("--log-level", help="of belfryd")
    parser.add_argument("case", nargs="*", help="default: all")
    args = parser.parse_args()
    unknown = set(args.case) - set(CASES)
    if unknown:
        parser.error("no case " + ", ".join(sorted(unknown)))
    return args


def main():
    args = parse()
    if args.list:
        print("\n".join(CASES))
        return 0
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    top = pathlib.Path(os.environ.get("B", "build")).resolve() / "test/guest"
    env = Env(top, QemuNvme if args.peer == "qemu-nvme" else Belfryd,
              args.log_level)
    passed = failed = skipped = 0
    begun = time.monotonic()
    try:
        for name in args.case or CASES:
            start = time.monotonic()
            try:
                why = run_case(env, name)
                for _ in range(int(os.environ.get("RETRIES") or 0)):
                    if not why:
                        break
                    print(f"failed {name}: {why}; once more", flush=True)
                    why = run_case(env, name)
            except Skip as reason:
                skipped += 1
                print(f"skip {name}: {reason}", flush=True)
                continue
            took = time.monotonic() - start
            if why:
                failed += 1
                print(f"FAILED {name} ({took:.1f} s): {why}\n"
                      f"       logs: {env.folder}", flush=True)
            else:
                passed += 1
                print(f"ok {name} ({took:.1f} s)"
                      + (f": {env.note}" if env.note else ""), flush=True)
        env.drop_main()
    except PeerError as error:
        failed += 1
        print(f"FAILED end: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        failed += 1
    finally:
        end_all()
    print(f"guest: {time.monotonic() - begun:.0f} s"
          + (f", {skipped} skipped" if skipped else ""))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
