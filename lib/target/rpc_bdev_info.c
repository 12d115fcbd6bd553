/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: what the block devices are and did; the bdev part of a saved configuration. Changes nothing but counters.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define WAIT_STEP_NS 10000000ull

static json_t *
io_types_json(const struct bdev_info *i)
{
	static const char *const never[] = {
		"reset",	   "nvme_admin",
		"nvme_io",	   "nvme_io_md",
		"zcopy",	   "get_zone_info",
		"zone_management", "zone_append",
		"compare",	   "compare_and_write",
		"abort",	   "seek_hole",
		"seek_data",	   "copy",
		"nvme_iov_md"
	};
	json_t *o = json_pack(
		"{s:b, s:b, s:b, s:b, s:b}", "read", 1, "write", !i->read_only,
		"unmap", !i->read_only && (i->caps & BDEV_CAP_DISCARD), "flush",
		(i->caps & BDEV_CAP_FLUSH) != 0, "write_zeroes",
		!i->read_only && (i->caps & BDEV_CAP_WRITE_ZEROES));
	unsigned n;

	for (n = 0; n < ARRAY_SIZE(never); n++)
		json_object_set_new(o, never[n], json_false());
	return o;
}

static json_t *
driver_json(const struct bdev *b)
{
	const struct bdev_file_params *aio = bdev_aio_params_of(b);
	const struct bdev_file_params *uring = bdev_uring_params_of(b);
	const struct bdev_delay_params *delay = bdev_delay_params_of(b);
	const struct bdev_error_params *error = bdev_error_params_of(b);

	if (aio)
		return json_pack("{s:{s:s, s:b, s:b, s:b, s:b}}", "aio",
				 "filename", aio->filename,
				 "block_size_override", aio->block_len != 0,
				 "readonly", aio->read_only, "fallocate",
				 aio->fallocate, "nowait", aio->nowait);
	if (uring)
		return json_pack("{s:{s:s, s:b, s:b}}", "uring", "filename",
				 uring->filename, "block_size_override",
				 uring->block_len != 0, "readonly",
				 uring->read_only);
	if (delay)
		return json_pack(
			"{s:{s:s, s:s, s:I, s:I, s:I, s:I}}", "delay", "name",
			delay->name, "base_bdev_name", delay->base,
			"avg_read_latency", (json_int_t)delay->avg_read_us,
			"p99_read_latency", (json_int_t)delay->p99_read_us,
			"avg_write_latency", (json_int_t)delay->avg_write_us,
			"p99_write_latency", (json_int_t)delay->p99_write_us);
	if (error)
		return json_pack("{s:{s:s}}", "error", "base_bdev_name",
				 error->base);
	return json_object();
}

/* @none: also those that are not set. */
static json_t *
limits_json(const struct bdev *b, bool none)
{
	uint64_t limits[BDEV_LIMITS];
	json_t *o = json_object();

	bdev_get_limits(b, limits);
	for (unsigned i = 0; i < BDEV_LIMITS; i++)
		if (limits[i] || none)
			json_object_set_new(
				o, bdev_limit_names[i],
				json_integer((json_int_t)limits[i]));
	return o;
}

static json_t *
bdev_json(const struct bdev *b)
{
	const struct bdev_malloc_params *mem = bdev_malloc_params_of(b);
	const char *claim = bdev_claimed_by(b);
	struct bdev_info i;
	json_t *o;

	bdev_info_of(b, &i);
	o = json_pack("{s:s, s:[o], s:s, s:I, s:I, s:o}", "name", i.name,
		      "aliases", uuid_json(i.uuid), "product_name", i.product,
		      "block_size", (json_int_t)i.block_len, "num_blocks",
		      (json_int_t)i.num_blocks, "uuid", uuid_json(i.uuid));
	if (mem && mem->numa >= 0)
		json_object_set_new(o, "numa_id", json_integer(mem->numa));
	json_object_set_new(o, "physical_block_size",
			    json_integer(i.phys_block_len));
	json_object_set_new(o, "assigned_rate_limits", limits_json(b, true));
	json_object_set_new(o, "claimed", json_boolean(claim));
	if (claim) {
		json_object_set_new(o, "claim_type",
				    json_string("exclusive_write"));
		json_object_set_new(o, "claimed_by", json_string(claim));
	}
	json_object_set_new(o, "zoned", json_false());
	json_object_set_new(o, "supported_io_types", io_types_json(&i));
	json_object_set_new(o, "driver_specific", driver_json(b));
	return o;
}

/* ---- bdev_get_bdevs: may wait for a device to come ---- */

