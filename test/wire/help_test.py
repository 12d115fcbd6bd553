#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""--help, the man pages, the bash completion and the tables of options say the same; links of the documents lead somewhere."""
import glob
import os
import re
import subprocess

from daemon import BELFRYD, main

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BIN = os.path.dirname(os.path.abspath(BELFRYD))
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def man(name):
    """The page without its markup."""
    text = re.sub(r"\\f[BIRP]", "", read(f"doc/{name}.8")).replace("\\-", "-").replace('"', " ")
    return re.sub(r"^\.(B[IR]?|I[RB]?|RB|TP|TQ|RI) ?", "", text, flags=re.M)


def said(*args):
    r = subprocess.run(args, capture_output=True, text=True, timeout=20, check=False)
    assert r.returncode == 0 and not r.stderr, r
    return r.stdout


def options(text):
    return set(OPTION.findall(text))


def same(what, a, b):
    assert a == b, f"{what}: only one has {sorted(a ^ b)}"


def getopt_names(source):
    """The names in a table of struct option, and the letters of the short ones."""
    text = read(source)
    names = {"--" + n for n in re.findall(r'\{\s*"([a-z-]+)",\s*(?:required|no)_argument', text)}
    letters = re.search(r'getopt_long\([^"]*"([^"]*)"', text, re.S).group(1)
    return names | {"-" + c for c in letters if c not in ":+"}


def test_belfryd():
    help_text = said(f"{BIN}/belfryd", "--help")
    same("belfryd's table and help", getopt_names("app/belfryd/main.c"), options(help_text))
    section = man("belfryd").split(".SH OPTIONS")[1].split(".SH SIGNALS")[0]
    same("belfryd's help and page", options(help_text), options(section))


def test_belfry_perf():
    help_text = said(f"{BIN}/belfry-perf", "--help")
    section = man("belfry-perf").split(".SH OPTIONS")[1].split(".SH EXIT STATUS")[0]
    same("belfry-perf's help and page", options(help_text), options(section))
    for o in options(help_text) - {"-s", "-h"}:
        assert f'"{o[2:]}"' in read("app/belfry-perf/options.c"), o


def commands():
    text = said(f"{BIN}/belfryctl", "--help").split("Commands:\n")[1].split("\n\n")[0]
    return [re.match(r"  ((?:[a-z-]+ )*[a-z-]+)", line).group(1) for line in text.splitlines()]


def test_belfryctl():
    page = man("belfryctl").split(".SH COMMANDS")[1].split(".SH EXIT STATUS")[0]
    lines = {}
    for line in (" ".join(text.split()) for text in page.splitlines()):
        c = max((c for c in commands() if (line + " ").startswith(c + " ")), key=len, default=None)
        if c:
            lines.setdefault(c, line)  # the first is its heading
    same("belfryctl's commands and page", set(commands()), set(lines))
    for c in commands():
        own = {o for o in options(said(f"{BIN}/belfryctl", *c.split(), "--help").split("\n", 2)[2]) if len(o) > 2}
        same(f"belfryctl {c}", own, options(lines[c]))
    same("belfryctl's options", options(said(f"{BIN}/belfryctl", "--help").split("Commands:")[0].split("\n\n", 1)[1]) - {"-s"},
         options(man("belfryctl").split(".SH OPTIONS")[1].split(".SH COMMANDS")[0]) - {"-s"})


def test_links():
    missing = []
    for path in ["README.md", *(os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "doc/*.md")))]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path)):
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), link)):
                missing.append(f"{path}: {link}")
    assert not missing, missing


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
