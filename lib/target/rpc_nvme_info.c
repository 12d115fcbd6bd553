/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: lists of subsystems, controllers, queue pairs; the nvmf part of a saved configuration. Changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define MAX_CTRLS 4096
#define MAX_QPAIRS 65536

static json_t *
addresses_json(const struct subsystem *s)
{
	json_t *out = json_array();
	struct listener *l;

	list_for_each(l, &s->listeners, node)
		if (l->state == LISTENER_UP)
			json_array_append_new(out, listener_address(&l->cfg));
	return out;
}

static json_t *
hosts_json(const struct subsystem *s)
{
	json_t *out = json_array();
	struct host *h;

	list_for_each(h, &s->hosts, node)
		json_array_append_new(out, json_pack("{s:s}", "nqn", h->nqn));
	return out;
}

static void
ns_ids(json_t *o, const struct nvme_ns_config *cfg)
{
	if (cfg->has_nguid)
		json_object_set_new(o, "nguid",
				    hex_json(cfg->nguid, sizeof(cfg->nguid)));
	if (cfg->has_eui64)
		json_object_set_new(o, "eui64",
				    hex_json(cfg->eui64, sizeof(cfg->eui64)));
	json_object_set_new(o, "uuid", uuid_json(cfg->uuid));
}

static json_t *
namespaces_json(const struct subsystem *s)
{
	json_t *out = json_array(), *o;
	struct nvme_ns_info info;
	uint32_t nsid = 0;

	while ((nsid = nvme_subsys_next_ns(s->core, nsid, &info))) {
		if (info.removing)
			continue;
		o = json_pack("{s:I, s:s, s:s}", "nsid", (json_int_t)nsid,
			      "bdev_name", info.cfg.bdev_name, "name",
			      info.cfg.bdev_name);
		ns_ids(o, &info.cfg);
		json_array_append_new(out, o);
	}
	return out;
}

static json_t *
subsystem_json(const struct subsystem *s)
{
	json_t *o = json_pack("{s:s, s:s, s:o, s:b, s:o, s:s, s:s}", "nqn",
			      s->nqn, "subtype", "NVMe", "listen_addresses",
			      addresses_json(s), "allow_any_host",
			      s->allow_any_host, "hosts", hosts_json(s),
			      "serial_number", s->serial, "model_number",
			      s->model);

	if (s->admin_label)
		json_object_set_new(o, "admin_label",
				    json_string(s->admin_label));
	json_object_set_new(o, "max_namespaces",
			    json_integer(s->max_namespaces));
	json_object_set_new(o, "passthrough", json_false());
	json_object_set_new(o, "min_cntlid", json_integer(s->min_cntlid));
	json_object_set_new(o, "max_cntlid", json_integer(s->max_cntlid));
	json_object_set_new(o, "dmrsl", json_integer(0));
	json_object_set_new(o, "wzsl", json_integer(0));
	json_object_set_new(o, "enable_nssr", json_boolean(s->enable_nssr));
	json_object_set_new(o, "namespaces", namespaces_json(s));
	return o;
}

struct nqn_params {
	const char *nqn, *tgt_name;
};

