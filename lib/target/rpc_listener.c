/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: listeners of a subsystem, and belfry_get_clients. Not for what they do: listener.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

struct address {
	const char *trtype, *traddr, *adrfam, *trsvcid;
};

static const struct rpc_param address_table[] = {
	PARAM_REQ(struct address, trtype, RPC_STRING),
	PARAM_REQ(struct address, traddr, RPC_STRING),
	PARAM(struct address, adrfam, RPC_STRING),
	PARAM(struct address, trsvcid, RPC_STRING),
};

struct listener_params {
	const char *nqn, *tgt_name, *mode, *owner, *group, *ana_state;
	json_t *listen_address;
	bool secure_channel;
	int32_t numa_id;
	uint32_t anagrpid;
	struct transport_flags flags, given;
};

static const struct rpc_param add_table[] = {
	PARAM_REQ(struct listener_params, nqn, RPC_STRING),
	PARAM(struct listener_params, tgt_name, RPC_STRING),
	PARAM_REQ(struct listener_params, listen_address, RPC_OBJECT),
	PARAM(struct listener_params, secure_channel, RPC_BOOL),
	PARAM(struct listener_params, mode, RPC_STRING),
	PARAM(struct listener_params, owner, RPC_STRING),
	PARAM(struct listener_params, group, RPC_STRING),
	PARAM(struct listener_params, numa_id, RPC_I32),
	PARAM_FLAG(struct listener_params, flags, given, disable_mappable_bar0),
	PARAM_FLAG(struct listener_params, flags, given, disable_adaptive_irq),
	PARAM_FLAG(struct listener_params, flags, given,
		   disable_shadow_doorbells),
	PARAM_PCI_IDS,
	PARAM(struct listener_params, ana_state, RPC_STRING),
	PARAM_IGNORE("sock_impl"), /* of TCP */
};

/* NULL, or SPDK's spelling: what is printed. */
static bool
adrfam_ok(struct rpc_req *req, const char **adrfam)
{
	static const char *const names[] = { "IPv4", "IPv6", "IB", "FC" };
	unsigned i;

	if (!*adrfam)
		return true;
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcasecmp(*adrfam, names[i])) {
			*adrfam = names[i];
			return true;
		}
	}
	bad_params(
		req,
		"'adrfam' '%.64s' is none of IPv4, IPv6, IB, FC: leave it out",
		*adrfam);
	return false;
}

static bool
decode_address(struct rpc_req *req, const json_t *o, struct address *a,
	       unsigned flags)
{
	if (!rpc_decode(req, o, address_table, ARRAY_SIZE(address_table), a,
			flags))
		return false;
	if (!is_vfiouser(a->trtype)) {
		bad_params(
			req,
			"'trtype' '%.64s' is not supported: the one there is, is " TRTYPE,
			a->trtype);
		return false;
	}
	if (!*a->traddr) {
		bad_params(req, "'traddr' is empty: it names a directory");
		return false;
	}
	return adrfam_ok(req, &a->adrfam);
}

/* Octal, as chmod has it: JSON has no octal numbers, hence a string. */
static bool
decode_mode(struct rpc_req *req, const char *s, uint32_t *mode)
{
	char *end;
	unsigned long v;

	if (!s)
		return true;
	v = strtoul(s, &end, 8);
	if (!*s || *end || *s == '-' || *s == '+' || v == 0 || v > 0777) {
		bad_params(
			req,
			"'mode' '%.32s' must be a string of octal digits, \"0600\" to \"0777\"",
			s);
		return false;
	}
	*mode = (uint32_t)v;
	return true;
}

static bool
ana_state_ok(struct rpc_req *req, const char *state)
{
	if (!state || !strcmp(state, "optimized"))
		return true;
	bad_params(
		req,
		"'ana_state' '%.64s' is not supported: every path is \"optimized\"",
		state);
	return false;
}

/* What would have to be otherwise than it is. */
static bool
check_unsupported(struct rpc_req *req, const struct listener_params *p)
{
	if (!p->secure_channel)
		return ana_state_ok(req, p->ana_state);
	bad_params(req,
		   "'secure_channel' is not supported: the socket is local");
	return false;
}

