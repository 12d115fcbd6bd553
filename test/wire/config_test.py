#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Configurations: every option of every method that makes something is saved, and comes back; a file that SPDK saved loads."""
import json
import os
import subprocess

from daemon import Daemon, RpcError, has_uring, main, raises, until
from rpc_doc_test import known

NQN = "nqn.2024-01.io.example:disk"
UUIDS = [f"5e4cd7b9-70ba-4a30-8ac4-{n:012x}" for n in range(8)]

# Methods whose effect is in a saved configuration. A new method goes here, or into ELSE.
MAKERS = {"bdev_aio_create", "bdev_uring_create", "bdev_malloc_create", "bdev_null_create", "bdev_null_resize", "bdev_delay_create", "bdev_error_create",
          "bdev_set_qos_limit", "nvmf_create_transport", "nvmf_create_subsystem", "nvmf_subsystem_add_ns", "nvmf_subsystem_add_host",
          "nvmf_subsystem_add_listener", "nvmf_subsystem_allow_any_host"}
# Those that take away, look, act at once, or set nothing.
ELSE = {"bdev_aio_delete", "bdev_aio_rescan", "bdev_uring_delete", "bdev_uring_rescan", "bdev_malloc_delete", "bdev_null_delete", "bdev_delay_delete", "bdev_error_delete",
        "bdev_error_inject_error", "bdev_enable_histogram", "bdev_get_histogram", "bdev_get_bdevs", "bdev_get_iostat", "bdev_reset_iostat", "bdev_set_options", "bdev_wait_for_examine",
        "belfry_get_clients", "framework_get_config", "framework_get_reactors", "framework_get_scheduler", "framework_get_subsystems", "framework_start_init",
        "framework_wait_init", "log_clear_flag", "log_get_flags", "log_get_level", "log_get_print_level", "log_set_flag", "log_set_level", "log_set_print_level", "notify_get_notifications", "notify_get_types", "nvmf_delete_subsystem", "nvmf_get_stats", "nvmf_get_subsystems",
        "nvmf_get_targets", "nvmf_get_transports", "nvmf_set_config", "nvmf_set_crdt", "nvmf_set_max_subsystems", "nvmf_subsystem_get_controllers",
        "nvmf_subsystem_get_listeners", "nvmf_subsystem_get_qpairs", "nvmf_subsystem_listener_set_ana_state", "nvmf_subsystem_remove_host", "nvmf_subsystem_remove_listener",
        "nvmf_subsystem_remove_ns", "rpc_get_methods", "spdk_get_version", "spdk_kill_instance", "thread_get_pollers", "thread_get_stats"}
# Members that have one value only, which is not saved: another one is refused.
FIXED = {"bdev_malloc_create": {"md_size": 8, "dif_type": 1, "optimal_io_boundary": 8},
         "bdev_null_create": {"md_size": 8, "dif_type": 1, "preferred_write_granularity": 8, "preferred_write_alignment": 8,
                              "optimal_write_size": 8, "preferred_unmap_granularity": 8, "preferred_unmap_alignment": 8},
         "nvmf_create_transport": {"tgt_name": "other", "masked_oncs": ["nvmcmps"]},
         "nvmf_create_subsystem": {"tgt_name": "other", "ana_reporting": True, "passthrough": True, "dmrsl": 1, "wzsl": 1},
         "nvmf_subsystem_add_ns": {"tgt_name": "other"}, "nvmf_subsystem_add_host": {"tgt_name": "other"},
         "nvmf_subsystem_add_listener": {"tgt_name": "other", "secure_channel": True, "ana_state": "inaccessible"},
         "nvmf_subsystem_allow_any_host": {"tgt_name": "other"},
         "namespace": {"ptpl_file": "/x", "anagrpid": 2, "no_auto_visible": True}}