static const struct rpc_param get_table[] = {
	PARAM(struct nqn_params, nqn, RPC_STRING),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

static const struct rpc_param nqn_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

/* A client that lists subsystems expects discovery to be the first; over vfio-user nobody can connect to it. */
static json_t *
discovery_json(void)
{
	return json_pack("{s:s, s:s, s:[], s:b, s:[]}", "nqn", DISCOVERY_NQN,
			 "subtype", "Discovery", "listen_addresses",
			 "allow_any_host", 1, "hosts");
}

static const struct rpc_param targets_table[] = {
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

static void
rpc_get_targets(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };

	if (rpc_decode(req, params, targets_table, ARRAY_SIZE(targets_table),
		       &p, 0) &&
	    target_name_ok(req, p.tgt_name))
		rpc_result(req, json_pack("[s]", TGT_NAME));
}

static void
rpc_get_subsystems(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;
	json_t *out;

	if (!rpc_decode(req, params, get_table, ARRAY_SIZE(get_table), &p, 0) ||
	    !target_name_ok(req, p.tgt_name))
		return;
	if (p.nqn && strcmp(p.nqn, DISCOVERY_NQN) &&
	    !subsystem_for(req, p.nqn, NULL))
		return;
	out = json_array();
	if (!p.nqn || !strcmp(p.nqn, DISCOVERY_NQN))
		json_array_append_new(out, discovery_json());
	list_for_each(s, &subsystems, node)
		if (!s->deleting && (!p.nqn || !strcmp(p.nqn, s->nqn)))
			json_array_append_new(out, subsystem_json(s));
	rpc_result(req, out);
}

/* A host over vfio-user has no NQN and no Host Identifier: NVMe's form of "a UUID is all that is known", with none. */
#define HOSTID "00000000-0000-0000-0000-000000000000"
#define HOSTNQN "nqn.2014-08.org.nvmexpress:uuid:" HOSTID

static void
rpc_get_controllers(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct nvme_ctrl_info *infos;
	struct subsystem *s;
	unsigned i, n;
	json_t *out;

	if (!rpc_decode(req, params, nqn_table, ARRAY_SIZE(nqn_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	infos = calloc(MAX_CTRLS, sizeof(*infos));
	out = infos ? json_array() : NULL;
	n = infos ? nvme_subsys_ctrls(s->core, infos, MAX_CTRLS) : 0;
	for (i = 0; i < n; i++)
		json_array_append_new(
			out, json_pack("{s:i, s:s, s:s, s:s, s:i}", "cntlid",
				       (int)infos[i].cntlid, "cntrltype", "io",
				       "hostnqn", HOSTNQN, "hostid", HOSTID,
				       "num_io_qpairs",
				       (int)infos[i].num_io_qpairs));
	free(infos);
	rpc_result(req, out);
}

static json_t *
qpair_json(const struct subsystem *s, const struct nvme_qpair_info *q)
{
	struct listener *l = listener_by_tag(q->tag);
	char thread[32];
	json_t *o;

	thread_name(q->reactor, thread, sizeof(thread));
	o = json_pack("{s:i, s:i, s:s, s:s, s:s}", "cntlid", (int)q->cntlid,
		      "qid", (int)q->qid, "state", "active", "thread", thread,
		      "hostnqn", HOSTNQN);
	if (l && l->subsystem == s)
		json_object_set_new(o, "listen_address",
				    listener_address(&l->cfg));
	json_object_set_new(o, "depth", json_integer(q->depth));
	return o;
}

static void
rpc_get_qpairs(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct nvme_qpair_info *qpairs;
	struct subsystem *s;
	unsigned i, n;
	json_t *out;

	if (!rpc_decode(req, params, nqn_table, ARRAY_SIZE(nqn_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	qpairs = calloc(MAX_QPAIRS, sizeof(*qpairs));
	out = qpairs ? json_array() : NULL;
	n = qpairs ? nvme_subsys_qpairs(s->core, qpairs, MAX_QPAIRS) : 0;
	for (i = 0; i < n; i++)
		json_array_append_new(out, qpair_json(s, &qpairs[i]));
	free(qpairs);
	rpc_result(req, out);
}

/* ---- save ---- */

static void
save_call(json_t *out, const char *method, json_t *params)
{
	json_array_append_new(out, json_pack("{s:s, s:o}", "method", method,
					     "params", params));
}

static void
save_namespaces(json_t *out, const struct subsystem *s)
{
	struct nvme_ns_info info;
	uint32_t nsid = 0;
	json_t *ns;

	while ((nsid = nvme_subsys_next_ns(s->core, nsid, &info))) {
		if (info.removing)
			continue;
		ns = json_pack("{s:I, s:s}", "nsid", (json_int_t)nsid,
			       "bdev_name", info.cfg.bdev_name);
		ns_ids(ns, &info.cfg);
		save_call(out, "nvmf_subsystem_add_ns",
			  json_pack("{s:s, s:o}", "nqn", s->nqn, "namespace",
				    ns));
	}
}

static void
save_listener(json_t *out, const struct listener *l)
{
	const struct listener_config *cfg = &l->cfg;
	json_t *address = json_pack("{s:s}", "trtype", TRTYPE), *params;
	char mode[8];

	if (cfg->adrfam)
		json_object_set_new(address, "adrfam",
				    json_string(cfg->adrfam));
	json_object_set_new(address, "traddr", json_string(cfg->traddr));
	if (cfg->trsvcid)
		json_object_set_new(address, "trsvcid",
				    json_string(cfg->trsvcid));
	params = json_pack("{s:s, s:o}", "nqn", l->subsystem->nqn,
			   "listen_address", address);
	if (cfg->mode) {
		snprintf(mode, sizeof(mode), "%04o", cfg->mode & 0777);
		json_object_set_new(params, "mode", json_string(mode));
	}
	if (cfg->owner)
		json_object_set_new(params, "owner", json_string(cfg->owner));
	if (cfg->group)
		json_object_set_new(params, "group", json_string(cfg->group));
	pci_ids_json(params, &cfg->ids);
	transport_flags_json(params, &cfg->flags, &cfg->given);
	if (cfg->numa_id >= 0)
		json_object_set_new(params, "numa_id",
				    json_integer(cfg->numa_id));
	save_call(out, "nvmf_subsystem_add_listener", params);
}

static void
save_subsystem(json_t *out, const struct subsystem *s)
{
	json_t *params = json_pack("{s:s, s:b, s:s, s:s}", "nqn", s->nqn,
				   "allow_any_host", s->allow_any_host,
				   "serial_number", s->serial, "model_number",
				   s->model);
	struct listener *l;
	struct host *h;

	if (s->admin_label)
		json_object_set_new(params, "admin_label",
				    json_string(s->admin_label));
	json_object_set_new(params, "max_namespaces",
			    json_integer(s->max_namespaces));
	json_object_set_new(params, "min_cntlid", json_integer(s->min_cntlid));
	json_object_set_new(params, "max_cntlid", json_integer(s->max_cntlid));
	json_object_set_new(params, "enable_nssr",
			    json_boolean(s->enable_nssr));
	save_call(out, "nvmf_create_subsystem", params);
	list_for_each(h, &s->hosts, node)
		save_call(out, "nvmf_subsystem_add_host",
			  json_pack("{s:s, s:s}", "nqn", s->nqn, "host",
				    h->nqn));
	save_namespaces(out, s);
	list_for_each(l, &s->listeners, node)
		if (l->state == LISTENER_UP)
			save_listener(out, l);
}

json_t *
save_nvmf(void)
{
	json_t *out = json_array();
	struct subsystem *s;

	if (transport.created)
		save_call(out, "nvmf_create_transport", transport_json());
	list_for_each(s, &subsystems, node)
		if (!s->deleting)
			save_subsystem(out, s);
	return out;
}

static const struct rpc_method methods[] = {
	{ "nvmf_get_targets", rpc_get_targets, RPC_RUNTIME },
	{ "nvmf_get_subsystems", rpc_get_subsystems, RPC_RUNTIME },
	{ "nvmf_subsystem_get_controllers", rpc_get_controllers, RPC_RUNTIME },
	{ "nvmf_subsystem_get_qpairs", rpc_get_qpairs, RPC_RUNTIME },
};

void
rpc_nvme_info_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
