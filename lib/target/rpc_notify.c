/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: what came and went since somebody last asked. Not for what is there now: rpc_bdev_info.c.
 */
#include "internal.h"

static void
rpc_get_types(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_result(req, json_pack("[s, s]", "bdev_register",
					  "bdev_unregister"));
}

struct notify_params {
	uint64_t id, max;
};

static const struct rpc_param notify_table[] = {
	PARAM(struct notify_params, id, RPC_U64),
	PARAM(struct notify_params, max, RPC_U64),
};

static void
rpc_get_notifications(struct rpc_req *req, const json_t *params)
{
	struct notify_params p = { .id = 0, .max = UINT64_MAX };
	struct bdev_notice n = { 0 };
	json_t *out;

	if (!rpc_decode(req, params, notify_table, ARRAY_SIZE(notify_table), &p,
			0))
		return;
	out = json_array();
	while (json_array_size(out) < p.max && bdev_notice_from(p.id, &n)) {
		json_array_append_new(out, json_pack("{s:s, s:s, s:I}", "type",
						     n.gone ? "bdev_unregister"
							    : "bdev_register",
						     "ctx", n.name, "id",
						     (json_int_t)n.id));
		p.id = n.id + 1;
	}
	rpc_result(req, out);
}

static const struct rpc_method methods[] = {
	{ "notify_get_types", rpc_get_types, RPC_RUNTIME },
	{ "notify_get_notifications", rpc_get_notifications, RPC_RUNTIME },
};

void
rpc_notify_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
