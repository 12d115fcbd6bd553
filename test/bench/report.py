# SPDX-License-Identifier: BSD-3-Clause
"""What was measured: rows of one table, its JSON and its place in doc/performance.md."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
HEAD = ("Goal", "What", "Measured", "Against", "Ratio", "Wanted", "")


def rate(value):
    """1234567.0 -> 1.23 M"""
    for unit, power in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:.3g}"


class Table:
    """Rows as they come; printed at once."""

    def __init__(self):
        self.rows = []
        self.data = {}

    def add(self, goal, what, measured, against="", ratio=None, wanted="",
            met=None):
        """@met: True, False, or None where there is no goal or no telling."""
        word = {True: "met", False: "missed",
                None: "disturbed" if wanted else ""}[met]
        row = (str(goal), what, measured, against,
               "" if ratio is None else f"{ratio:.2f}", wanted, word)
        self.rows.append(row)
        print(f"  {what:44} {measured:22} {against:22} {row[4]:>6}  "
              f"{wanted:16} {word}", flush=True)

    def text(self):
        rows = [HEAD] + self.rows
        wide = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width
                                   in zip(row, wide)).rstrip()
                         for row in rows)

    def markdown(self):
        lines = [HEAD, ["---"] * len(HEAD)] + self.rows
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def git(*args):
    try:
        return subprocess.run(["git", "-C", TOP, *args], check=True,
                              capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def where():
    """On what, when, of which commit."""
    model = re.search(r"model name\s*: (.*)",
                      pathlib.Path("/proc/cpuinfo").read_text())
    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    if git("status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    return {"commit": commit,
            "date": datetime.date.today().isoformat(),
            "cpu": model[1].strip() if model else platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "load": os.getloadavg()[0]}


def save(table, path, place):
    path.write_text(json.dumps({
        "where": place, "data": table.data,
        "rows": [dict(zip(("goal", "what", "measured", "against", "ratio",
                           "wanted", "met"), row)) for row in table.rows],
    }, indent=1) + "\n")


def between(text, name, content):
    """Replace what stands between the markers of @name."""
    begin, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(stop)
    if not found or not closed:
        raise ValueError(f"the markers of {name} are missing")
    return f"{head}{begin}\n{content}\n{stop}{tail}"


def document(table, place, history):
    """Write doc/performance.md's table and a line of its history."""
    path = TOP / "doc/performance.md"
    text = path.read_text()
    title = (f"Commit {place['commit']}, {place['date']}, {place['cpu']}, "
             f"{place['cores']} cores, Linux {place['kernel']}, load "
             f"{place['load']:.1f} at the start, somebody waited for a core in "
             f"{100 * place['waited']:.0f} % of the time.")
    plot = "\n![IOPS and latency over queue depth](performance.svg)\n" \
        if "curve" in table.data else ""
    text = between(text, "table",
                   f"{plot}\n{title}\n\n{table.markdown()}\n")
    if history:
        old = re.search(r"<!-- history -->\n(.*)<!-- end of history -->", text,
                        re.S)[1].strip("\n").split("\n")
        commit = place["commit"].split()[0]
        old = [line for line in old if f"| {commit} " not in line]
        old.append(f"| {place['date']} | {commit} | {history} |")
        text = between(text, "history", "\n".join(old))
    path.write_text(text)
