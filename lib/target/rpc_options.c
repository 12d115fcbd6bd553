/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: the calls that a configuration saved by SPDK has and that change nothing here. Where they ask for what is so
 * (pools that need no size, an authentication that nobody asks for), they are looked at, and what is not so is refused.
 * Where they tune a part of SPDK that has no counterpart, they are taken, and said once to have no effect.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* ---- block devices ---- */

struct bdev_params {
	uint32_t bdev_io_pool_size, bdev_io_cache_size, iobuf_small_cache_size,
		iobuf_large_cache_size;
	bool bdev_auto_examine;
};

static const struct rpc_param bdev_table[] = {
	/* an I/O is a part of the request that asks for it, its memory the client's: there is neither pool nor cache */
	PARAM(struct bdev_params, bdev_io_pool_size, RPC_U32),
	PARAM(struct bdev_params, bdev_io_cache_size, RPC_U32),
	PARAM(struct bdev_params, iobuf_small_cache_size, RPC_U32),
	PARAM(struct bdev_params, iobuf_large_cache_size, RPC_U32),
	/* no module looks for its own on a new device */
	PARAM(struct bdev_params, bdev_auto_examine, RPC_BOOL),
};

static void
rpc_bdev_set_options(struct rpc_req *req, const json_t *params)
{
	struct bdev_params p = { 0 };

	if (rpc_decode(req, params, bdev_table, ARRAY_SIZE(bdev_table), &p, 0))
		rpc_result(req, json_true());
}

static void
rpc_wait_for_examine(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_result(req, json_true());
}

/* ---- nvmf ---- */

struct nvmf_params {
	const char *tgt_name, *discovery_filter, *poll_groups_mask,
		*dup_host_policy;
	json_t *admin_cmd_passthru, *dhchap_digests, *dhchap_dhgroups,
		*discovery_filters;
	uint32_t max_subsystems, crdt1, crdt2, crdt3;
};

static const struct rpc_param nvmf_table[] = {
	PARAM(struct nvmf_params, tgt_name, RPC_STRING),
	PARAM(struct nvmf_params, discovery_filter, RPC_STRING),
	PARAM(struct nvmf_params, poll_groups_mask, RPC_STRING),
	PARAM(struct nvmf_params, admin_cmd_passthru, RPC_OBJECT),
	/* what authentication may use: keys are refused, so nobody authenticates with anything else */
	PARAM(struct nvmf_params, dhchap_digests, RPC_ARRAY),
	PARAM(struct nvmf_params, dhchap_dhgroups, RPC_ARRAY),
	PARAM(struct nvmf_params, discovery_filters, RPC_ARRAY),
	/* a listener has one client, and clients have no host's name: both policies are kept */
	PARAM(struct nvmf_params, dup_host_policy, RPC_STRING),
	/* of older ones: sockets wake their reactor, which takes its own clients */
	PARAM_IGNORE("acceptor_poll_rate"),
	PARAM_IGNORE("conn_sched"),
};

static bool
passthru_ok(struct rpc_req *req, const json_t *o)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)o, name, v) {
		if (json_is_false(v))
			continue;
		bad_params(
			req,
			"'admin_cmd_passthru': '%.64s' must be false: no command is passed through",
			name);
		return false;
	}
	return true;
}

/* The cores of -m, as a mask in hexadecimal; a saved configuration may name them again. */
static bool
mask_ok(struct rpc_req *req, const char *mask)
{
	uint64_t want, have = 0;
	unsigned i;

	if (!mask)
		return true;
	for (i = 0; i < reactor_count(); i++)
		if (reactor_core(reactor_get(i)) < 64)
			have |= 1ull << reactor_core(reactor_get(i));
	if (!util_parse_u64(mask, &want) && want == have)
		return true;
	bad_params(
		req,
		"'poll_groups_mask' '%.64s' is not that of the cores there are (belfryd -m): 0x%llx",
		mask, (unsigned long long)have);
	return false;
}

static bool
filter_ok(struct rpc_req *req, const char *name, const char *filter)
{
	if (filter && !strcmp(filter, "match_any"))
		return true;
	bad_params(req, "'%s' '%.64s' is not supported: there is match_any",
		   name, filter ? filter : "");
	return false;
}

static bool
filters_ok(struct rpc_req *req, const struct nvmf_params *p)
{
	const json_t *v;
	size_t i;

	if (p->discovery_filter &&
	    !filter_ok(req, "discovery_filter", p->discovery_filter))
		return false;
	json_array_foreach(p->discovery_filters, i, v)
		if (!filter_ok(req, "discovery_filters", json_string_value(v)))
			return false;
	return true;
}

static bool
policy_ok(struct rpc_req *req, const char *policy)
{
	if (!policy || !strcmp(policy, "allow") ||
	    !strcmp(policy, "restrict_per_listener"))
		return true;
	bad_params(
		req,
		"'dup_host_policy' '%.64s' is none of allow, restrict_per_listener",
		policy);
	return false;
}

