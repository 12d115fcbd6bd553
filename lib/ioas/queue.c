/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * queue: the order of a context's operations. Not for what they do.
 *
 * They run at once, in the order of their calls. While a map is on the worker, an unmap takes several rounds, or a map
 * waits for what is being given back, those behind it wait too: an unmap must see
 * the map before it. An unmap that waits for I/O holds up nobody.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

static int
req_run(struct ioas_ctx *ctx, const struct req *r)
{
	switch (r->kind) {
	case REQ_MAP:
		return map_run(ctx, r);
	case REQ_COPY:
		return copy_run(ctx, r);
	case REQ_UNMAP:
	case REQ_UNMAP_ALL:
	case REQ_DESTROY:
		return unmap_run(ctx, r);
	case REQ_ATTACH:
	case REQ_DETACH:
		return attach_run(ctx, r);
	}
	return -EINVAL;
}

int
req_submit(struct ioas_ctx *ctx, const struct req *r)
{
	struct file_info fi;
	struct req *later;
	int err;

	if (ctx->dying)
		return -ECANCELED;
	if (!ctx->busy && list_empty(&ctx->queue)) {
		err = req_run(ctx, r);
		if (err != -EAGAIN)
			return err;
	} else if (r->fd >= 0) { /* nothing but memory waits here */
		err = file_screen(r->fd, r->prot, r->off, r->len,
				  ctx->limits.allow_any_fs, &fi);
		if (err)
			return err;
	}
	later = malloc(sizeof(*later));
	if (!later)
		return -ENOMEM;
	*later = *r;
	list_push_back(&ctx->queue, &later->node);
	return -EINPROGRESS;
}

void
req_pump(struct ioas_ctx *ctx)
{
	struct ioas_op *op;
	struct req *r;
	int err;

	while (!ctx->busy && !ctx->dying &&
	       (r = list_first(&ctx->queue, struct req, node))) {
		err = req_run(ctx, r);
		if (err == -EAGAIN)
			return; /* the next give-back asks again */
		op = r->op;
		list_remove(&r->node);
		if (err && err != -EINPROGRESS)
			fd_close_later(ctx, r->fd);
		free(r);
		if (err != -EINPROGRESS)
			op->done(op, err);
	}
}

void
req_cancel_all(struct ioas_ctx *ctx)
{
	struct ioas_op *op;
	struct req *r;

	assert(ctx->dying);
	while ((r = list_first(&ctx->queue, struct req, node))) {
		op = r->op;
		list_remove(&r->node);
		fd_close_later(ctx, r->fd);
		free(r);
		op->done(op, -ECANCELED);
	}
}
