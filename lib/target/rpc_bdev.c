/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: create, change and delete block devices. Not for what one is like: rpc_bdev_info.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MAX_NAME 255

/* A request that waits for the bdev layer. */
struct bdev_job {
	struct bdev_ctl ctl;
	struct rpc_req *req;
	bool create; /* the result is a name */
};

static void
bdev_job_done(struct bdev_ctl *ctl, int err)
{
	struct bdev_job *job = container_of(ctl, struct bdev_job, ctl);
	struct bdev_info info;

	if (err) {
		rpc_errno(job->req, err, ctl->error[0] ? "%s" : NULL,
			  ctl->error);
	} else if (job->create) {
		bdev_info_of(ctl->bdev, &info);
		rpc_result(job->req, json_string(info.name));
	} else {
		rpc_result(job->req, json_true());
	}
	free(job);
}

static struct bdev_job *
bdev_job_new(struct rpc_req *req, bool create)
{
	struct bdev_job *job = calloc(1, sizeof(*job));

	if (!job) {
		rpc_errno(req, -ENOMEM, NULL);
		return NULL;
	}
	job->ctl.done = bdev_job_done;
	job->req = req;
	job->create = create;
	return job;
}

static void
bdev_job_started(struct bdev_job *job, int err)
{
	if (err != -EINPROGRESS)
		bdev_job_done(&job->ctl, err);
}

/* ---- create: aio and uring ---- */

struct create_params {
	const char *name, *filename, *base_name, *base_bdev_name;
	uint32_t block_size, physical_block_size, md_size, dif_type,
		optimal_io_boundary, optimal_write_size,
		preferred_write_granularity, preferred_write_alignment,
		preferred_unmap_granularity, preferred_unmap_alignment;
	uint64_t num_blocks;
	uint64_t avg_read_latency, p99_read_latency, avg_write_latency,
		p99_write_latency;
	int32_t numa_id;
	bool readonly, fallocate, nowait, uuid_seen;
	uuid_t uuid;
};
#define P(field, type) PARAM(struct create_params, field, type)
#define P_REQ(field, type) PARAM_REQ(struct create_params, field, type)
#define P_UUID PARAM_SEEN(struct create_params, uuid, RPC_UUID)

static const struct rpc_param aio_table[] = {
	P_REQ(name, RPC_STRING),
	P_REQ(filename, RPC_STRING),
	P(block_size, RPC_U32),
	P(readonly, RPC_BOOL),
	P(fallocate, RPC_BOOL),
	P(nowait, RPC_BOOL),
	P_UUID,
};

static const struct rpc_param uring_table[] = {
	P_REQ(name, RPC_STRING),
	P_REQ(filename, RPC_STRING),
	P(block_size, RPC_U32),
	P(readonly, RPC_BOOL),
	P_UUID,
};

/* Names stand in logs, tables and files. */
static bool
name_ok(struct rpc_req *req, const char *name)
{
	size_t len = strlen(name), i;

	for (i = 0; i < len; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			break;
	if (len && len <= MAX_NAME && i == len)
		return true;
	bad_params(
		req,
		"'name' must have 1 to %d bytes, none of them a control character",
		MAX_NAME);
	return false;
}

/* Tables that lack one of these leave it 0. */
static bool
create_ok(struct rpc_req *req, const struct create_params *p)
{
	const struct {
		const char *name;
		uint32_t value;
	} none[] = {
		{ "md_size", p->md_size },
		{ "dif_type", p->dif_type },
		{ "optimal_io_boundary", p->optimal_io_boundary },
		{ "optimal_write_size", p->optimal_write_size },
		{ "preferred_write_granularity",
		  p->preferred_write_granularity },
		{ "preferred_write_alignment", p->preferred_write_alignment },
		{ "preferred_unmap_granularity",
		  p->preferred_unmap_granularity },
		{ "preferred_unmap_alignment", p->preferred_unmap_alignment },
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(none); i++) {
		if (!none[i].value)
			continue;
		bad_params(req, "'%s' is not supported: leave it out",
			   none[i].name);
		return false;
	}
	return !p->name || name_ok(req, p->name);
}

/* NULL: an error has been sent. */
static struct bdev_job *
create_job(struct rpc_req *req, const json_t *params,
	   const struct rpc_param *table, size_t n, struct create_params *p)
{
	*p = (struct create_params){ .numa_id = -1 };
	if (!rpc_decode(req, params, table, n, p, 0) || !create_ok(req, p))
		return NULL;
	return bdev_job_new(req, true);
}
#define CREATE_JOB(table, p) \
	create_job(req, params, table, ARRAY_SIZE(table), p)

static const uuid_t *
uuid_given(const struct create_params *p)
{
	return p->uuid_seen ? &p->uuid : NULL;
}

static struct bdev_file_params
file_params(const struct create_params *p)
{
	return (struct bdev_file_params){ .name = p->name,
					  .filename = p->filename,
					  .block_len = p->block_size,
					  .read_only = p->readonly,
					  .fallocate = p->fallocate,
					  .nowait = p->nowait,
					  .uuid = uuid_given(p) };
}

static void
rpc_aio_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(aio_table, &p);
	struct bdev_file_params file = file_params(&p);

	if (job)
		bdev_job_started(job, bdev_aio_create(&file, &job->ctl));
}

