#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What SPDK's clients send, byte for byte as they do, and what they read of the answers: rpc.py, SMA, gospdk, spdk-csi."""
import json
import os

from daemon import Daemon, RpcError, main, raises

NQN = "nqn.2024-01.io.example:disk"


def rpc_py(d, method, text=None):
    """As client.py does: indented by 2, flags that were not given are false, params left out when empty."""
    req = {"jsonrpc": "2.0", "method": method, "id": 1}
    if text:
        req["params"] = json.loads(text)
    reply = d.raw(json.dumps(req, indent=2).encode(), 1)[0]
    if "error" in reply:
        raise RpcError(reply["error"])
    return reply["result"]


def test_tutorial():
    """rpc.py --dry-run of the calls that every tutorial has; results are a name, a number or true."""
    with Daemon() as d:
        with open(d.path("f"), "wb") as f:
            f.truncate(1 << 20)
        vm = d.mkdir("vm")
        address = f'"listen_address":{{"trtype":"VFIOUSER","traddr":"{vm}","trsvcid":"0"}}'
        for method, text, want in [
                ("nvmf_create_transport", '{"no_srq":false,"c2h_success":true,"trtype":"VFIOUSER","zcopy":false,"dif_insert_or_strip":false,'
                 '"no_wr_batching":false,"disable_mappable_bar0":false,"disable_adaptive_irq":false,"disable_shadow_doorbells":false,'
                 '"disable_command_passthru":false}', True),
                ("bdev_aio_create", f'{{"filename":"{d.path("f")}","name":"aio0","block_size":512,"readonly":false,"fallocate":false,"nowait":false}}',
                 "aio0"),
                ("bdev_malloc_create", '{"num_blocks":131072,"block_size":512,"name":"Malloc0","md_interleave":false,"dif_is_head_of_md":false}',
                 "Malloc0"),
                ("bdev_null_create", '{"num_blocks":204800,"block_size":512,"name":"n0","dif_is_head_of_md":false}', "n0"),
                ("nvmf_create_subsystem", f'{{"nqn":"{NQN}","serial_number":"S","allow_any_host":true,"ana_reporting":false,"passthrough":false,'
                 '"enable_nssr":false}', True),
                ("nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"bdev_name":"Malloc0","no_auto_visible":false,"hide_metadata":false}}}}', 1),
                ("nvmf_subsystem_add_listener", f'{{"nqn":"{NQN}","secure_channel":false,{address}}}', True),
                ("bdev_get_iostat", '{"per_channel":false}', dict), ("nvmf_get_subsystems", None, list), ("bdev_get_bdevs", None, list),
                ("bdev_set_qos_limit", '{"name":"Malloc0","rw_ios_per_sec":1000}', True),
                ("nvmf_subsystem_remove_listener", f'{{"nqn":"{NQN}",{address}}}', True),
                ("nvmf_subsystem_remove_ns", f'{{"nqn":"{NQN}","nsid":1}}', True), ("nvmf_delete_subsystem", f'{{"nqn":"{NQN}"}}', True),
                ("bdev_malloc_delete", '{"name":"Malloc0"}', True), ("bdev_aio_delete", '{"name":"aio0"}', True),
                ("bdev_null_delete", '{"name":"n0"}', True)]:
            got = rpc_py(d, method, text)
            assert isinstance(got, want) if isinstance(want, type) else got == want and type(got) is type(want), (method, got)
        assert os.listdir(vm) == []


def test_go_clients():
    """gospdk's structs have their zero values where nothing was set."""
    with Daemon() as d:
        rpc_py(d, "nvmf_create_transport", '{"trtype":"vfiouser"}')
        assert rpc_py(d, "bdev_null_create", '{"block_size":512,"num_blocks":64,"name":"n"}') == "n"
        with open(d.path("f"), "wb") as f:
            f.truncate(1 << 20)
        assert rpc_py(d, "bdev_aio_create", f'{{"name":"a","filename":"{d.path("f")}","block_size":0}}') == "a"
        assert rpc_py(d, "nvmf_create_subsystem", f'{{"nqn":"{NQN}","serial_number":"","model_number":"","allow_any_host":false,"max_namespaces":0}}')
        assert rpc_py(d, "nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"nsid":0,"bdev_name":"n"}}}}') == 1
        assert rpc_py(d, "nvmf_subsystem_add_listener",
                      f'{{"nqn":"{NQN}","listen_address":{{"trtype":"vfiouser","traddr":"{d.mkdir("vm")}"}}}}') is True
        assert rpc_py(d, "bdev_set_qos_limit",
                      '{"name":"n","rw_ios_per_sec":7,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":0}') is True
        assert rpc_py(d, "bdev_get_iostat", '{"name":"n"}')["bdevs"][0]["name"] == "n"


# What they read; a member in brackets may be missing.
SHAPES = {
    "spdk_get_version": "version fields",
    "framework_get_reactors": "tick_rate pid reactors",
    "thread_get_stats": "tick_rate threads",
    "nvmf_get_stats": "tick_rate poll_groups",
    "bdev_get_iostat": "tick_rate ticks bdevs",
    "bdev_get_bdevs": "name aliases product_name block_size num_blocks uuid assigned_rate_limits claimed zoned supported_io_types driver_specific",
    "nvmf_get_transports": "trtype max_queue_depth max_io_qpairs_per_ctrlr max_io_size max_aq_depth disable_mappable_bar0 disable_adaptive_irq "
                           "disable_shadow_doorbells",
    "nvmf_get_subsystems": "nqn subtype listen_addresses allow_any_host hosts serial_number model_number max_namespaces passthrough min_cntlid "
                           "max_cntlid dmrsl wzsl namespaces",
}


def test_shapes():
    with Daemon() as d:
        rpc_py(d, "nvmf_create_transport", '{"trtype":"VFIOUSER"}')
        rpc_py(d, "bdev_malloc_create", '{"block_size":512,"num_blocks":64,"name":"m","numa_id":0}')
        rpc_py(d, "nvmf_create_subsystem", f'{{"nqn":"{NQN}"}}')
        rpc_py(d, "nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"bdev_name":"m"}}}}')
        for method, members in SHAPES.items():
            got = rpc_py(d, method)
            got = got[-1] if isinstance(got, list) else got
            assert not set(members.split()) - set(got), (method, got)
        assert rpc_py(d, "bdev_get_bdevs")[0]["numa_id"] == 0
        first = rpc_py(d, "nvmf_get_subsystems")[0]
        assert first["subtype"] == "Discovery" and first["nqn"].endswith("discovery")
        ns = rpc_py(d, "nvmf_get_subsystems", f'{{"nqn":"{NQN}"}}')[0]["namespaces"][0]
        assert ns["nsid"] == 1 and ns["bdev_name"] == ns["name"] == "m" and ns["uuid"]
        for get in "log_get_level", "log_get_print_level":
            assert rpc_py(d, get) == "NOTICE"
        rpc_py(d, "log_set_level", '{"level":"WARNING"}')
        assert rpc_py(d, "log_get_level") == "WARNING"


def test_errors():
    """Codes, and the words that spdk-csi and scripts look for."""
    with Daemon() as d:
        rpc_py(d, "nvmf_create_transport", '{"trtype":"VFIOUSER"}')
        rpc_py(d, "nvmf_create_subsystem", f'{{"nqn":"{NQN}","max_namespaces":1}}')
        for name in "n", "o":
            rpc_py(d, "bdev_null_create", f'{{"name":"{name}","block_size":512,"num_blocks":8}}')
        raises(-32602, "No such device", rpc_py, d, "nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"bdev_name":"x"}}}}')
        assert rpc_py(d, "nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"bdev_name":"n"}}}}') == 1
        for method, text, code, part in [
                ("bdev_nvme_attach_controller", "{}", -32601, "Method not found"),
                ("nvmf_get_transports", '{"trtype":"TCP"}', -19, "No such device"),
                ("nvmf_create_transport", '{"trtype":"TCP"}', -32602, "TCP"), ("nvmf_create_transport", '{"trtype":"VFIOUSER"}', -32602, "exists"),
                ("nvmf_get_subsystems", '{"nqn":"nqn.x"}', -32602, "Subsystem with NQN 'nqn.x' not found"),
                ("nvmf_delete_subsystem", '{"nqn":"nqn.x"}', -32602, "Invalid parameters"),
                ("nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","namespace":{{"bdev_name":"o"}}}}', -32602, "No space left"),
                ("nvmf_subsystem_add_ns", f'{{"nqn":"{NQN}","bdev_name":"o"}}', -32602, "'namespace'"),
                ("nvmf_subsystem_remove_ns", f'{{"nqn":"{NQN}","nsid":5}}', -32602, "Invalid parameters"),
                ("nvmf_create_subsystem", f'{{"nqn":"{NQN}"}}', -32602, "already exists"),
                ("bdev_get_bdevs", '{"name":"x"}', -19, "No such device"), ("bdev_aio_delete", '{"name":"x"}', -19, "No such device"),
                ("bdev_null_create", '{"name":"n","block_size":512,"num_blocks":8}', -17, "File exists"),
                ("bdev_null_create", '{"name":"z","block_size":520,"num_blocks":8}', -22, "Invalid argument"),
                ("bdev_aio_create", '{"name":"z","filename":"/nonexistent"}', -2, "No such file"),
                ("bdev_get_iostat", '{"names":["x"]}', -19, "No such device"), ("framework_start_init", None, -1, "framework is initialized")]:
            raises(code, part, rpc_py, d, method, text)


if __name__ == "__main__":
    main([f for n, f in list(globals().items()) if n.startswith("test_")])
