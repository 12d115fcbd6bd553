/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: the calls that a configuration saved by SPDK begins and ends with. They tune what does not exist here (pools of
 * I/Os, an examination of new block devices, authentication), so whatever they ask for is so; what is not so is refused.
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
	const char *tgt_name, *discovery_filter, *poll_groups_mask;
	json_t *admin_cmd_passthru, *dhchap_digests, *dhchap_dhgroups;
};

static const struct rpc_param nvmf_table[] = {
	PARAM(struct nvmf_params, tgt_name, RPC_STRING),
	PARAM(struct nvmf_params, discovery_filter, RPC_STRING),
	PARAM(struct nvmf_params, poll_groups_mask, RPC_STRING),
	PARAM(struct nvmf_params, admin_cmd_passthru, RPC_OBJECT),
	/* what authentication may use: keys are refused, so nobody authenticates with anything else */
	PARAM(struct nvmf_params, dhchap_digests, RPC_ARRAY),
	PARAM(struct nvmf_params, dhchap_dhgroups, RPC_ARRAY),
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

static void
rpc_nvmf_set_config(struct rpc_req *req, const json_t *params)
{
	struct nvmf_params p = { 0 };

	if (!rpc_decode(req, params, nvmf_table, ARRAY_SIZE(nvmf_table), &p,
			0) ||
	    !target_name_ok(req, p.tgt_name) ||
	    !passthru_ok(req, p.admin_cmd_passthru) ||
	    !mask_ok(req, p.poll_groups_mask))
		return;
	if (p.discovery_filter && strcmp(p.discovery_filter, "match_any")) {
		bad_params(
			req,
			"'discovery_filter' '%.64s' is not supported: there is match_any",
			p.discovery_filter);
		return;
	}
	rpc_result(req, json_true());
}

static const struct rpc_method methods[] = {
	{ "bdev_set_options", rpc_bdev_set_options, RPC_STARTUP },
	{ "bdev_wait_for_examine", rpc_wait_for_examine, RPC_RUNTIME },
	{ "nvmf_set_config", rpc_nvmf_set_config, RPC_STARTUP },
};

void
rpc_options_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