static void
rpc_uring_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(uring_table, &p);
	struct bdev_file_params file = file_params(&p);

	if (job)
		bdev_job_started(job, bdev_uring_create(&file, &job->ctl));
}

/* ---- create: null and malloc ---- */

/* where md_size is 0, these say nothing */
#define P_OF_METADATA                                                 \
	PARAM_IGNORE("md_interleave"), PARAM_IGNORE("dif_pi_format"), \
		PARAM_IGNORE("dif_is_head_of_md")

static const struct rpc_param null_table[] = {
	P_REQ(name, RPC_STRING),
	P_REQ(block_size, RPC_U32),
	P_REQ(num_blocks, RPC_U64),
	P_UUID,
	P(physical_block_size, RPC_U32),
	P(md_size, RPC_U32),
	P(dif_type, RPC_U32),
	P(preferred_write_granularity, RPC_U32),
	P(preferred_write_alignment, RPC_U32),
	P(optimal_write_size, RPC_U32),
	P(preferred_unmap_granularity, RPC_U32),
	P(preferred_unmap_alignment, RPC_U32),
	P_OF_METADATA,
};

static const struct rpc_param malloc_table[] = {
	P(name, RPC_STRING),
	P_REQ(block_size, RPC_U32),
	P_REQ(num_blocks, RPC_U64),
	P_UUID,
	P(physical_block_size, RPC_U32),
	P(md_size, RPC_U32),
	P(dif_type, RPC_U32),
	P(numa_id, RPC_I32),
	P(optimal_io_boundary, RPC_U32),
	P_OF_METADATA,
};

static void
rpc_null_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(null_table, &p);
	struct bdev_null_params null = { .name = p.name,
					 .block_len = p.block_size,
					 .num_blocks = p.num_blocks,
					 .uuid = uuid_given(&p),
					 .phys_block_len =
						 p.physical_block_size };

	if (job)
		bdev_job_started(job, bdev_null_create(&null, &job->ctl));
}

static void
rpc_malloc_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(malloc_table, &p);
	struct bdev_malloc_params mem = { .name = p.name,
					  .block_len = p.block_size,
					  .num_blocks = p.num_blocks,
					  .uuid = uuid_given(&p),
					  .phys_block_len =
						  p.physical_block_size,
					  .numa = p.numa_id };

	if (job)
		bdev_job_started(job, bdev_malloc_create(&mem, &job->ctl));
}

/* ---- create: those that stand on another ---- */

static const struct rpc_param delay_table[] = {
	P_REQ(name, RPC_STRING),
	P_REQ(base_bdev_name, RPC_STRING),
	P_REQ(avg_read_latency, RPC_U64),
	P_REQ(p99_read_latency, RPC_U64),
	P_REQ(avg_write_latency, RPC_U64),
	P_REQ(p99_write_latency, RPC_U64),
	P_UUID,
};

static void
rpc_delay_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(delay_table, &p);
	struct bdev_delay_params delay = { .name = p.name,
					   .base = p.base_bdev_name,
					   .avg_read_us = p.avg_read_latency,
					   .p99_read_us = p.p99_read_latency,
					   .avg_write_us = p.avg_write_latency,
					   .p99_write_us = p.p99_write_latency,
					   .uuid = uuid_given(&p) };

	if (job)
		bdev_job_started(job, bdev_delay_create(&delay, &job->ctl));
}

static const struct rpc_param error_table[] = {
	P_REQ(base_name, RPC_STRING),
	P_UUID,
};

static void
rpc_error_create(struct rpc_req *req, const json_t *params)
{
	struct create_params p;
	struct bdev_job *job = CREATE_JOB(error_table, &p);
	struct bdev_error_params error = { .base = p.base_name,
					   .uuid = uuid_given(&p) };

	if (job)
		bdev_job_started(job, bdev_error_create(&error, &job->ctl));
}

struct inject_params {
	const char *name, *io_type, *error_type;
	uint32_t num;
	uint64_t corrupt_offset;
	uint8_t corrupt_value;
	uint32_t queue_depth, nvme_sct, nvme_sc;
	bool queue_depth_seen, nvme_sct_seen, nvme_sc_seen;
};

