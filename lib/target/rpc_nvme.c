/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: subsystems, their namespaces and hosts. Not for listeners (rpc_listener.c) nor for lists (rpc_nvme_info.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define DEFAULT_SERIAL "00000000000000000000"
#define DEFAULT_MODEL "Belfry NVMe Controller"
#define DEFAULT_NAMESPACES 32
#define MAX_CNTLID 0xffef
#define MAX_LABEL 255

struct create_params {
	const char *nqn, *tgt_name, *serial_number, *model_number, *admin_label;
	uint32_t max_namespaces, dmrsl;
	uint16_t min_cntlid, max_cntlid;
	uint8_t wzsl;
	bool allow_any_host, ana_reporting, passthrough, enable_nssr;
};

static const struct rpc_param create_table[] = {
	PARAM_REQ(struct create_params, nqn, RPC_STRING),
	PARAM(struct create_params, tgt_name, RPC_STRING),
	PARAM(struct create_params, serial_number, RPC_STRING),
	PARAM(struct create_params, model_number, RPC_STRING),
	PARAM(struct create_params, admin_label, RPC_STRING),
	PARAM(struct create_params, max_namespaces, RPC_U32),
	PARAM(struct create_params, dmrsl, RPC_U32),
	PARAM(struct create_params, min_cntlid, RPC_U16),
	PARAM(struct create_params, max_cntlid, RPC_U16),
	PARAM(struct create_params, wzsl, RPC_U8),
	PARAM(struct create_params, allow_any_host, RPC_BOOL),
	PARAM(struct create_params, ana_reporting, RPC_BOOL),
	PARAM(struct create_params, passthrough, RPC_BOOL),
	PARAM(struct create_params, enable_nssr, RPC_BOOL),
};

/* Printable ASCII, as Identify wants it (NVMe 2.0 §1.4.2). */
static bool
ascii_ok(struct rpc_req *req, const char *name, const char *s, size_t max)
{
	size_t i;

	for (i = 0; s[i]; i++) {
		if (i == max) {
			bad_params(req,
				   "'%s' '%.64s' is longer than %zu characters",
				   name, s, max);
			return false;
		}
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7e) {
			bad_params(
				req,
				"'%s' has a character that is no printable ASCII",
				name);
			return false;
		}
	}
	return true;
}

static bool
check_unsupported(struct rpc_req *req, const struct create_params *p)
{
	const char *name = p->ana_reporting ? "ana_reporting"
			   : p->passthrough ? "passthrough"
			   : p->dmrsl	    ? "dmrsl"
			   : p->wzsl	    ? "wzsl"
					    : NULL;

	if (name)
		bad_params(req, "'%s' is not supported: leave it out", name);
	return !name;
}

static bool
check_create(struct rpc_req *req, const struct create_params *p)
{
	char why[128];

	if (!target_name_ok(req, p->tgt_name) || !check_unsupported(req, p) ||
	    !ascii_ok(req, "serial_number", p->serial_number, 20) ||
	    !ascii_ok(req, "model_number", p->model_number, 40) ||
	    (p->admin_label &&
	     !ascii_ok(req, "admin_label", p->admin_label, MAX_LABEL)))
		return false;
	if (nqn_check(p->nqn, why, sizeof(why))) {
		bad_params(req, "'nqn' %.223s: %s", p->nqn, why);
		return false;
	}
	if (p->max_namespaces < 1 || p->max_namespaces > NVME_MAX_NS) {
		bad_params(req, "'max_namespaces' %u is out of range: 1 to %d",
			   p->max_namespaces, NVME_MAX_NS);
		return false;
	}
	if (p->min_cntlid < 1 || p->min_cntlid > p->max_cntlid ||
	    p->max_cntlid > MAX_CNTLID) {
		bad_params(
			req,
			"'min_cntlid' %u to 'max_cntlid' %u is no range inside 1 to %u",
			p->min_cntlid, p->max_cntlid, MAX_CNTLID);
		return false;
	}
	if (subsystem_find(p->nqn) || !strcmp(p->nqn, DISCOVERY_NQN)) {
		bad_params(req, "Subsystem with NQN '%.223s' already exists",
			   p->nqn);
		return false;
	}
	return true;
}