static void
rpc_add_listener(struct rpc_req *req, const json_t *params)
{
	struct listener_params p = { .numa_id = -1 };
	struct listener_config cfg = { 0 };
	struct address a = { 0 };
	struct subsystem *s;

	if (!rpc_decode(req, params, add_table, ARRAY_SIZE(add_table), &p,
			RPC_RELAXED) ||
	    !decode_address(req, p.listen_address, &a, RPC_RELAXED) ||
	    !decode_mode(req, p.mode, &cfg.mode) ||
	    !pci_ids_decode(req, params, &cfg.ids) ||
	    !check_unsupported(req, &p))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	cfg.traddr = a.traddr;
	cfg.trsvcid = a.trsvcid;
	cfg.adrfam = a.adrfam;
	cfg.owner = p.owner;
	cfg.group = p.group;
	cfg.numa_id = p.numa_id;
	cfg.flags = p.flags;
	cfg.given = p.given;
	listener_add(req, s, &cfg);
}

static const struct rpc_param remove_table[] = {
	PARAM_REQ(struct listener_params, nqn, RPC_STRING),
	PARAM(struct listener_params, tgt_name, RPC_STRING),
	PARAM_REQ(struct listener_params, listen_address, RPC_OBJECT),
};

/* The one that @p names; NULL: an error has been sent. */
static struct listener *
listener_for(struct rpc_req *req, const struct listener_params *p)
{
	struct address a = { 0 };
	struct subsystem *s;
	struct listener *l;

	if (!decode_address(req, p->listen_address, &a, 0))
		return NULL;
	s = subsystem_for(req, p->nqn, p->tgt_name);
	if (!s)
		return NULL;
	l = listener_find(s, a.traddr);
	if (!l)
		bad_params(
			req,
			"'traddr' %.256s: the subsystem has no such listener",
			a.traddr);
	return l;
}

static void
rpc_remove_listener(struct rpc_req *req, const json_t *params)
{
	struct listener_params p = { 0 };
	struct listener *l;

	if (!rpc_decode(req, params, remove_table, ARRAY_SIZE(remove_table), &p,
			0))
		return;
	l = listener_for(req, &p);
	if (l && listener_remove(req, l))
		rpc_errno(req, -EBUSY, "listener %.256s is %s", l->cfg.traddr,
			  l->state == LISTENER_GOING ? "being removed"
						     : "being added");
}

static const struct rpc_param ana_table[] = {
	PARAM_REQ(struct listener_params, nqn, RPC_STRING),
	PARAM(struct listener_params, tgt_name, RPC_STRING),
	PARAM_REQ(struct listener_params, listen_address, RPC_OBJECT),
	PARAM_REQ(struct listener_params, ana_state, RPC_STRING),
	PARAM(struct listener_params, anagrpid, RPC_U32),
};

/* For scripts that say of a path what it is. */
static void
rpc_set_ana_state(struct rpc_req *req, const json_t *params)
{
	struct listener_params p = { .anagrpid = 1 };

	if (!rpc_decode(req, params, ana_table, ARRAY_SIZE(ana_table), &p, 0) ||
	    !ana_state_ok(req, p.ana_state))
		return;
	if (p.anagrpid != 1)
		bad_params(req, "'anagrpid' %u: there is group 1 alone",
			   p.anagrpid);
	else if (listener_for(req, &p))
		rpc_result(req, json_true());
}

static const struct rpc_param list_table[] = {
	PARAM_REQ(struct listener_params, nqn, RPC_STRING),
	PARAM(struct listener_params, tgt_name, RPC_STRING),
};

static json_t *
listener_json(const struct listener *l)
{
	json_t *o = json_pack("{s:o, s:[{s:i, s:s}]}", "address",
			      listener_address(&l->cfg), "ana_states",
			      "ana_group", 1, "ana_state", "optimized");
	struct transport t = transport_with(&l->cfg.flags, &l->cfg.given);

	transport_flags_json(o, &t.flags, NULL);
	return o;
}