static const struct rpc_param inject_table[] = {
	PARAM_REQ(struct inject_params, name, RPC_STRING),
	PARAM_REQ(struct inject_params, io_type, RPC_STRING),
	PARAM_REQ(struct inject_params, error_type, RPC_STRING),
	PARAM(struct inject_params, num, RPC_U32),
	PARAM(struct inject_params, corrupt_offset, RPC_U64),
	PARAM(struct inject_params, corrupt_value, RPC_U8),
	PARAM_SEEN(struct inject_params, queue_depth, RPC_U32),
	PARAM_SEEN(struct inject_params, nvme_sct, RPC_U32),
	PARAM_SEEN(struct inject_params, nvme_sc, RPC_U32),
};

static bool
inject_io_type(struct rpc_req *req, const char *s,
	       struct bdev_error_inject *inj)
{
	bool all = !strcmp(s, "all");

	if (!strcmp(s, "clear")) {
		inj->type = BDEV_INJECT_CLEAR;
		inj->read = inj->write = inj->flush = inj->unmap = true;
		return true;
	}
	inj->read = all || !strcmp(s, "read");
	inj->write = all || !strcmp(s, "write");
	inj->flush = all || !strcmp(s, "flush");
	inj->unmap = all || !strcmp(s, "unmap");
	if (inj->read || inj->write || inj->flush || inj->unmap)
		return true;
	bad_params(
		req,
		"'io_type' '%.64s' is none of clear, read, write, unmap, flush, all",
		s);
	return false;
}

static bool
inject_error_type(struct rpc_req *req, const char *s,
		  struct bdev_error_inject *inj)
{
	bool clear = inj->type == BDEV_INJECT_CLEAR;

	if (!strcmp(s, "failure"))
		inj->type = BDEV_INJECT_FAILURE;
	else if (!strcmp(s, "pending"))
		inj->type = BDEV_INJECT_PENDING;
	else if (!strcmp(s, "corrupt_data"))
		inj->type = BDEV_INJECT_CORRUPT;
	else if (!strcmp(s, "nomem"))
		inj->type = BDEV_INJECT_NOMEM;
	else {
		bad_params(
			req,
			"'error_type' '%.64s' is none of failure, pending, corrupt_data, nomem",
			s);
		return false;
	}
	if (clear)
		inj->type = BDEV_INJECT_CLEAR;
	return true;
}

static void
rpc_error_inject(struct rpc_req *req, const json_t *params)
{
	struct inject_params p = { .num = 1 };
	struct bdev_error_inject inj = { .type = BDEV_INJECT_FAILURE };
	struct bdev_job *job;
	const char *name;

	if (!rpc_decode(req, params, inject_table, ARRAY_SIZE(inject_table), &p,
			0) ||
	    !inject_io_type(req, p.io_type, &inj) ||
	    !inject_error_type(req, p.error_type, &inj))
		return;
	name = p.queue_depth_seen ? "queue_depth"
	       : p.nvme_sct_seen  ? "nvme_sct"
	       : p.nvme_sc_seen	  ? "nvme_sc"
				  : NULL;
	if (name) {
		bad_params(req, "'%s' is not supported: leave it out", name);
		return;
	}
	inj.num = p.num;
	inj.corrupt_offset = p.corrupt_offset;
	inj.corrupt_value = p.corrupt_value;
	job = bdev_job_new(req, false);
	if (job)
		bdev_job_started(job,
				 bdev_error_inject(p.name, &inj, &job->ctl));
}

/* ---- by name ---- */

static const struct rpc_param name_table[] = {
	P_REQ(name, RPC_STRING),
};

static void rpc_delete(struct rpc_req *req, const json_t *params);

/* Each deletes devices of its module only. */
#define DELETER(module)                                                       \
	{                                                                     \
		{ "bdev_" module "_delete", rpc_delete, RPC_RUNTIME }, module \
	}
static const struct deleter {
	struct rpc_method method;
	const char *module;
} deleters[] = { DELETER("aio"),    DELETER("uring"), DELETER("null"),
		 DELETER("malloc"), DELETER("delay"), DELETER("error") };

static void
rpc_delete(struct rpc_req *req, const json_t *params)
{
	const struct deleter *d =
		container_of(rpc_req_method(req), struct deleter, method);
	struct create_params p = { 0 };
	struct bdev_job *job;

	if (!rpc_decode(req, params, name_table, ARRAY_SIZE(name_table), &p, 0))
		return;
	job = bdev_job_new(req, false);
	if (job)
		bdev_job_started(job,
				 bdev_delete(p.name, d->module, &job->ctl));
}

