/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The transport: the options that every controller gets. There is one, VFIOUSER. Not for listeners: listener.c.
 *
 * Options change nothing for controllers that exist: a transport is made once, before the first listener.
 */
#include <errno.h>
#include <strings.h>

#include "internal.h"

#define MAX_DEPTH 4096
#define MIN_IO_SIZE 4096
#define MAX_IO_SIZE (1024 * 1024)

struct transport transport;

bool
is_vfiouser(const char *trtype)
{
	return !strcasecmp(trtype, TRTYPE);
}

json_t *
transport_json(void)
{
	const struct transport *t = &transport;
	json_t *o = json_pack(
		"{s:s, s:i, s:i, s:i, s:i, s:b, s:b, s:b}", "trtype", TRTYPE,
		"max_queue_depth", (int)t->max_queue_depth,
		"max_io_qpairs_per_ctrlr", (int)t->max_io_qpairs, "max_io_size",
		(int)t->max_io_size, "max_aq_depth", (int)t->max_aq_depth,
		"disable_mappable_bar0", t->disable_mappable_bar0,
		"disable_adaptive_irq", t->disable_adaptive_irq,
		"disable_shadow_doorbells", t->disable_shadow_doorbells);

	pci_ids_json(o, &t->ids);
	return o;
}

struct create_params {
	const char *trtype, *tgt_name;
	uint16_t max_queue_depth, max_io_qpairs_per_ctrlr, max_aq_depth;
	uint32_t max_io_size;
	bool disable_mappable_bar0, disable_adaptive_irq,
		disable_shadow_doorbells;
};

static const struct rpc_param create_table[] = {
	PARAM_REQ(struct create_params, trtype, RPC_STRING),
	PARAM(struct create_params, tgt_name, RPC_STRING),
	PARAM(struct create_params, max_queue_depth, RPC_U16),
	PARAM(struct create_params, max_io_qpairs_per_ctrlr, RPC_U16),
	PARAM(struct create_params, max_io_size, RPC_U32),
	PARAM(struct create_params, max_aq_depth, RPC_U16),
	PARAM(struct create_params, disable_mappable_bar0, RPC_BOOL),
	PARAM(struct create_params, disable_adaptive_irq, RPC_BOOL),
	PARAM(struct create_params, disable_shadow_doorbells, RPC_BOOL),
};

static bool
in_range(struct rpc_req *req, const char *name, uint32_t v, uint32_t min,
	 uint32_t max)
{
	if (v >= min && v <= max)
		return true;
	bad_params(req, "'%s' %u is out of range: %u to %u", name, v, min, max);
	return false;
}

static bool
check_create(struct rpc_req *req, const struct create_params *p)
{
	if (!target_name_ok(req, p->tgt_name))
		return false;
	if (!is_vfiouser(p->trtype)) {
		bad_params(
			req,
			"Transport type '%s' unavailable: the one there is, is " TRTYPE,
			p->trtype);
		return false;
	}
	if (transport.created) {
		bad_params(req, "Transport type '%s' already exists",
			   p->trtype);
		return false;
	}
	if (!in_range(req, "max_queue_depth", p->max_queue_depth, 2,
		      MAX_DEPTH) ||
	    !in_range(req, "max_io_qpairs_per_ctrlr",
		      p->max_io_qpairs_per_ctrlr, 1, NVME_MAX_IO_QUEUES) ||
	    !in_range(req, "max_aq_depth", p->max_aq_depth, 2, MAX_DEPTH) ||
	    !in_range(req, "max_io_size", p->max_io_size, MIN_IO_SIZE,
		      MAX_IO_SIZE))
		return false;
	if (!is_pow2(p->max_io_size)) {
		bad_params(req, "'max_io_size' %u is no power of two",
			   p->max_io_size);
		return false;
	}
	return true;
}

static void
rpc_create_transport(struct rpc_req *req, const json_t *params)
{
	struct create_params p = {
		.max_queue_depth = 1024,
		.max_io_qpairs_per_ctrlr = NVME_MAX_IO_QUEUES,
		.max_io_size = MAX_IO_SIZE,
		.max_aq_depth = MAX_DEPTH,
	};
	struct pci_ids ids = { 0 };

	if (!rpc_decode(req, params, create_table, ARRAY_SIZE(create_table), &p,
			RPC_RELAXED) ||
	    !check_create(req, &p) || !pci_ids_decode(req, params, &ids))
		return;
	transport = (struct transport){
		.created = true,
		.max_queue_depth = p.max_queue_depth,
		.max_io_qpairs = p.max_io_qpairs_per_ctrlr,
		.max_io_size = p.max_io_size,
		.max_aq_depth = p.max_aq_depth,
		.disable_mappable_bar0 = p.disable_mappable_bar0,
		.disable_adaptive_irq = p.disable_adaptive_irq,
		.disable_shadow_doorbells = p.disable_shadow_doorbells,
		.ids = ids,
	};
	rpc_result(req, json_true());
}

struct get_params {
	const char *trtype, *tgt_name;
};

static const struct rpc_param get_table[] = {
	PARAM(struct get_params, trtype, RPC_STRING),
	PARAM(struct get_params, tgt_name, RPC_STRING),
};

static void
rpc_get_transports(struct rpc_req *req, const json_t *params)
{
	struct get_params p = { 0 };
	json_t *out;

	if (!rpc_decode(req, params, get_table, ARRAY_SIZE(get_table), &p, 0) ||
	    !target_name_ok(req, p.tgt_name))
		return;
	if (p.trtype && !(transport.created && is_vfiouser(p.trtype))) {
		rpc_errno(req, -ENODEV, "transport '%s' was not created",
			  p.trtype);
		return;
	}
	out = json_array();
	if (transport.created)
		json_array_append_new(out, transport_json());
	rpc_result(req, out);
}

static const struct rpc_method methods[] = {
	{ "nvmf_create_transport", rpc_create_transport, RPC_RUNTIME },
	{ "nvmf_get_transports", rpc_get_transports, RPC_RUNTIME },
};

void
rpc_transport_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