# Methods that change what another one has made: their members are saved under other names.
CHANGES = {"bdev_null_resize": {"name", "new_size"}, "nvmf_subsystem_allow_any_host": {"nqn", "allow_any_host"}}


def calls(d):
    """In order: each member of each of MAKERS that may have another value than its default has one in one of these."""
    for name in "disk", "ro", "ring":
        with open(d.path(name), "wb") as f:
            f.truncate(1 << 20)
    for name in "vm1", "vm2", "vm3":
        d.mkdir(name)
    home = max(d.rpc("framework_get_reactors")["reactors"][0]["numa_id"], 0)
    ids = {"pci_vendor_id": "0x1b36", "pci_device_id": "0x0010", "pci_subsystem_vendor_id": "0x1af4", "pci_subsystem_id": "0x1100"}
    flags = {"disable_mappable_bar0": True, "disable_adaptive_irq": True, "disable_shadow_doorbells": True}
    return [
        ("bdev_aio_create", {"name": "aio", "filename": d.path("disk"), "block_size": 4096, "fallocate": True, "nowait": True, "uuid": UUIDS[0]}),
        ("bdev_aio_create", {"name": "ro", "filename": d.path("ro"), "readonly": True}),
        ("bdev_uring_create", {"name": "ring", "filename": d.path("ring"), "block_size": 4096, "readonly": True, "uuid": UUIDS[6]}),
        ("bdev_malloc_create", {"name": "mem", "block_size": 512, "num_blocks": 2048, "uuid": UUIDS[1], "physical_block_size": 4096, "numa_id": 0}),
        ("bdev_malloc_create", {"block_size": 4096, "num_blocks": 256}),
        ("bdev_null_create", {"name": "null", "block_size": 512, "num_blocks": 4096, "uuid": UUIDS[2], "physical_block_size": 1024}),
        ("bdev_null_resize", {"name": "null", "new_size": 8}),
        ("bdev_delay_create", {"name": "slow", "base_bdev_name": "null", "avg_read_latency": 1, "p99_read_latency": 2, "avg_write_latency": 3,
                               "p99_write_latency": 4, "uuid": UUIDS[3]}),
        ("bdev_error_create", {"base_name": "mem", "uuid": UUIDS[4]}),
        ("bdev_set_qos_limit", {"name": "mem", "rw_ios_per_sec": 1, "rw_mbytes_per_sec": 20, "r_mbytes_per_sec": 30, "w_mbytes_per_sec": 1000000000}),
        ("bdev_set_qos_limit", {"name": "slow", "r_mbytes_per_sec": 7}),
        ("nvmf_create_transport", {"trtype": "VFIOUSER", "max_queue_depth": 64, "max_io_qpairs_per_ctrlr": 8, "max_io_size": 131072,
                                   "max_aq_depth": 32, **flags, **ids}),
        ("nvmf_create_subsystem", {"nqn": NQN, "serial_number": "B0001", "model_number": "A model", "admin_label": "label", "max_namespaces": 9,
                                   "allow_any_host": True, "min_cntlid": 2, "max_cntlid": 77, "enable_nssr": True}),
        ("nvmf_create_subsystem", {"nqn": NQN + "2"}),
        ("nvmf_subsystem_allow_any_host", {"nqn": NQN + "2", "allow_any_host": True}),
        ("nvmf_subsystem_add_host", {"nqn": NQN, "host": "nqn.2024-01.io.example:host"}),
        ("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "slow", "nsid": 7, "nguid": "AB" * 16, "eui64": "CD" * 8,
                                                             "uuid": UUIDS[5]}}),
        ("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "EE_mem"}}),
        ("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": {"trtype": "VFIOUSER", "traddr": d.path("vm1"), "adrfam": "IPv4",
                                                                       "trsvcid": "7"},
                                         "mode": "0660", "owner": "0", "group": "0", "numa_id": home, **ids,
                                         **dict.fromkeys(flags, False)}),
        ("nvmf_subsystem_add_listener", {"nqn": NQN + "2", "listen_address": {"trtype": "vfiouser", "traddr": d.path("vm2")}, **flags}),
        ("nvmf_subsystem_add_listener", {"nqn": NQN + "2", "listen_address": {"trtype": "VFIOUSER", "traddr": d.path("vm3")}})]