static void
rescan(struct rpc_req *req, const json_t *params,
       int (*fn)(const char *name, struct bdev_ctl *ctl))
{
	struct create_params p = { 0 };
	struct bdev_job *job;

	if (!rpc_decode(req, params, name_table, ARRAY_SIZE(name_table), &p, 0))
		return;
	job = bdev_job_new(req, false);
	if (job)
		bdev_job_started(job, fn(p.name, &job->ctl));
}

static void
rpc_aio_rescan(struct rpc_req *req, const json_t *params)
{
	rescan(req, params, bdev_aio_rescan);
}

static void
rpc_uring_rescan(struct rpc_req *req, const json_t *params)
{
	rescan(req, params, bdev_uring_rescan);
}

struct resize_params {
	const char *name;
	uint64_t new_size;
};

static const struct rpc_param resize_table[] = {
	PARAM_REQ(struct resize_params, name, RPC_STRING),
	PARAM_REQ(struct resize_params, new_size, RPC_U64),
};

static void
rpc_null_resize(struct rpc_req *req, const json_t *params)
{
	struct resize_params p = { 0 };
	struct bdev_job *job;

	if (!rpc_decode(req, params, resize_table, ARRAY_SIZE(resize_table), &p,
			0))
		return;
	job = bdev_job_new(req, false);
	if (job)
		bdev_job_started(job, bdev_null_resize(p.name, p.new_size,
						       &job->ctl));
}

/* ---- limits ---- */

struct qos_params {
	const char *name;
	uint64_t limits[BDEV_LIMITS];
	bool seen[BDEV_LIMITS];
};

static void
qos_params_table(struct rpc_param table[1 + BDEV_LIMITS])
{
	table[0] = (struct rpc_param)PARAM_REQ(struct qos_params, name,
					       RPC_STRING);
	for (unsigned i = 0; i < BDEV_LIMITS; i++)
		table[1 + i] = (struct rpc_param){
			bdev_limit_names[i],
			RPC_U64,
			offsetof(struct qos_params, limits[0]) +
				i * sizeof(uint64_t),
			false,
			offsetof(struct qos_params, seen[0]) + i,
		};
}

/* What is left out stays. False: nothing was given, an error has been sent. */
static bool
qos_merge(struct rpc_req *req, const struct qos_params *p,
	  uint64_t limits[BDEV_LIMITS])
{
	char names[128];
	size_t at = 0;
	bool any = false;

	for (unsigned i = 0; i < BDEV_LIMITS; i++) {
		if (p->seen[i])
			limits[i] = p->limits[i];
		any = any || p->seen[i];
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s",
				       i ? ", " : "", bdev_limit_names[i]);
	}
	if (!any)
		bad_params(req, "at least one of %s is needed; 0 lifts a limit",
			   names);
	return any;
}

static void
rpc_set_qos_limit(struct rpc_req *req, const json_t *params)
{
	struct rpc_param table[1 + BDEV_LIMITS];
	uint64_t limits[BDEV_LIMITS] = { 0 };
	struct qos_params p = { 0 };
	struct bdev_job *job;
	struct bdev *b;

	qos_params_table(table);
	if (!rpc_decode(req, params, table, ARRAY_SIZE(table), &p, 0))
		return;
	b = bdev_find(p.name);
	if (b)
		bdev_get_limits(b, limits);
	if (!qos_merge(req, &p, limits))
		return;
	job = bdev_job_new(req, false);
	if (job)
		bdev_job_started(job,
				 bdev_set_limits(p.name, limits, &job->ctl));
}

static const struct rpc_method methods[] = {
	{ "bdev_aio_create", rpc_aio_create, RPC_RUNTIME },
	{ "bdev_aio_rescan", rpc_aio_rescan, RPC_RUNTIME },
	{ "bdev_uring_create", rpc_uring_create, RPC_RUNTIME },
	{ "bdev_uring_rescan", rpc_uring_rescan, RPC_RUNTIME },
	{ "bdev_null_create", rpc_null_create, RPC_RUNTIME },
	{ "bdev_null_resize", rpc_null_resize, RPC_RUNTIME },
	{ "bdev_malloc_create", rpc_malloc_create, RPC_RUNTIME },
	{ "bdev_delay_create", rpc_delay_create, RPC_RUNTIME },
	{ "bdev_error_create", rpc_error_create, RPC_RUNTIME },
	{ "bdev_error_inject_error", rpc_error_inject, RPC_RUNTIME },
	{ "bdev_set_qos_limit", rpc_set_qos_limit, RPC_RUNTIME },
};

void
rpc_bdev_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
	for (unsigned i = 0; i < ARRAY_SIZE(deleters); i++)
		rpc_register(&deleters[i].method, 1);
}
