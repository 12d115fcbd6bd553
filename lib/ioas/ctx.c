/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctx: a connection's address spaces: made, counted, ended.
 * Not for what is in them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define DEFAULT_ARENA (256ull << 30)

struct ioas *
ioas_find(struct ioas_ctx *ctx, uint32_t id)
{
	struct ioas *as;

	list_for_each(as, &ctx->spaces, node)
		if (as->id == id)
			return as;
	return NULL;
}

int
ioas_alloc(struct ioas_ctx *ctx, uint32_t *id)
{
	struct ioas *as;

	if (ctx->usage.ioas >= ctx->limits.max_ioas ||
	    ctx->next_id == UINT32_MAX)
		return -ENOSPC;
	as = calloc(1, sizeof(*as));
	if (!as)
		return -ENOMEM;
	as->id = *id = ++ctx->next_id;
	list_init(&as->waiters);
	list_push_back(&ctx->spaces, &as->node);
	ctx->usage.ioas++;
	return 0;
}

int
ioas_bind(struct ioas_ctx *ctx, uint32_t *devid)
{
	if (ctx->bound)
		return -EEXIST;
	ctx->bound = true;
	*devid = 1;
	return 0;
}

static void
ctx_fini_fault(struct ioas_ctx *ctx)
{
	struct fault_region *regions = ctx->fault->regions;

	fault_arena_put(ctx->fault); /* somebody else's from here on */
	free(regions);
	free(ctx->fault_free);
}

static void
ctx_free(struct ioas_ctx *ctx)
{
	void (*gone)(void *arg) = ctx->gone;
	void *arg = ctx->gone_arg;

	ctx_fini_fault(ctx);
	free(ctx);
	if (gone)
		gone(arg);
}

static void
fault_notify(struct fault_arena *fa)
{
	struct ioas_ctx *ctx = fa->ctx;

	if (ctx->ended)
		ctx_free(ctx);
	else if (ctx->fault_fn && !ctx->dying)
		ctx->fault_fn(ctx->fault_arg);
}

static int
ctx_init_fault(struct ioas_ctx *ctx)
{
	uint32_t i, n = ctx->limits.max_vmas;
	struct fault_arena *fa;

	ctx->fault_free = malloc(n * sizeof(*ctx->fault_free));
	if (!ctx->fault_free)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		ctx->fault_free[i] = n - 1 - i;
	ctx->nfault_free = n;
	fa = ctx->fault = fault_arena_get();
	if (!fa)
		goto free_stack;
	fa->regions = calloc(n, sizeof(*fa->regions));
	if (!fa->regions)
		goto put;
	ctx->view.faulted = &fa->faulted;
	fa->nregions = n;
	fa->home = ctx->home;
	fa->ctx = ctx;
	fa->notify = fault_notify;
	fault_arena_publish(fa, ctx->arena.base, ctx->arena.len);
	return 0;
put:
	fault_arena_put(fa);
free_stack:
	free(ctx->fault_free);
	return -ENOMEM;
}

static void
limits_default(struct ioas_limits *l)
{
	l->arena_len = l->arena_len ? l->arena_len : DEFAULT_ARENA;
	l->max_ioas = l->max_ioas ? l->max_ioas : 64;
	l->max_extents = l->max_extents ? l->max_extents : 65535;
	l->max_vmas = l->max_vmas ? l->max_vmas : 1024;
}

int
ioas_ctx_create(struct reactor *home, enum ioas_mode mode,
		const struct ioas_limits *limits, struct ioas_ctx **out)
{
	struct ioas_ctx *ctx =
		aligned_alloc(CACHE_LINE, align_up(sizeof(*ctx), CACHE_LINE));
	uint32_t id;
	int err;

	if (!ctx)
		return -ENOMEM;
	*ctx = (struct ioas_ctx){ .home = home, .mode = mode };
	if (limits)
		ctx->limits = *limits;
	limits_default(&ctx->limits);
	list_init(&ctx->spaces);
	list_init(&ctx->listeners);
	list_init(&ctx->queue);
	view_init(&ctx->view);
	region_ctx_init(ctx);
	err = arena_open(&ctx->arena, ctx->limits.arena_len,
			 mode == IOAS_LEGACY);
	if (err)
		goto free_ctx;
	err = ctx_init_fault(ctx);
	if (err)
		goto close_arena;
	if (mode == IOAS_LEGACY) {
		err = ioas_alloc(ctx, &id);
		if (err)
			goto put_fault;
		ctx->bound = true;
		ctx->attached = list_first(&ctx->spaces, struct ioas, node);
		ctx->view.table = &ctx->attached->table;
	}
	*out = ctx;
	return 0;
put_fault:
	ctx_fini_fault(ctx);
close_arena:
	arena_unmap(ctx->arena.base, ctx->arena.len);
	arena_close(&ctx->arena);
free_ctx:
	free(ctx);
	return err;
}

static void
end_work(struct work *w)
{
	struct ioas_ctx *ctx = container_of(w, struct ioas_ctx, end_work);

	arena_unmap(ctx->arena.base, ctx->arena.len);
}

static void
end_done(struct work *w)
{
	struct ioas_ctx *ctx = container_of(w, struct ioas_ctx, end_work);

	ctx->ended = true;
	arena_close(&ctx->arena);
	if (!__atomic_load_n(&ctx->fault->msg_sent, __ATOMIC_RELAXED))
		ctx_free(ctx);
}

/* Never frees at once: callers go on with ctx. */
void
ctx_may_end(struct ioas_ctx *ctx)
{
	if (!ctx->dying || ctx->busy || ctx->records || ctx->ending)
		return;
	regions_release_all(ctx);
	if (release_pending(ctx))
		return;
	ctx->ending = true;
	/* The address space is free for others soon: the handler must not know it. */
	fault_arena_publish(ctx->fault, 0, 0);
	ctx->end_work.fn = end_work;
	ctx->end_work.done = end_done;
	work_submit(WORK_CLOSE, &ctx->end_work);
}

void
ioas_ctx_destroy(struct ioas_ctx *ctx, void (*done)(void *arg), void *arg)
{
	struct ioas *as;

	if (!ctx)
		return;
	assert(list_empty(&ctx->listeners) && !ctx->dying);
	ctx->dying = true;
	ctx->gone = done;
	ctx->gone_arg = arg;
	ctx->view.table = &ctx->view.own;
	view_changed(&ctx->view);
	ctx->attached = NULL;
	req_cancel_all(ctx);
	while ((as = list_first(&ctx->spaces, struct ioas, node))) {
		list_remove(&as->node);
		table_clear(&as->table);
		free(as);
	}
	ctx_may_end(ctx);
}

void
ioas_ctx_usage(const struct ioas_ctx *ctx, struct ioas_usage *out)
{
	*out = ctx->usage;
}

enum ioas_mode
ioas_ctx_mode(const struct ioas_ctx *ctx)
{
	return ctx->mode;
}

struct ioas_view *
ioas_ctx_view(struct ioas_ctx *ctx)
{
	return &ctx->view;
}

void
ioas_set_faulted(struct ioas_ctx *ctx)
{
	fault_arena_mark(ctx->fault);
}

void
ioas_on_fault(struct ioas_ctx *ctx, void (*fn)(void *arg), void *arg)
{
	ctx->fault_fn = fn;
	ctx->fault_arg = arg;
	if (fn && ioas_faulted(ctx))
		fault_arena_resend(ctx->fault);
}
