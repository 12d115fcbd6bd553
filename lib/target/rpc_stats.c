/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: what the reactors and the controllers on them do. Not for bdevs: rpc_bdev_info.c. Ticks are nanoseconds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

/* ---- framework_get_reactors ---- */

static json_t *
reactor_json(struct reactor *r)
{
	struct reactor_stats s;
	char name[32], mask[24];

	reactor_get_stats(r, &s);
	thread_name(r, name, sizeof(name));
	cpumask(r, mask, sizeof(mask));
	return json_pack(
		"{s:i, s:I, s:I, s:b, s:I, s:I, s:i, s:[{s:s, s:i, s:s, s:I}]}",
		"lcore", (int)reactor_core(r), "busy", (json_int_t)s.busy_ns,
		"idle", (json_int_t)s.idle_ns, "in_interrupt",
		reactor_idle_policy() == REACTOR_IDLE_ADAPTIVE, "sleeps",
		(json_int_t)s.sleeps, "rounds", (json_int_t)s.rounds, "numa_id",
		reactor_node(r), "lw_threads", "name", name, "id",
		(int)reactor_index(r) + 1, "cpumask", mask, "elapsed",
		(json_int_t)(s.busy_ns + s.idle_ns));
}

static void
rpc_get_reactors(struct rpc_req *req, const json_t *params)
{
	json_t *reactors;
	unsigned i;

	if (!no_params(req, params))
		return;
	reactors = json_array();
	for (i = 0; i < reactor_count(); i++)
		json_array_append_new(reactors, reactor_json(reactor_get(i)));
	rpc_result(req, json_pack("{s:I, s:i, s:o}", "tick_rate",
				  (json_int_t)TICK_RATE, "pid", (int)getpid(),
				  "reactors", reactors));
}

/* ---- thread_get_stats; what others have in common with it: counted where it runs ---- */

struct stats_job {
	struct fanout f;
	struct rpc_req *req;
	const char *name; /* of the array in the answer */
	json_t *list;	  /* one entry a reactor */
};

static void
stats_done(struct fanout *f)
{
	struct stats_job *job = container_of(f, struct stats_job, f);

	rpc_result(job->req,
		   json_pack("{s:I, s:o}", "tick_rate", (json_int_t)TICK_RATE,
			     job->name, job->list));
	free(job);
}

static void
stats_run(struct rpc_req *req, const char *name,
	  void (*visit)(struct fanout *f))
{
	struct stats_job *job = calloc(1, sizeof(*job));

	if (!job) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	job->req = req;
	job->name = name;
	job->list = json_array();
	job->f.fn = visit;
	job->f.done = stats_done;
	fanout_run(&job->f);
}

static void
count_poller(const struct reactor_poller *p, void *arg)
{
	(*(unsigned *)arg)++;
}

static void
threads_visit(struct fanout *f)
{
	struct stats_job *job = container_of(f, struct stats_job, f);
	struct reactor *r = reactor_self();
	struct reactor_stats s;
	unsigned pollers = 0;
	char name[32], mask[24];

	reactor_for_each_poller(r, count_poller, &pollers);
	reactor_get_stats(r, &s);
	thread_name(r, name, sizeof(name));
	cpumask(r, mask, sizeof(mask));
	json_array_append_new(
		job->list,
		json_pack("{s:s, s:i, s:s, s:I, s:I, s:i, s:i, s:i}", "name",
			  name, "id", (int)reactor_index(r) + 1, "cpumask",
			  mask, "busy", (json_int_t)s.busy_ns, "idle",
			  (json_int_t)s.idle_ns, "active_pollers_count",
			  (int)pollers, "timed_pollers_count", 0,
			  "paused_pollers_count", 0));
}

static void
rpc_thread_get_stats(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		stats_run(req, "threads", threads_visit);
}

/* ---- thread_get_pollers ---- */

struct pollers_visit {
	json_t *list;
	uint64_t rounds; /* of the reactor so far: each has all its pollers run */
	unsigned id;
};

