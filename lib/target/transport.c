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

static const struct {
	const char *name;
	size_t offset;
} flags_table[] = {
#define FLAG(flag)                                            \
	{                                                     \
#flag, offsetof(struct transport_flags, flag) \
	}
	FLAG(disable_mappable_bar0),
	FLAG(disable_adaptive_irq),
	FLAG(disable_shadow_doorbells),
};

static bool
flag_of(const struct transport_flags *flags, unsigned i)
{
	return *(const bool *)((const char *)flags + flags_table[i].offset);
}

void
transport_flags_json(json_t *o, const struct transport_flags *flags,
		     const struct transport_flags *which)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(flags_table); i++)
		if (!which || flag_of(which, i))
			json_object_set_new(o, flags_table[i].name,
					    json_boolean(flag_of(flags, i)));
}

struct transport
transport_with(const struct transport_flags *flags,
	       const struct transport_flags *given)
{
	struct transport t = transport;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(flags_table); i++)
		if (flag_of(given, i))
			*(bool *)((char *)&t.flags + flags_table[i].offset) =
				flag_of(flags, i);
	return t;
}

json_t *
transport_json(void)
{
	const struct transport *t = &transport;
	json_t *o = json_pack("{s:s, s:i, s:i, s:i, s:i}", "trtype", TRTYPE,
			      "max_queue_depth", (int)t->max_queue_depth,
			      "max_io_qpairs_per_ctrlr", (int)t->max_io_qpairs,
			      "max_io_size", (int)t->max_io_size,
			      "max_aq_depth", (int)t->max_aq_depth);

	transport_flags_json(o, &t->flags, NULL);
	pci_ids_json(o, &t->ids);
	return o;
}

struct create_params {
	const char *trtype, *tgt_name;
	uint16_t max_queue_depth, max_io_qpairs_per_ctrlr, max_aq_depth;
	uint32_t max_io_size;
	struct transport_flags flags, given;
	json_t *masked_oncs;
};

static const struct rpc_param create_table[] = {
	PARAM_REQ(struct create_params, trtype, RPC_STRING),
	PARAM(struct create_params, tgt_name, RPC_STRING),
	PARAM(struct create_params, max_queue_depth, RPC_U16),
	PARAM(struct create_params, max_io_qpairs_per_ctrlr, RPC_U16),
	PARAM(struct create_params, max_io_size, RPC_U32),
	PARAM(struct create_params, max_aq_depth, RPC_U16),
	PARAM_FLAG(struct create_params, flags, given, disable_mappable_bar0),
	PARAM_FLAG(struct create_params, flags, given, disable_adaptive_irq),
	PARAM_FLAG(struct create_params, flags, given,
		   disable_shadow_doorbells),
	PARAM(struct create_params, masked_oncs, RPC_ARRAY),
	PARAM_PCI_IDS,
	/* of other transports: SPDK's clients send them all */
	PARAM_IGNORE("ack_timeout"),
	PARAM_IGNORE("acceptor_backlog"),
	PARAM_IGNORE("c2h_success"),
	PARAM_IGNORE("control_msg_num"),
	PARAM_IGNORE("data_wr_pool_size"),
	PARAM_IGNORE("dif_insert_or_strip"),
	PARAM_IGNORE("in_capsule_data_size"),
	PARAM_IGNORE("max_srq_depth"),
	PARAM_IGNORE("no_srq"),
	PARAM_IGNORE("no_wr_batching"),
	PARAM_IGNORE("num_cqe"),
	PARAM_IGNORE("sock_priority"),
	/* buffers and pollers that there are none of here: data is never copied, sockets wake their reactor */
	PARAM_IGNORE("abort_timeout_sec"),
	PARAM_IGNORE("acceptor_poll_rate"),
	PARAM_IGNORE("buf_cache_size"),
	PARAM_IGNORE("io_unit_size"),
	PARAM_IGNORE("iobuf_large_cache_size"),
	PARAM_IGNORE("iobuf_small_cache_size"),
	PARAM_IGNORE("num_shared_buffers"),
	PARAM_IGNORE("zcopy"),
	/* true of every controller here, whatever they say: neither passes commands through nor has fused ones */
	PARAM_IGNORE("disable_command_passthru"),
	PARAM_IGNORE("masked_fuses"),
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
	if (json_array_size(p->masked_oncs)) {
		bad_params(req, "'masked_oncs' is not supported: leave it out");
		return false;
	}
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
		.flags = p.flags,
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