def possible(d):
    """Those of the calls that can be made here."""
    uring = has_uring(d)
    return [(method, params) for method, params in calls(d) if uring or method != "bdev_uring_create"]


def known_inside(d, method, params, member):
    """As known(), for an object inside of the params."""
    before = len(d.logged())
    try:
        d.rpc(method, **dict(params, **{member: dict(params[member], no_such_member=1)}))
        text = d.logged()[before:]
    except RpcError as e:
        text = e.message if "unknown member" in e.message else d.logged()[before:]
    return text.split("there are ", 1)[1].splitlines()[0].split(", ")


def test_nothing_is_forgotten():
    """Each method is of one kind, each member has a row."""
    with Daemon() as d:
        rows = calls(d)
        methods = {m for m in d.rpc("rpc_get_methods") if m in MAKERS | ELSE or not takes_anything(d, m)}
        assert methods == MAKERS | ELSE, methods ^ (MAKERS | ELSE)
        given = {m: set().union(*(p for n, p in rows if n == m)) for m in MAKERS}
        for m in MAKERS:
            want = set(known(d, m))
            assert want == given[m] | set(FIXED.get(m, {})), (m, want ^ (given[m] | set(FIXED.get(m, {}))))
        for m, member, fixed in [("nvmf_subsystem_add_ns", "namespace", set(FIXED["namespace"])),
                                 ("nvmf_subsystem_add_listener", "listen_address", set())]:
            inside = set().union(*(p[member] for n, p in rows if n == m))
            d.rpc("nvmf_create_subsystem", nqn=NQN)
            want = set(known_inside(d, m, next(p for n, p in rows if n == m), member))
            assert want == inside | fixed, want ^ (inside | fixed)
            d.rpc("nvmf_delete_subsystem", nqn=NQN)


def takes_anything(d, method):
    """Of those that have no effect (doc/rpc.md tells which, and rpc_doc_test.py that they are)."""
    try:
        return d.rpc(method, no_such_member=1) is True and f"WARNING: {method}:" in d.logged()
    except RpcError as e:
        return e.code == -1


def entry(saved, method, params):
    """The saved call that has these, whatever else it has; trtype is printed in capitals."""
    def has(whole, part):
        if isinstance(part, dict):
            return isinstance(whole, dict) and all(k in whole and has(whole[k], v) for k, v in part.items())
        return whole == (part.upper() if part == "vfiouser" else part) and isinstance(whole, type(part))
    return any(e["method"] == method and has(e["params"], params) for s in saved["subsystems"] for e in s["config"])


def test_every_option_comes_back():
    with Daemon() as d:
        rows = possible(d)
        for method, params in rows:
            d.rpc(method, **params)
        first = d.save()
        saved = json.loads(first)
        for method, params in rows:
            if method not in CHANGES and params != {"nqn": NQN + "2"}:
                assert entry(saved, method, {k: v for k, v in params.items() if not (method == "bdev_null_create" and k == "num_blocks")}), \
                    (method, params, first)
        assert entry(saved, "bdev_null_create", {"num_blocks": 16384}) and entry(saved, "nvmf_create_subsystem", {"nqn": NQN + "2", "allow_any_host": True})
        with open(d.path("config"), "w", encoding="utf-8") as f:
            f.write(first)
        # as belfryd -c loads it, twice over; and as belfryctl does
        for _ in range(2):
            assert d.stop() == 0
            d.start("-c", d.path("config"))
            assert d.save() == first
        assert d.stop() == 0
        d.start()
        ctl = os.path.abspath(os.environ.get("BELFRYCTL", "build/bin/belfryctl"))
        subprocess.run([ctl, "-s", d.sock, "load", d.path("config")], check=True, timeout=30, stdout=subprocess.DEVNULL)
        assert d.save() == first
        assert json.loads(subprocess.run([ctl, "-s", d.sock, "save"], check=True, timeout=30, capture_output=True).stdout) == saved