struct get_params {
	const char *name;
	uint64_t timeout;
};

static const struct rpc_param get_table[] = {
	PARAM(struct get_params, name, RPC_STRING),
	PARAM(struct get_params, timeout, RPC_U64),
};

struct wait_job {
	struct list node;
	struct reactor_timer timer;
	struct rpc_req *req;
	uint64_t deadline, seen; /* notices up to there say nothing new */
	char name[];
};
static struct list waits = LIST_INIT(waits);

void
no_such_bdev(struct rpc_req *req, const char *name)
{
	rpc_errno(req, -ENODEV, "'name' %.256s: there is no such bdev", name);
}

static void
wait_end(struct wait_job *job, struct bdev *b)
{
	if (b)
		rpc_result(job->req, json_pack("[o]", bdev_json(b)));
	else
		no_such_bdev(job->req, job->name);
	list_remove(&job->node);
	free(job);
}

/* Has a device come, or gone, since the last look? */
static bool
news(struct wait_job *job)
{
	struct bdev_notice n;
	bool any = false;

	for (; bdev_notice_from(job->seen, &n); job->seen = n.id + 1)
		any = true;
	return any;
}

static void
wait_fires(struct reactor_timer *t)
{
	struct wait_job *job = container_of(t, struct wait_job, timer);
	struct bdev *b = news(job) ? bdev_find(job->name) : NULL;

	if (!b && reactor_now() < job->deadline && !rpc_req_gone(job->req) &&
	    !reactor_timer_start(reactor_self(), t, WAIT_STEP_NS))
		return;
	wait_end(job, b);
}

/* The reactors have stopped, and timers with them. */
void
rpc_bdev_info_fini(void)
{
	struct wait_job *job;

	while ((job = list_first(&waits, struct wait_job, node)))
		wait_end(job, NULL);
}

static void
wait_for(struct rpc_req *req, const char *name, uint64_t ms)
{
	struct wait_job *job = calloc(1, sizeof(*job) + strlen(name) + 1);

	if (!job) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	job->req = req;
	job->timer.fire = wait_fires;
	job->deadline = reactor_now() + MIN(ms, UINT32_MAX) * 1000000;
	strcpy(job->name, name);
	list_push_back(&waits, &job->node);
	wait_fires(&job->timer);
}

static void
rpc_get_bdevs(struct rpc_req *req, const json_t *params)
{
	struct get_params p = { 0 };
	struct bdev *b;
	json_t *out;

	if (!rpc_decode(req, params, get_table, ARRAY_SIZE(get_table), &p, 0))
		return;
	if (p.name) {
		wait_for(req, p.name, p.timeout);
		return;
	}
	if (p.timeout) {
		bad_params(req, "'timeout' goes with 'name' only");
		return;
	}
	out = json_array();
	for (b = bdev_first(); b; b = bdev_next(b))
		json_array_append_new(out, bdev_json(b));
	rpc_result(req, out);
}

/* ---- bdev_get_iostat ---- */

struct iostat_params {
	const char *name, *reset_mode, *mode;
	json_t *names;
	bool per_channel;
};

static const struct rpc_param iostat_table[] = {
	PARAM(struct iostat_params, name, RPC_STRING), /* older clients */
	PARAM(struct iostat_params, names, RPC_ARRAY),
	PARAM(struct iostat_params, per_channel, RPC_BOOL),
	PARAM(struct iostat_params, reset_mode, RPC_STRING),
};

static const struct rpc_param reset_table[] = {
	PARAM(struct iostat_params, name, RPC_STRING),
	PARAM(struct iostat_params, mode, RPC_STRING),
};

static bool
reset_mode(struct rpc_req *req, const char *member, const char *s,
	   enum bdev_stats_reset *out)
{
	static const struct {
		const char *name;
		enum bdev_stats_reset mode;
	} modes[] = { { "all", BDEV_RESET_ALL },
		      { "maxmin", BDEV_RESET_MAXMIN },
		      { "error", BDEV_RESET_ERROR },
		      { "none", BDEV_RESET_NONE } };
	unsigned i;

	for (i = 0; s && i < ARRAY_SIZE(modes); i++) {
		if (!strcmp(s, modes[i].name)) {
			*out = modes[i].mode;
			return true;
		}
	}
	if (s)
		bad_params(req,
			   "'%s' '%.64s' is none of all, maxmin, error, none",
			   member, s);
	return !s;
}