static void
rpc_get_listeners(struct rpc_req *req, const json_t *params)
{
	struct listener_params p = { 0 };
	struct subsystem *s;
	struct listener *l;
	json_t *out;

	if (!rpc_decode(req, params, list_table, ARRAY_SIZE(list_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	out = json_array();
	list_for_each(l, &s->listeners, node)
		if (l->state == LISTENER_UP)
			json_array_append_new(out, listener_json(l));
	rpc_result(req, out);
}

/* ---- belfry_get_clients ---- */

struct clients_job {
	struct fanout f;
	struct rpc_req *req;
	struct endpoint_client *seen;
	size_t n, cap;
	bool no_memory;
};

static void
client_seen(const struct endpoint_client *c, void *arg)
{
	struct clients_job *job = arg;
	struct endpoint_client *seen;
	size_t cap = job->cap ? 2 * job->cap : 16;

	if (job->n == job->cap) {
		seen = realloc(job->seen, cap * sizeof(*seen));
		if (!seen) {
			job->no_memory = true;
			return;
		}
		job->seen = seen;
		job->cap = cap;
	}
	job->seen[job->n++] = *c;
}

static void
clients_visit(struct fanout *f)
{
	endpoint_each(reactor_self(), client_seen,
		      container_of(f, struct clients_job, f));
}

static json_t *
usage_json(const struct vu_client_info *i)
{
	return json_pack(
		"{s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:I, s:I}",
		"arena_bytes", "used", (json_int_t)i->usage.arena_used, "limit",
		(json_int_t)i->limits.arena_len, "ioas", "used",
		(json_int_t)i->usage.ioas, "limit",
		(json_int_t)i->limits.max_ioas, "extents", "used",
		(json_int_t)i->usage.extents, "limit",
		(json_int_t)i->limits.max_extents, "vmas", "used",
		(json_int_t)i->usage.vmas, "limit",
		(json_int_t)i->limits.max_vmas, "maps",
		(json_int_t)i->usage.maps, "unmaps",
		(json_int_t)i->usage.unmaps);
}

static json_t *
client_json(const struct endpoint_client *c)
{
	struct listener *l = listener_by_tag(c->tag);
	json_t *o;

	if (!l || l->state != LISTENER_UP)
		return NULL;
	o = json_pack("{s:s, s:s, s:i, s:b}", "nqn", l->subsystem->nqn,
		      "traddr", l->cfg.traddr, "lcore",
		      (int)reactor_core(l->home), "connected", c->connected);
	if (c->connected)
		json_object_set_new(
			o, "client",
			json_pack("{s:i, s:i, s:s, s:I, s:o}", "pid",
				  c->info.pid, "uid", c->info.uid, "mode",
				  c->info.iommufd ? "iommufd" : "legacy",
				  "messages", (json_int_t)c->info.messages,
				  "quota", usage_json(&c->info)));
	return o;
}

static void
clients_done(struct fanout *f)
{
	struct clients_job *job = container_of(f, struct clients_job, f);
	json_t *out = job->no_memory ? NULL : json_array(), *o;
	size_t i;

	for (i = 0; i < job->n; i++) {
		o = client_json(&job->seen[i]);
		if (o)
			json_array_append_new(out, o);
	}
	rpc_result(job->req, out);
	free(job->seen);
	free(job);
}

static void
rpc_get_clients(struct rpc_req *req, const json_t *params)
{
	struct clients_job *job;

	if (!no_params(req, params))
		return;
	job = calloc(1, sizeof(*job));
	if (!job) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	job->req = req;
	job->f.fn = clients_visit;
	job->f.done = clients_done;
	fanout_run(&job->f);
}

static const struct rpc_method methods[] = {
	{ "nvmf_subsystem_add_listener", rpc_add_listener, RPC_RUNTIME },
	{ "nvmf_subsystem_remove_listener", rpc_remove_listener, RPC_RUNTIME },
	{ "nvmf_subsystem_listener_set_ana_state", rpc_set_ana_state,
	  RPC_RUNTIME },
	{ "nvmf_subsystem_get_listeners", rpc_get_listeners, RPC_RUNTIME },
	{ "belfry_get_clients", rpc_get_clients, RPC_RUNTIME },
};

void
rpc_listener_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