static struct subsystem *
subsystem_new(const struct create_params *p)
{
	struct subsystem *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->hosts);
	list_init(&s->listeners);
	s->nqn = strdup(p->nqn);
	s->serial = strdup(p->serial_number);
	s->model = strdup(p->model_number);
	s->admin_label = p->admin_label ? strdup(p->admin_label) : NULL;
	s->max_namespaces = p->max_namespaces;
	s->min_cntlid = p->min_cntlid;
	s->max_cntlid = p->max_cntlid;
	s->allow_any_host = p->allow_any_host;
	s->enable_nssr = p->enable_nssr;
	return s;
}

static void
subsystem_undo(struct subsystem *s)
{
	free(s->nqn);
	free(s->serial);
	free(s->model);
	free(s->admin_label);
	free(s);
}

static void
rpc_create_subsystem(struct rpc_req *req, const json_t *params)
{
	struct create_params p = {
		.serial_number = DEFAULT_SERIAL,
		.model_number = DEFAULT_MODEL,
		.max_namespaces = DEFAULT_NAMESPACES,
		.min_cntlid = 1,
		.max_cntlid = MAX_CNTLID,
	};
	struct nvme_subsys_config cfg;
	struct subsystem *s;
	int err = -ENOMEM;

	if (!rpc_decode(req, params, create_table, ARRAY_SIZE(create_table), &p,
			0))
		return;
	if (!p.max_namespaces) /* SPDK's way to say "the default" */
		p.max_namespaces = DEFAULT_NAMESPACES;
	if (!check_create(req, &p))
		return;
	s = subsystem_new(&p);
	if (s && s->nqn && s->serial && s->model &&
	    (s->admin_label || !p.admin_label)) {
		cfg = (struct nvme_subsys_config){
			.nqn = s->nqn,
			.serial = s->serial,
			.model = s->model,
			.max_namespaces = s->max_namespaces,
			.min_cntlid = s->min_cntlid,
			.max_cntlid = s->max_cntlid,
			.enable_nssr = s->enable_nssr,
		};
		err = nvme_subsys_create(&cfg, &s->core);
	}
	if (err) {
		if (s)
			subsystem_undo(s);
		rpc_errno(req, err, "cannot create subsystem '%.223s'", p.nqn);
		return;
	}
	list_push_back(&subsystems, &s->node);
	rpc_result(req, json_true());
}

/* ---- the members nqn and tgt_name, alone or with more ---- */

struct nqn_params {
	const char *nqn, *tgt_name;
	uint32_t nsid;
	const char *host;
	bool allow_any_host;
	bool secret_seen; /* first of RPC_IGNORE's, at an offset > 0 */
};

static const struct rpc_param nqn_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

static void
deleted(void *arg)
{
	rpc_result(arg, json_true());
}

