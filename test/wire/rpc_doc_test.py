#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every request of doc/rpc.md is sent, in order, to one daemon; the reply must be the one that is shown. Every method must be shown."""
import json
import os
import re

from daemon import Daemon, RpcError, has_uring, main, raises, until

DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "doc", "rpc.md")
BLOCK = re.compile(r"^```json (request|reply)\n(.*?)^```$", re.M | re.S)


def differs(shown, got, where=""):
    """None, or where they differ; the wildcards are explained in doc/rpc.md."""
    if shown == "*":
        return None
    if isinstance(shown, dict) and isinstance(got, dict):
        more = shown.get("...") == "..."
        for k in shown:
            if k != "..." and k not in got:
                return f"{where}.{k} is missing"
        for k in got:
            if k not in shown and not more:
                return f"{where}.{k} is not documented"
            d = differs(shown[k], got[k], f"{where}.{k}") if k in shown else None
            if d:
                return d
        return None
    if isinstance(shown, list) and isinstance(got, list):
        more = shown[-1:] == ["..."]
        want = shown[:-1] if more else shown
        if len(got) < len(want) or (len(got) > len(want) and not more):
            return f"{where} has {len(got)} elements, not {len(want)}"
        return next((d for i, w in enumerate(want) if (d := differs(w, got[i], f"{where}[{i}]"))), None)
    return None if shown == got and type(shown) is type(got) else f"{where}: {json.dumps(got)}, not {json.dumps(shown)}"


def blocks():
    with open(DOC, encoding="utf-8") as f:
        text = f.read()
    for m in BLOCK.finditer(text):
        yield m.group(1), m.group(2), text.count("\n", 0, m.start()) + 1


def prepare(d):
    for name in "disk", "disk2":
        with open(d.path(name), "wb") as f:
            f.truncate(1 << 20)
    d.mkdir("vm1")
    d.mkdir("vm2")


def test_examples():
    problems, sent, request = [], 0, None
    with Daemon() as d:
        prepare(d)
        skip, uring = False, has_uring(d)
        for kind, text, line in blocks():
            text = text.replace("$DIR", d.dir)
            if kind == "request":
                skip = not uring and '"bdev_uring_' in text
            if skip:
                continue
            if kind == "request":
                assert request is None, f"line {line}: the request before has no reply"
                request = dict(json.loads(text), jsonrpc="2.0", id=line)
                continue
            assert request, f"line {line}: a reply without a request"
            got = d.raw(json.dumps(request).encode(), 1)[0]
            assert got.pop("jsonrpc") == "2.0" and got.pop("id") == request["id"]
            why = differs(json.loads(text), got)
            if why:
                problems.append(f"rpc.md:{line}: {request['method']}: reply{why}")
            sent, request = sent + 1, None
        assert request is None and sent > 40, sent
    assert not problems, "\n" + "\n".join(problems)


def read_doc():
    with open(DOC, encoding="utf-8") as f:
        return f.read()


def absent():
    """The methods of the table of options that have no effect."""
    table = read_doc().split("\n## Options of what is not here\n")[1].split("\n## ")[0]
    return [m for line in table.splitlines() if line.startswith("| `") for m in re.findall("`([a-z_]+)`", line.split("|")[1])]


def test_every_method():
    requests = {json.loads(text)["method"] for kind, text, _ in blocks() if kind == "request"}
    with Daemon() as d:
        missing = set(d.rpc("rpc_get_methods")) - requests - set(absent())
        assert not missing, f"doc/rpc.md shows no {missing}"


def test_absent():
    """They are there, are taken before the start whatever their params, and are told of once."""
    names = absent()
    assert len(names) > 15 and len(set(names)) == len(names), names
    with Daemon("--wait-for-rpc", wait=False) as d:
        until(lambda: os.path.exists(d.sock))
        for _ in range(2):
            for n in names:
                assert d.rpc(n, anything=[1], name="x") is True
        said = d.logged()
        for n in names:
            assert said.count(f"WARNING: {n}: ") == 1, (n, said)


def test_elsewhere():
    """Each method of the table is none, and its answer is the text beside it."""
    table = read_doc().split("\n## What is elsewhere\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)(\.\.\.)?` \| (.*) \|$", table, flags=re.M)
    with open(os.path.join(os.path.dirname(DOC), "..", "lib/target/rpc_absent.c"), encoding="utf-8") as f:
        prefixes = re.findall(r'^\t\{ "([a-z_]+)"', f.read(), flags=re.M)
    assert [r[0] for r in rows] == prefixes == sorted(prefixes), "rows that the other does not have"
    with Daemon() as d:
        names = d.rpc("rpc_get_methods")
        for name, more, text in rows:
            name += "of_spdk" if more else ""
            assert name not in names, name
            raises(-32601, "Method not found: " + text, d.rpc, name)
        raises(-32601, "Method not found", d.rpc, "no_method_of_anybody")


def known(d, method):
    """The members that a method looks at: it names them when it is given another."""
    before = len(d.logged())
    try:
        d.rpc(method, no_such_member=1)
        text = d.logged()[before:]  # one that is relaxed
    except RpcError as e:
        text = e.message
        if "unknown member" not in text:
            text = d.logged()[before:]
    assert "no_such_member" in text, (method, text)
    text = text.split("there are ", 1)[1].splitlines()[0]
    return [] if text == "none" else text.split(", ")


def sections(text):
    """Method -> the text below the headings that name it, up to the next heading."""
    out = {}
    for part in re.split(r"^##+ ", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        for m in re.findall("[a-z_]+_[a-z_]+", title):
            out[m] = out.get(m, "") + body
    return out


# said once for all methods
EVERYWHERE = {"tgt_name"}


def test_every_member():
    """Each member that a method knows is described below its heading."""
    missing, text = [], sections(read_doc())
    with Daemon("--wait-for-rpc", wait=False) as d:
        until(lambda: os.path.exists(d.sock))
        names = set(d.rpc("rpc_get_methods")) - set(absent())
        now = set(d.rpc("rpc_get_methods", current=True)) & names
        checked = {m: known(d, m) for m in now - {"framework_start_init", "framework_wait_init"}}
        d.rpc("framework_start_init")
        checked.update({m: known(d, m) for m in names - now - set(checked)})
    assert sum(map(len, checked.values())) > 100, checked
    for m, members in sorted(checked.items()):
        body = text.get(m, "")
        for x in members:
            if x not in EVERYWHERE and not re.search(rf"[`(| ]{x}[`, )|]", body) and not x.startswith("pci_"):
                missing.append(f"{m}: {x}")
    assert not missing, "\n" + "\n".join(missing)


def test_the_test():
    """A comparison that finds nothing proves nothing."""
    for shown, got in [({"a": 1}, {"a": 2}), ({"a": 1}, {}), ({}, {"a": 1}), ([1], [1, 2]), ([1, "..."], []),
                       (True, 1), ("x", None), ({"a": [{"b": 1}]}, {"a": [{"b": "1"}]})]:
        assert differs(shown, got), (shown, got)
    for shown, got in [("*", {}), ({"a": "*", "...": "..."}, {"a": 1, "b": 2}), ([1, "..."], [1, 2]), ([], [])]:
        assert not differs(shown, got), (shown, got)


if __name__ == "__main__":
    main([test_the_test, test_examples, test_every_method, test_absent, test_elsewhere, test_every_member])