static void
set_int(json_t *o, const char *prefix, const char *name, uint64_t v)
{
	char key[64];

	snprintf(key, sizeof(key), "%s%s", prefix, name);
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

static json_t *
stats_json(const struct bdev_stats *s)
{
	static const struct {
		const char *name, *bytes, *ops;
		enum bdev_op op;
	} kinds[] = { { "read", "bytes_read", "num_read_ops", BDEV_READ },
		      { "write", "bytes_written", "num_write_ops", BDEV_WRITE },
		      { "unmap", "bytes_unmapped", "num_unmap_ops",
			BDEV_DISCARD },
		      { "copy", "bytes_copied", "num_copy_ops", BDEV_OPS } };
	static const struct bdev_stats none;
	json_t *o = json_object(), *errors = json_object();
	const struct bdev_stats *from;
	enum bdev_op op;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* no bdev copies */
		from = kinds[i].op == BDEV_OPS ? &none : s;
		op = kinds[i].op == BDEV_OPS ? BDEV_READ : kinds[i].op;
		set_int(o, "", kinds[i].bytes, from->bytes[op]);
		set_int(o, "", kinds[i].ops, from->ops[op]);
		set_int(o, kinds[i].name, "_latency_ticks",
			from->latency_ns[op]);
	}
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		char key[32];

		from = kinds[i].op == BDEV_OPS ? &none : s;
		op = kinds[i].op == BDEV_OPS ? BDEV_READ : kinds[i].op;
		snprintf(key, sizeof(key), "max_%s", kinds[i].name);
		set_int(o, key, "_latency_ticks", from->max_ns[op]);
		snprintf(key, sizeof(key), "min_%s", kinds[i].name);
		set_int(o, key, "_latency_ticks", from->min_ns[op]);
	}
	set_int(o, "", "queue_depth", s->inflight);
	for (i = 0; i < BDEV_OPS; i++)
		if (s->errors[i])
			json_object_set_new(
				errors, bdev_op_names[i],
				json_integer((json_int_t)s->errors[i]));
	json_object_set_new(o, "io_error", errors);
	return o;
}

static json_t *
channels_json(const struct bdev *b)
{
	json_t *out = json_array(), *o;
	struct bdev_stats s;
	char name[32];
	unsigned i;

	for (i = 0; i < reactor_count(); i++) {
		if (bdev_get_ch_stats(b, i, &s))
			continue;
		o = stats_json(&s);
		thread_name(reactor_get(i), name, sizeof(name));
		json_object_set_new(o, "thread_id", json_integer(i + 1));
		json_object_set_new(o, "thread_name", json_string(name));
		json_array_append_new(out, o);
	}
	return out;
}

static void
append_iostat(json_t *out, struct bdev *b, bool per_channel,
	      enum bdev_stats_reset reset)
{
	struct bdev_stats s;
	struct bdev_info i;
	json_t *o, *stats;

	bdev_info_of(b, &i);
	if (per_channel) {
		o = json_pack("{s:s, s:o}", "name", i.name, "channels",
			      channels_json(b));
	} else {
		bdev_get_stats(b, &s);
		o = json_pack("{s:s}", "name", i.name);
		stats = stats_json(&s);
		json_object_update(o, stats);
		json_decref(stats);
	}
	json_array_append_new(out, o);
	if (reset != BDEV_RESET_NONE)
		bdev_reset_stats(b, reset);
}

/* All of them must be there, or nothing is printed or reset. */
static bool
names_ok(struct rpc_req *req, const json_t *names)
{
	json_t *v;
	size_t i;

	if (json_array_size(names) > 1024) {
		bad_params(req, "'names' has more than 1024 entries");
		return false;
	}
	json_array_foreach(names, i, v) {
		if (!json_is_string(v)) {
			bad_params(req, "'names' must be an array of strings");
			return false;
		}
		if (!bdev_find(json_string_value(v))) {
			no_such_bdev(req, json_string_value(v));
			return false;
		}
	}
	return true;
}

static void
rpc_get_iostat(struct rpc_req *req, const json_t *params)
{
	enum bdev_stats_reset reset = BDEV_RESET_NONE;
	struct iostat_params p = { 0 };
	json_t *names, *bdevs;
	struct bdev *b;
	size_t i;

	if (!rpc_decode(req, params, iostat_table, ARRAY_SIZE(iostat_table), &p,
			0) ||
	    !reset_mode(req, "reset_mode", p.reset_mode, &reset))
		return;
	names = p.names	 ? json_incref(p.names)
		: p.name ? json_pack("[s]", p.name)
			 : NULL;
	if (p.per_channel && !names) {
		bad_params(req, "'per_channel' goes with 'names' only");
		return;
	}
	if (names && !names_ok(req, names)) {
		json_decref(names);
		return;
	}
	bdevs = json_array();
	for (i = 0; i < json_array_size(names); i++)
		append_iostat(
			bdevs,
			bdev_find(json_string_value(json_array_get(names, i))),
			p.per_channel, reset);
	for (b = names ? NULL : bdev_first(); b; b = bdev_next(b))
		append_iostat(bdevs, b, false, reset);
	json_decref(names);
	rpc_result(req, json_pack("{s:I, s:I, s:o}", "tick_rate",
				  (json_int_t)TICK_RATE, "ticks",
				  (json_int_t)reactor_now(), "bdevs", bdevs));
}