def test_fixed_values():
    """What has one value cannot be set to another."""
    with Daemon() as d:
        done = set()
        for method, params in possible(d):
            if method not in done and method != "nvmf_subsystem_add_ns":
                for name, value in FIXED.get(method, {}).items():
                    raises(-32602, name if name != "tgt_name" else "other", d.rpc, method, **dict(params, **{name: value}))
            if method == "nvmf_subsystem_add_ns" and method not in done:
                for name, value in FIXED["namespace"].items():
                    raises(-32602, name, d.rpc, method, nqn=NQN, namespace=dict(params["namespace"], **{name: value}))
                raises(-32602, "other", d.rpc, method, **dict(params, tgt_name="other"))
            done.add(method)
            d.rpc(method, **params)


def spdk_config(d):
    """The calls of a target that has one VFIOUSER export, as releases from 23.01 to 26.05 save them; values are their defaults."""
    def call(method, **params):
        return {"method": method, "params": params}

    def part(name, *config):
        return {"subsystem": name, "config": list(config)}
    with open(d.path("disk"), "wb") as f:
        f.truncate(1 << 20)
    return {"subsystems": [
        part("fsdev", call("fsdev_set_opts", fsdev_io_pool_size=65535, fsdev_io_cache_size=256)),
        part("scheduler", call("framework_set_scheduler", name="static")), part("keyring"),
        part("iobuf", call("iobuf_set_options", small_pool_count=8192, large_pool_count=1024, small_bufsize=8192, large_bufsize=135168,
                           enable_numa=False)),
        part("sock", call("sock_set_default_impl", impl_name="posix"),
             *(call("sock_impl_set_options", impl_name=n, recv_buf_size=2097152, tls_version=0, enable_ktls=False) for n in ("ssl", "posix"))),
        part("vmd"), part("accel", call("accel_set_options", small_cache_size=128, large_cache_size=16, task_count=2048)),
        part("bdev", call("bdev_set_options", bdev_io_pool_size=65535, bdev_io_cache_size=256, bdev_auto_examine=True,
                          iobuf_small_cache_size=128, iobuf_large_cache_size=16),
             call("bdev_raid_set_options", process_window_size_kb=1024, process_max_bandwidth_mb_sec=0),
             call("bdev_iscsi_set_options", timeout_sec=30), call("bdev_nvme_set_options", action_on_timeout="none", timeout_us=0),
             call("bdev_nvme_set_hotplug", period_us=100000, enable=False),
             call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512, physical_block_size=512, uuid=UUIDS[0],
                  optimal_io_boundary=0, md_size=0, dif_type=0, dif_is_head_of_md=False, dif_pi_format=0, numa_id=-1),
             call("bdev_aio_create", name="aio0", block_size=512, filename=d.path("disk"), readonly=False, fallocate=False, uuid=UUIDS[1]),
             {"method": "bdev_wait_for_examine"}),
        {"subsystem": "scsi", "config": None},
        part("nvmf", call("nvmf_set_config", discovery_filter="match_any", dhchap_digests=["sha256"], dhchap_dhgroups=["null"],
                          admin_cmd_passthru={"identify_ctrlr": False, "get_log_page": False}),
             call("nvmf_set_max_subsystems", max_subsystems=1024), call("nvmf_set_crdt", crdt1=0, crdt2=0, crdt3=0),
             call("nvmf_create_transport", trtype="VFIOUSER", max_queue_depth=256, max_io_qpairs_per_ctrlr=127, in_capsule_data_size=0,
                  max_io_size=131072, io_unit_size=131072, max_aq_depth=32, num_shared_buffers=0, buf_cache_size=0,
                  dif_insert_or_strip=False, zcopy=False, abort_timeout_sec=0, ack_timeout=0, data_wr_pool_size=0,
                  disable_mappable_bar0=False, disable_adaptive_irq=False, disable_shadow_doorbells=False, acceptor_poll_rate=10000),
             call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, serial_number="S", model_number="SPDK bdev Controller",
                  max_namespaces=32, min_cntlid=1, max_cntlid=65519, ana_reporting=False),
             call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 1, "bdev_name": "aio0", "nguid": "AB" * 16, "uuid": UUIDS[1],
                                                               "no_auto_visible": False}),
             call("nvmf_subsystem_add_listener", nqn=NQN, secure_channel=False,
                  listen_address={"trtype": "VFIOUSER", "traddr": d.mkdir("vm"), "trsvcid": "0"})),
        part("nbd"), part("ublk"), part("vhost_blk"), part("vhost_scsi"),
        part("iscsi", call("iscsi_set_options", node_base="iqn.2016-06.io.spdk", max_sessions=128))]}