static void
rpc_delete_subsystem(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;

	if (!rpc_decode(req, params, nqn_table, ARRAY_SIZE(nqn_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (s)
		subsystem_delete(s, deleted, req);
}

/* ---- namespaces ---- */

struct ns_params {
	const char *bdev_name, *nguid, *eui64, *ptpl_file;
	uint32_t nsid, anagrpid;
	uuid_t uuid;
	bool uuid_seen, no_auto_visible;
};

static const struct rpc_param ns_table[] = {
	PARAM_REQ(struct ns_params, bdev_name, RPC_STRING),
	PARAM(struct ns_params, nsid, RPC_U32),
	PARAM(struct ns_params, nguid, RPC_STRING),
	PARAM(struct ns_params, eui64, RPC_STRING),
	PARAM_SEEN(struct ns_params, uuid, RPC_UUID),
	PARAM(struct ns_params, ptpl_file, RPC_STRING),
	PARAM(struct ns_params, anagrpid, RPC_U32),
	PARAM(struct ns_params, no_auto_visible, RPC_BOOL),
	PARAM_IGNORE("hide_metadata"), /* no bdev has metadata to hide */
};

struct add_ns_params {
	const char *nqn, *tgt_name;
	json_t *ns;
};

static const struct rpc_param add_ns_table[] = {
	PARAM_REQ(struct add_ns_params, nqn, RPC_STRING),
	PARAM(struct add_ns_params, tgt_name, RPC_STRING),
	{ "namespace", RPC_OBJECT, offsetof(struct add_ns_params, ns), true,
	  0 },
};

/* A namespace that comes or goes. */
struct ns_job {
	struct nvme_op op;
	struct subsystem *s;
	struct rpc_req *req;
	bool add;
};

static void
ns_job_answer(struct ns_job *job, int err)
{
	struct rpc_req *req = job->req;
	const char *why = job->op.error[0] ? job->op.error : strerror(-err);

	if (!err)
		rpc_result(req,
			   job->add ? json_integer(job->op.nsid) : json_true());
	else if (err == -ENODEV)
		bad_params(req, "No such device: %s", why);
	else if (err == -ENOSPC)
		bad_params(req, "No space left: %s", why);
	else
		bad_params(req, "%s", why);
}

static void
ns_job_done(struct nvme_op *op, int err)
{
	struct ns_job *job = container_of(op, struct ns_job, op);
	struct subsystem *s = job->s;

	ns_job_answer(job, err);
	free(job);
	s->ops--;
	subsystem_step(s);
}

static struct ns_job *
ns_job_new(struct rpc_req *req, struct subsystem *s, bool add)
{
	struct ns_job *job = calloc(1, sizeof(*job));

	if (!job) {
		rpc_errno(req, -ENOMEM, NULL);
		return NULL;
	}
	job->op.done = ns_job_done;
	job->s = s;
	job->req = req;
	job->add = add;
	s->ops++;
	return job;
}

static bool
ns_config(struct rpc_req *req, const struct ns_params *p,
	  struct nvme_ns_config *cfg)
{
	cfg->bdev_name = p->bdev_name;
	cfg->nsid = p->nsid;
	cfg->has_uuid = p->uuid_seen;
	uuid_copy(cfg->uuid, p->uuid);
	/* 0 is the lowest free one, as if left out: clients in Go send it */
	if (p->nsid > NVME_MAX_NS) {
		bad_params(req, "'nsid' %u is out of range: 1 to %d", p->nsid,
			   NVME_MAX_NS);
		return false;
	}
	if (p->nguid && !parse_hex(p->nguid, cfg->nguid, sizeof(cfg->nguid))) {
		bad_params(req, "'nguid' '%.64s' must be 32 hexadecimal digits",
			   p->nguid);
		return false;
	}
	if (p->eui64 && !parse_hex(p->eui64, cfg->eui64, sizeof(cfg->eui64))) {
		bad_params(req, "'eui64' '%.64s' must be 16 hexadecimal digits",
			   p->eui64);
		return false;
	}
	cfg->has_nguid = p->nguid != NULL;
	cfg->has_eui64 = p->eui64 != NULL;
	if (p->ptpl_file || p->no_auto_visible || p->anagrpid) {
		bad_params(req, "'%s' is not supported: leave it out",
			   p->ptpl_file		? "ptpl_file"
			   : p->no_auto_visible ? "no_auto_visible"
						: "anagrpid");
		return false;
	}
	return true;
}

static void
rpc_add_ns(struct rpc_req *req, const json_t *params)
{
	struct nvme_ns_config cfg = { 0 };
	struct add_ns_params p = { 0 };
	struct ns_params ns = { 0 };
	struct subsystem *s;
	struct ns_job *job;
	int err;

	/* the namespace itself is decoded strictly: a mistyped nsid shall not be another one */
	if (!rpc_decode(req, params, add_ns_table, ARRAY_SIZE(add_ns_table), &p,
			RPC_RELAXED) ||
	    !rpc_decode(req, p.ns, ns_table, ARRAY_SIZE(ns_table), &ns, 0) ||
	    !ns_config(req, &ns, &cfg))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	if (cfg.nsid > s->max_namespaces) {
		bad_params(
			req,
			"'nsid' %u is over 'max_namespaces' %u of the subsystem",
			cfg.nsid, s->max_namespaces);
		return;
	}
	job = ns_job_new(req, s, true);
	if (!job)
		return;
	err = nvme_subsys_add_ns(s->core, &cfg, &job->op);
	if (err != -EINPROGRESS)
		ns_job_done(&job->op, err);
}

static const struct rpc_param remove_ns_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM_REQ(struct nqn_params, nsid, RPC_U32),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

static void
rpc_remove_ns(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;
	struct ns_job *job;
	int err;

	if (!rpc_decode(req, params, remove_ns_table,
			ARRAY_SIZE(remove_ns_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	job = s ? ns_job_new(req, s, false) : NULL;
	if (!job)
		return;
	err = nvme_subsys_remove_ns(s->core, p.nsid, &job->op);
	if (err == -ENOENT)
		snprintf(job->op.error, sizeof(job->op.error),
			 "'nsid' %u: there is no such namespace", p.nsid);
	if (err != -EINPROGRESS)
		ns_job_done(&job->op, err);
}

/* ---- hosts ---- */

static const struct rpc_param any_host_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM_REQ(struct nqn_params, allow_any_host, RPC_BOOL),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
};

static void
rpc_allow_any_host(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;

	if (!rpc_decode(req, params, any_host_table, ARRAY_SIZE(any_host_table),
			&p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	s->allow_any_host = p.allow_any_host;
	subsystem_admit(s);
	rpc_result(req, json_true());
}

static struct host *
host_find(struct subsystem *s, const char *nqn)
{
	struct host *h;

	list_for_each(h, &s->hosts, node)
		if (!strcmp(h->nqn, nqn))
			return h;
	return NULL;
}

#define PARAM_SECRET(name)                                       \
	{                                                        \
		name, RPC_IGNORE, 0, false,                      \
			offsetof(struct nqn_params, secret_seen) \
	}

static const struct rpc_param add_host_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM_REQ(struct nqn_params, host, RPC_STRING),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
	PARAM_SECRET("psk"),
	PARAM_SECRET("dhchap_key"),
	PARAM_SECRET("dhchap_ctrlr_key"),
};

static void
rpc_add_host(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;
	char why[128];
	struct host *h;

	if (!rpc_decode(req, params, add_host_table, ARRAY_SIZE(add_host_table),
			&p, RPC_RELAXED))
		return;
	if (p.secret_seen) {
		/* to ignore it would leave the operator believing in it */
		bad_params(
			req,
			"'psk', 'dhchap_key', 'dhchap_ctrlr_key' are not supported on a local socket");
		return;
	}
	if (nqn_check(p.host, why, sizeof(why))) {
		bad_params(req, "'host' %.223s: %s", p.host, why);
		return;
	}
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	if (host_find(s, p.host)) {
		bad_params(req, "'host' %.223s is allowed already", p.host);
		return;
	}
	h = calloc(1, sizeof(*h) + strlen(p.host) + 1);
	if (!h) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	strcpy(h->nqn, p.host);
	list_push_back(&s->hosts, &h->node);
	subsystem_admit(s);
	rpc_result(req, json_true());
}

static const struct rpc_param remove_host_table[] = {
	PARAM_REQ(struct nqn_params, nqn, RPC_STRING),
	PARAM_REQ(struct nqn_params, host, RPC_STRING),
	PARAM(struct nqn_params, tgt_name, RPC_STRING),
	PARAM_IGNORE("timeout_ms"), /* clients are thrown out at once */
};

static void
rpc_remove_host(struct rpc_req *req, const json_t *params)
{
	struct nqn_params p = { 0 };
	struct subsystem *s;
	struct host *h;

	if (!rpc_decode(req, params, remove_host_table,
			ARRAY_SIZE(remove_host_table), &p, 0))
		return;
	s = subsystem_for(req, p.nqn, p.tgt_name);
	if (!s)
		return;
	h = host_find(s, p.host);
	if (!h) {
		bad_params(req, "'host' %.223s is not in the list", p.host);
		return;
	}
	list_remove(&h->node);
	free(h);
	subsystem_admit(s);
	rpc_result(req, json_true());
}

static const struct rpc_method methods[] = {
	{ "nvmf_create_subsystem", rpc_create_subsystem, RPC_RUNTIME },
	{ "nvmf_delete_subsystem", rpc_delete_subsystem, RPC_RUNTIME },
	{ "nvmf_subsystem_add_ns", rpc_add_ns, RPC_RUNTIME },
	{ "nvmf_subsystem_remove_ns", rpc_remove_ns, RPC_RUNTIME },
	{ "nvmf_subsystem_allow_any_host", rpc_allow_any_host, RPC_RUNTIME },
	{ "nvmf_subsystem_add_host", rpc_add_host, RPC_RUNTIME },
	{ "nvmf_subsystem_remove_host", rpc_remove_host, RPC_RUNTIME },
};

void
rpc_nvme_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
