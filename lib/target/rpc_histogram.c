/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: histograms of latency. Not for sums and extremes: rpc_bdev_info.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "internal.h"

/* ---- bdev_enable_histogram ---- */

struct enable_params {
	const char *name, *opc;
	bool enable;
	uint8_t granularity;
	uint64_t min_nsec, max_nsec;
};

static const struct rpc_param enable_table[] = {
	PARAM_REQ(struct enable_params, name, RPC_STRING),
	PARAM_REQ(struct enable_params, enable, RPC_BOOL),
	PARAM(struct enable_params, opc, RPC_STRING),
	PARAM(struct enable_params, granularity, RPC_U8),
	PARAM(struct enable_params, min_nsec, RPC_U64),
	PARAM(struct enable_params, max_nsec, RPC_U64),
};

/* Frees one after all reactors have let go of it. */
struct retirement {
	struct fanout f;
	struct rpc_req *req;
	struct bdev_histogram *old;
};

static void
retire_visit(struct fanout *f)
{
	/* a reactor that runs a message is not counting an I/O */
}

static void
retire_done(struct fanout *f)
{
	struct retirement *r = container_of(f, struct retirement, f);

	bdev_histogram_free(r->old);
	rpc_result(r->req, json_true());
	free(r);
}

/* 0: an error has been sent. */
static uint8_t
ops_of(struct rpc_req *req, const char *opc)
{
	if (!opc)
		return (1u << BDEV_OPS) - 1;
	for (unsigned i = 0; i < BDEV_OPS; i++)
		if (!strcmp(opc, bdev_op_names[i]))
			return (uint8_t)(1u << i);
	bad_params(
		req,
		"'opc' '%.64s' is none of read, write, flush, unmap, write_zeroes",
		opc);
	return 0;
}

static bool
enable_ok(struct rpc_req *req, const struct enable_params *p)
{
	if (p->granularity > BDEV_HISTOGRAM_GRANULARITY_MAX)
		bad_params(req, "'granularity' %u is above %u", p->granularity,
			   BDEV_HISTOGRAM_GRANULARITY_MAX);
	else if (p->min_nsec >= p->max_nsec)
		bad_params(req, "'min_nsec' must be below 'max_nsec'");
	else
		return true;
	return false;
}

static void
rpc_enable_histogram(struct rpc_req *req, const json_t *params)
{
	struct enable_params p = { .granularity = 7,
				   .min_nsec = 1000,
				   .max_nsec = 120ull * 1000000000 };
	struct bdev_histogram *h = NULL;
	struct bdev_histogram_params hp;
	struct retirement *r;
	struct bdev *b;
	uint8_t ops;

	if (!rpc_decode(req, params, enable_table, ARRAY_SIZE(enable_table), &p,
			0) ||
	    !(ops = ops_of(req, p.opc)) || !enable_ok(req, &p))
		return;
	b = bdev_find(p.name);
	if (!b) {
		no_such_bdev(req, p.name);
		return;
	}
	hp = (struct bdev_histogram_params){ .granularity = p.granularity,
					     .ops = ops,
					     .min_ns = p.min_nsec,
					     .max_ns = p.max_nsec };
	r = calloc(1, sizeof(*r));
	if (!r || (p.enable && bdev_histogram_create(&hp, &h))) {
		free(r);
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	r->f.fn = retire_visit;
	r->f.done = retire_done;
	r->req = req;
	r->old = bdev_histogram_swap(b, h);
	fanout_run(&r->f);
}

/* ---- bdev_get_histogram ---- */

/* Freed with free(). NULL: no memory. */
static char *
counts_text(const struct bdev *b, size_t n)
{
	uint64_t *counts = calloc(n, sizeof(*counts));
	char *text;
	size_t i;

	if (!counts)
		return NULL;
	for (i = 0; i < n; i++)
		counts[i] = htole64(bdev_histogram_read(b, i));
	text = malloc((n * sizeof(*counts) + 2) / 3 * 4 + 1);
	if (text)
		EVP_EncodeBlock((uint8_t *)text, (const uint8_t *)counts,
				(int)(n * sizeof(*counts)));
	free(counts);
	return text;
}

static const struct rpc_param get_table[] = {
	PARAM_REQ(struct enable_params, name, RPC_STRING),
};

static void
rpc_get_histogram(struct rpc_req *req, const json_t *params)
{
	const struct bdev_histogram_shape *s;
	struct enable_params p = { 0 };
	struct bdev *b;
	char *text;

	if (!rpc_decode(req, params, get_table, ARRAY_SIZE(get_table), &p, 0))
		return;
	b = bdev_find(p.name);
	if (!b) {
		no_such_bdev(req, p.name);
		return;
	}
	s = bdev_histogram_shape(b);
	if (!s) {
		rpc_errno(
			req, -ENOENT,
			"bdev %.256s has no histogram: bdev_enable_histogram makes one",
			p.name);
		return;
	}
	text = counts_text(b, s->buckets);
	if (!text) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	rpc_result(req,
		   json_pack("{s:s, s:i, s:i, s:i, s:I}", "histogram", text,
			     "granularity", (int)s->granularity, "min_range",
			     (int)s->min_range, "max_range", (int)s->max_range,
			     "tsc_rate", (json_int_t)TICK_RATE));
	free(text);
}

static const struct rpc_method methods[] = {
	{ "bdev_enable_histogram", rpc_enable_histogram, RPC_RUNTIME },
	{ "bdev_get_histogram", rpc_get_histogram, RPC_RUNTIME },
};

void
rpc_histogram_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