static void
append_poller(const struct reactor_poller *p, void *arg)
{
	struct pollers_visit *v = arg;

	json_array_append_new(
		v->list,
		json_pack("{s:s, s:i, s:s, s:I, s:I}", "name", p->name, "id",
			  (int)++v->id, "state", "waiting", "run_count",
			  (json_int_t)(v->rounds - p->first_round),
			  "busy_count", (json_int_t)p->busy_count));
}

static void
pollers_visit(struct fanout *f)
{
	struct stats_job *job = container_of(f, struct stats_job, f);
	struct pollers_visit v = { .list = json_array() };
	struct reactor *r = reactor_self();
	struct reactor_stats s;
	char name[32];

	reactor_get_stats(r, &s);
	v.rounds = s.rounds;
	reactor_for_each_poller(r, append_poller, &v);
	thread_name(r, name, sizeof(name));
	json_array_append_new(job->list,
			      json_pack("{s:s, s:i, s:o, s:[], s:[]}", "name",
					name, "id", (int)reactor_index(r) + 1,
					"active_pollers", v.list,
					"timed_pollers", "paused_pollers"));
}

static void
rpc_thread_get_pollers(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		stats_run(req, "threads", pollers_visit);
}

/* ---- framework_get_scheduler ---- */

/* Static is SPDK's word for what we do: what is placed stays there, and nothing is looked at by time. */
static void
rpc_get_scheduler(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_result(req, json_pack("{s:s, s:i}", "scheduler_name",
					  "static", "scheduler_period", 0));
}

/* ---- nvmf_get_stats ---- */

static json_t *
group_json(struct reactor *r)
{
	struct nvme_core_stats s = { 0 };
	uint64_t io;
	json_t *transports = json_array();
	char name[32];

	nvme_core_get_stats(r, &s);
	io = s.commands - MIN(s.commands, s.admin_commands);
	thread_name(r, name, sizeof(name));
	if (transport.created)
		json_array_append_new(
			transports,
			json_pack("{s:s, s:I, s:I, s:I, s:i}", "trtype", TRTYPE,
				  "polls", (json_int_t)s.polls,
				  "polls_spurious",
				  (json_int_t)s.polls_spurious, "ctrlr_intr",
				  (json_int_t)s.irqs, "numa_id",
				  reactor_node(r)));
	/* each controller has one admin queue while it is enabled; the count of controllers is what we have */
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
			 "name", name, "admin_qpairs",
			 (json_int_t)s.admin_queues_total, "io_qpairs",
			 (json_int_t)s.io_queues_total, "current_admin_qpairs",
			 (json_int_t)s.ctrls, "current_io_qpairs",
			 (json_int_t)s.io_queues, "pending_bdev_io",
			 (json_int_t)s.pending_io, "completed_nvme_io",
			 (json_int_t)io, "completed_nvme_admin",
			 (json_int_t)s.admin_commands, "transports",
			 transports);
}

static void
groups_visit(struct fanout *f)
{
	struct stats_job *job = container_of(f, struct stats_job, f);

	json_array_append_new(job->list, group_json(reactor_self()));
}

struct stats_params {
	const char *tgt_name;
};

static const struct rpc_param stats_table[] = {
	PARAM(struct stats_params, tgt_name, RPC_STRING),
};

static void
rpc_nvmf_get_stats(struct rpc_req *req, const json_t *params)
{
	struct stats_params p = { 0 };

	if (rpc_decode(req, params, stats_table, ARRAY_SIZE(stats_table), &p,
		       0) &&
	    target_name_ok(req, p.tgt_name))
		stats_run(req, "poll_groups", groups_visit);
}

static const struct rpc_method methods[] = {
	{ "framework_get_reactors", rpc_get_reactors,
	  RPC_STARTUP | RPC_RUNTIME },
	{ "framework_get_scheduler", rpc_get_scheduler, RPC_RUNTIME },
	{ "thread_get_stats", rpc_thread_get_stats, RPC_STARTUP | RPC_RUNTIME },
	{ "thread_get_pollers", rpc_thread_get_pollers, RPC_RUNTIME },
	{ "nvmf_get_stats", rpc_nvmf_get_stats, RPC_RUNTIME },
};

void
rpc_stats_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
