#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""plot-performance.py BENCH.JSON OUT.SVG: IOPS and latency over the queue depth, against the bare exchange.

Takes what `make bench` wrote; needs nothing but Python.
"""
import json
import math
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 920, 420
LEFT, TOP, SIZE, GAP = 70, 60, (340, 290), 130
SERIES = (("exchange", "bare exchange", "#888888", "6 4"),
          ("iommufd", "Belfry, iommufd", "#1f6fb4", ""),
          ("legacy", "Belfry, legacy", "#d06000", ""))


def text(x, y, words, anchor="middle", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'font-size="{size}"{more}>{escape(words)}</text>')


def line(x1, y1, x2, y2, colour="#dddddd"):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}"/>')


class Panel:
    """One logarithmic plot."""

    def __init__(self, x, rows, title, unit, value):
        self.x, self.rows, self.value = x, rows, value
        self.depths = [row["depth"] for row in rows]
        values = [value(row, key) for row in rows for key, *_ in SERIES]
        self.low = math.floor(math.log10(min(values)))
        self.high = math.ceil(math.log10(max(values)))
        self.out = [text(x + SIZE[0] / 2, TOP - 18, title, size=14)]
        self.grid(unit)
        for key, _, colour, dash in SERIES:
            self.curve(key, colour, dash)

    def at(self, depth, value):
        span = math.log2(self.depths[-1]) - math.log2(self.depths[0]) or 1
        across = (math.log2(depth) - math.log2(self.depths[0])) / span
        up = (math.log10(value) - self.low) / (self.high - self.low or 1)
        return self.x + across * SIZE[0], TOP + SIZE[1] * (1 - up)

    def grid(self, unit):
        bottom = TOP + SIZE[1]
        for power in range(self.low, self.high + 1):
            for step in (1, 2, 5) if power < self.high else (1,):
                value = step * 10 ** power
                _, y = self.at(self.depths[0], value)
                self.out.append(line(self.x, y, self.x + SIZE[0], y,
                                     "#bbbbbb" if step == 1 else "#eeeeee"))
                self.out.append(text(self.x - 6, y + 4, f"{value:g}", "end",
                                     11))
        for depth in self.depths:
            x, _ = self.at(depth, 10 ** self.low)
            self.out.append(line(x, TOP, x, bottom))
            self.out.append(text(x, bottom + 16, str(depth), size=11))
        self.out.append(text(self.x + SIZE[0] / 2, bottom + 36,
                             "queue depth"))
        y = TOP + SIZE[1] / 2
        self.out.append(text(self.x - 48, y, unit, more=' transform="rotate('
                             f'-90 {self.x - 48:.1f} {y:.1f})"'))

    def curve(self, key, colour, dash):
        points = [self.at(row["depth"], self.value(row, key))
                  for row in self.rows]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.out.append(f'<polyline points="{path}" fill="none" '
                        f'stroke="{colour}" stroke-width="2" '
                        f'stroke-dasharray="{dash}"/>')
        self.out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" '
                     f'fill="{colour}"/>' for x, y in points]


def legend():
    out = []
    for i, (_, name, colour, dash) in enumerate(SERIES):
        x = LEFT + 230 * i
        out.append(f'<line x1="{x}" y1="16" x2="{x + 34}" y2="16" '
                   f'stroke="{colour}" stroke-width="2" '
                   f'stroke-dasharray="{dash}"/>')
        out.append(text(x + 42, 20, name, "start"))
    return out


def draw(bench):
    rows, where = bench["data"]["curve"], bench["where"]
    speed = Panel(LEFT, rows, "4 KiB reads, null device, one queue",
                  "million a second", lambda row, key: row[key] / 1e6)
    delay = Panel(LEFT + SIZE[0] + GAP, rows, "mean latency", "microseconds",
                  lambda row, key: row["depth"] * 1e6 / row[key])
    foot = text(WIDTH - 20, HEIGHT - 8, f"{where['commit']}, {where['date']}, "
                f"{where['cpu']}", "end", 10)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *legend(), *speed.out, *delay.out, foot, "</svg>", ""])


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot-performance.py BENCH.JSON OUT.SVG")
    with open(sys.argv[1], encoding="utf-8") as file:
        bench = json.load(file)
    if not bench["data"].get("curve"):
        sys.exit(f"{sys.argv[1]}: no curve in it: test/bench/run.sh curve")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(draw(bench))


if __name__ == "__main__":
    main()