def load_as_rpc_py_does(d, config):
    """Methods must be known; those allowed now are called, then the start, then the others."""
    subsystems = [s for s in config["subsystems"] if s["config"]]
    everything = d.rpc("rpc_get_methods")
    assert all(e["method"] in everything for s in subsystems for e in s["config"])
    while subsystems:
        now = d.rpc("rpc_get_methods", current=True)
        found = "framework_start_init" in now
        for s in list(subsystems):
            for e in [e for e in s["config"] if e["method"] in now]:
                d.rpc(e["method"], **e.get("params", {}))
                s["config"].remove(e)
                found = True
            if not s["config"]:
                subsystems.remove(s)
        if "framework_start_init" in now:
            d.rpc("framework_start_init")
        assert found, subsystems


def test_spdk_config():
    """With -c and as rpc.py load_config: the same devices and listeners, one warning for each option without effect."""
    saves = []
    for way in "-c", "rpc.py":
        with Daemon() as d:
            config = spdk_config(d)
            d.stop()
            if way == "-c":
                with open(d.path("config"), "w", encoding="utf-8") as f:
                    json.dump(config, f)
                d.start("-c", d.path("config"))
            else:
                d.start("--wait-for-rpc", wait=False)
                until(lambda: os.path.exists(d.sock))
                load_as_rpc_py_does(d, config)
            assert os.path.exists(d.path("vm/cntrl"))
            saves.append(d.save().replace(d.dir, "DIR"))
            warned = [line for line in d.logged().splitlines() if "WARNING" in line]
            assert len(warned) == 11 and sum("sock_impl_set_options" in w for w in warned) == 1, "\n".join(warned)
    assert saves[0] == saves[1]
    assert [b["params"]["name"] for b in json.loads(saves[0])["subsystems"][0]["config"]] == ["Malloc0", "aio0"]


def test_other_parts_of_spdk():
    """What would make something that there is not here ends the load, and is named."""
    for name, method, params in [("bdev", "bdev_nvme_attach_controller", {"name": "n"}), ("nvmf", "nvmf_discovery_add_referral", {}),
                                 ("nvmf", "nvmf_create_transport", {"trtype": "TCP"}), ("ublk", "ublk_create_target", {})]:
        with Daemon() as d:
            d.stop()
            with open(d.path("config"), "w", encoding="utf-8") as f:
                json.dump({"subsystems": [{"subsystem": name, "config": [{"method": method, "params": params}]}]}, f)
            d.start("-c", d.path("config"), wait=False)
            assert d.proc.wait(20) == 1 and f'subsystem "{name}", entry 0, {method}' in d.logged(), d.logged()
            assert sorted(os.listdir(d.dir)) == ["config", "log"]


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