static void
rpc_reset_iostat(struct rpc_req *req, const json_t *params)
{
	enum bdev_stats_reset mode = BDEV_RESET_ALL;
	struct iostat_params p = { 0 };
	struct bdev *b;

	if (!rpc_decode(req, params, reset_table, ARRAY_SIZE(reset_table), &p,
			0) ||
	    !reset_mode(req, "mode", p.mode, &mode))
		return;
	if (p.name) {
		b = bdev_find(p.name);
		if (!b) {
			no_such_bdev(req, p.name);
			return;
		}
		bdev_reset_stats(b, mode);
	}
	for (b = p.name ? NULL : bdev_first(); b; b = bdev_next(b))
		bdev_reset_stats(b, mode);
	rpc_result(req, json_true());
}

/* ---- save ---- */

static json_t *
save_params(const struct bdev *b, const struct bdev_info *i)
{
	const struct bdev_file_params *aio = bdev_aio_params_of(b);
	const struct bdev_file_params *uring = bdev_uring_params_of(b);
	const struct bdev_malloc_params *mem = bdev_malloc_params_of(b);
	const struct bdev_delay_params *delay = bdev_delay_params_of(b);
	const struct bdev_error_params *error = bdev_error_params_of(b);
	json_t *o;

	if (aio)
		return json_pack("{s:s, s:s, s:I, s:b, s:b, s:b}", "name",
				 i->name, "filename", aio->filename,
				 "block_size", (json_int_t)i->block_len,
				 "readonly", aio->read_only, "fallocate",
				 aio->fallocate, "nowait", aio->nowait);
	if (uring)
		return json_pack("{s:s, s:s, s:I, s:b}", "name", i->name,
				 "filename", uring->filename, "block_size",
				 (json_int_t)i->block_len, "readonly",
				 uring->read_only);
	if (delay)
		return json_pack(
			"{s:s, s:s, s:I, s:I, s:I, s:I}", "name", i->name,
			"base_bdev_name", delay->base, "avg_read_latency",
			(json_int_t)delay->avg_read_us, "p99_read_latency",
			(json_int_t)delay->p99_read_us, "avg_write_latency",
			(json_int_t)delay->avg_write_us, "p99_write_latency",
			(json_int_t)delay->p99_write_us);
	if (error)
		return json_pack("{s:s}", "base_name", error->base);
	o = json_pack("{s:s, s:I, s:I, s:I}", "name", i->name, "block_size",
		      (json_int_t)i->block_len, "num_blocks",
		      (json_int_t)i->num_blocks, "physical_block_size",
		      (json_int_t)i->phys_block_len);
	if (mem && mem->numa >= 0)
		json_object_set_new(o, "numa_id", json_integer(mem->numa));
	return o;
}

json_t *
save_bdev(void)
{
	json_t *out = json_array(), *params;
	struct bdev_info i;
	char method[64];
	struct bdev *b;

	for (b = bdev_first(); b; b = bdev_next(b)) {
		bdev_info_of(b, &i);
		snprintf(method, sizeof(method), "bdev_%s_create",
			 bdev_module(b));
		params = save_params(b, &i);
		json_object_set_new(params, "uuid", uuid_json(i.uuid));
		json_array_append_new(out, json_pack("{s:s, s:o}", "method",
						     method, "params", params));
		params = limits_json(b, false);
		if (!json_object_size(params)) {
			json_decref(params);
			continue;
		}
		json_object_set_new(params, "name", json_string(i.name));
		json_array_append_new(out, json_pack("{s:s, s:o}", "method",
						     "bdev_set_qos_limit",
						     "params", params));
	}
	return out;
}

static const struct rpc_method methods[] = {
	{ "bdev_get_bdevs", rpc_get_bdevs, RPC_RUNTIME },
	{ "bdev_get_iostat", rpc_get_iostat, RPC_RUNTIME },
	{ "bdev_reset_iostat", rpc_reset_iostat, RPC_RUNTIME },
};

void
rpc_bdev_info_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