static void
rpc_nvmf_set_config(struct rpc_req *req, const json_t *params)
{
	struct nvmf_params p = { 0 };

	if (!rpc_decode(req, params, nvmf_table, ARRAY_SIZE(nvmf_table), &p,
			0) ||
	    !target_name_ok(req, p.tgt_name) ||
	    !passthru_ok(req, p.admin_cmd_passthru) ||
	    !mask_ok(req, p.poll_groups_mask) || !filters_ok(req, &p) ||
	    !policy_ok(req, p.dup_host_policy))
		return;
	rpc_result(req, json_true());
}

/* There is no limit but memory. */
static const struct rpc_param max_table[] = {
	PARAM(struct nvmf_params, tgt_name, RPC_STRING),
	PARAM_REQ(struct nvmf_params, max_subsystems, RPC_U32),
};

static void
rpc_set_max_subsystems(struct rpc_req *req, const json_t *params)
{
	struct nvmf_params p = { 0 };

	if (rpc_decode(req, params, max_table, ARRAY_SIZE(max_table), &p, 0) &&
	    target_name_ok(req, p.tgt_name))
		rpc_result(req, json_true());
}

/* No command is ever answered with a delay to retry it after. */
static const struct rpc_param crdt_table[] = {
	PARAM(struct nvmf_params, tgt_name, RPC_STRING),
	PARAM(struct nvmf_params, crdt1, RPC_U32),
	PARAM(struct nvmf_params, crdt2, RPC_U32),
	PARAM(struct nvmf_params, crdt3, RPC_U32),
};

static void
rpc_set_crdt(struct rpc_req *req, const json_t *params)
{
	struct nvmf_params p = { 0 };

	if (!rpc_decode(req, params, crdt_table, ARRAY_SIZE(crdt_table), &p,
			0) ||
	    !target_name_ok(req, p.tgt_name))
		return;
	if (p.crdt1 || p.crdt2 || p.crdt3)
		log_warn(
			"%s: no command is answered with a retry delay: no effect",
			rpc_req_method(req)->name);
	rpc_result(req, json_true());
}

/* ---- parts of SPDK that have no counterpart ---- */

static void rpc_no_counterpart(struct rpc_req *req, const json_t *params);

#define ALWAYS (RPC_STARTUP | RPC_RUNTIME)
#define ABSENT(name, when, part)                                \
	{                                                       \
		{ name, rpc_no_counterpart, when }, part, false \
	}
static struct absent {
	struct rpc_method method;
	const char *part;
	bool said; /* SPDK saves some of them several times over: each is told of once */
} absent[] = {
	ABSENT("accel_assign_opc", RPC_STARTUP, "accelerators"),
	ABSENT("accel_set_driver", RPC_STARTUP, "accelerators"),
	ABSENT("accel_set_options", RPC_STARTUP, "accelerators"),
	ABSENT("bdev_iscsi_set_options", RPC_STARTUP, "iSCSI"),
	ABSENT("bdev_nvme_set_hotplug", ALWAYS, "NVMe driver"),
	ABSENT("bdev_nvme_set_options", ALWAYS, "NVMe driver"),
	ABSENT("bdev_raid_set_options", ALWAYS, "RAID"),
	ABSENT("dsa_scan_accel_module", RPC_STARTUP, "accelerators"),
	ABSENT("framework_set_scheduler", ALWAYS, "schedulers"),
	ABSENT("fsdev_set_opts", ALWAYS, "file systems"),
	ABSENT("iaa_scan_accel_module", RPC_STARTUP, "accelerators"),
	ABSENT("ioat_scan_accel_module", RPC_STARTUP, "accelerators"),
	ABSENT("iobuf_set_options", RPC_STARTUP, "pools of buffers"),
	ABSENT("iscsi_set_options", RPC_STARTUP, "iSCSI"),
	ABSENT("keyring_file_add_key", ALWAYS, "keyring"),
	ABSENT("keyring_linux_set_options", RPC_STARTUP, "keyring"),
	ABSENT("scheduler_set_options", RPC_STARTUP, "schedulers"),
	ABSENT("sock_impl_set_options", RPC_STARTUP, "network sockets"),
	ABSENT("sock_set_default_impl", RPC_STARTUP, "network sockets"),
	ABSENT("vmd_enable", RPC_STARTUP, "PCI driver"),
};

static void
rpc_no_counterpart(struct rpc_req *req, const json_t *params)
{
	struct absent *a =
		container_of((struct rpc_method *)rpc_req_method(req),
			     struct absent, method);

	if (!a->said)
		log_warn("%s: nothing here is like SPDK's %s: no effect",
			 a->method.name, a->part);
	a->said = true;
	rpc_result(req, json_true());
}

static const struct rpc_method methods[] = {
	{ "bdev_set_options", rpc_bdev_set_options, RPC_STARTUP },
	{ "bdev_wait_for_examine", rpc_wait_for_examine, RPC_RUNTIME },
	{ "nvmf_set_config", rpc_nvmf_set_config, RPC_STARTUP },
	{ "nvmf_set_crdt", rpc_set_crdt, RPC_STARTUP },
	{ "nvmf_set_max_subsystems", rpc_set_max_subsystems, RPC_STARTUP },
};

void
rpc_options_register(void)
{
	size_t i;

	rpc_register(methods, ARRAY_SIZE(methods));
	for (i = 0; i < ARRAY_SIZE(absent); i++)
		rpc_register(&absent[i].method, 1);
}
