/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unmap: ranges go, at once for whoever looks, for good when the last listener has no I/O on them.
 * Detach and destroy are the same with other endings. Not for giving memory back (region.c).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "belfry/log.h"
#include "internal.h"

struct gone {
	uint64_t iova;
	struct extent e;
};

/* One listener's part of an unmap. */
struct ioas_unmap {
	struct list node; /* in the listener's owed */
	struct record *rec;
	struct ioas_listener *l; /* NULL: it has left */
	bool owed;
};

struct record {
	struct ioas_ctx *ctx;
	struct ioas_op *op;
	enum req_kind kind;
	struct ioas *as;    /* DETACH: held. DESTROY: owned */
	uint64_t left;	    /* acks to come, and one while it is set up */
	bool sync;	    /* still in the caller's call */
	struct list waiter; /* in as->waiters */
	struct gone *gone;
	struct ioas_extent *told; /* what listeners see; as long as they may */
	uint32_t ngone, ntold, ntoken;
	struct ioas_unmap token[];
};

static struct record *
record_create(struct ioas_ctx *ctx, const struct req *r, struct ioas *as,
	      uint32_t ngone, uint32_t ntold)
{
	struct ioas_listener *l;
	struct record *rec;
	uint32_t n = 0;

	if (as == ctx->attached)
		list_for_each(l, &ctx->listeners, node)
			n++;
	rec = calloc(1, sizeof(*rec) + n * sizeof(rec->token[0]));
	if (!rec)
		return NULL;
	rec->gone = ngone ? malloc(ngone * sizeof(*rec->gone)) : NULL;
	ntold = n ? ntold : 0;
	rec->told = ntold ? malloc(ntold * sizeof(*rec->told)) : NULL;
	if ((ngone && !rec->gone) || (ntold && !rec->told)) {
		free(rec->gone);
		free(rec->told);
		free(rec);
		return NULL;
	}
	rec->ctx = ctx;
	rec->op = r->op;
	rec->kind = r->kind;
	rec->as = as;
	rec->left = 1;
	rec->sync = true;
	list_init(&rec->waiter);
	if (n) {
		list_for_each(l, &ctx->listeners, node) {
			struct ioas_unmap *u = &rec->token[rec->ntoken++];

			u->rec = rec;
			u->l = l;
			list_push_back(&l->owed, &u->node);
		}
	}
	ctx->records++;
	return rec;
}

static void record_drop(struct record *rec);

static void
record_finish(struct record *rec)
{
	struct ioas_ctx *ctx = rec->ctx;
	struct ioas_op *op = rec->op;
	struct ioas *as = rec->as;
	struct list ready = LIST_INIT(ready);
	struct record *w;
	uint32_t i;

	for (i = 0; i < rec->ngone; i++)
		extent_put(ctx, rec->gone[i].iova, &rec->gone[i].e);
	for (i = 0; i < rec->ntoken; i++)
		if (rec->token[i].l)
			list_remove(&rec->token[i].node);
	if (rec->kind == REQ_DESTROY) {
		free(as);
	} else if (rec->kind == REQ_ATTACH || rec->kind == REQ_DETACH) {
		if (!--as->holds)
			list_splice(&ready, &as->waiters);
	}
	ctx->records--;
	if (!rec->sync)
		op->done(op, 0);
	/* The last of them may be a DESTROY that frees as. */
	while ((w = list_first(&ready, struct record, waiter))) {
		list_remove(&w->waiter);
		record_drop(w);
	}
	free(rec->gone);
	free(rec->told);
	free(rec);
	ctx_may_end(ctx);
}

static void
record_drop(struct record *rec)
{
	assert(rec->left);
	if (!--rec->left)
		record_finish(rec);
}

void
ioas_unmap_ack(struct ioas_unmap *u)
{
	assert(u->owed);
	u->owed = false;
	record_drop(u->rec);
}

static void
record_add(struct record *rec, uint64_t iova, const struct extent *e)
{
	if (rec->told)
		rec->told[rec->ntold++] =
			(struct ioas_extent){ iova, e->len, e->delta, e->prot };
}

/* All at once: a listener that looks for I/O on them looks once. */
static void
record_tell(struct record *rec)
{
	uint32_t i;

	for (i = 0; rec->ntold && i < rec->ntoken; i++) {
		struct ioas_unmap *u = &rec->token[i];

		if (!u->l)
			continue;
		u->owed = true;
		rec->left++;
		u->l->unmap(u->l, rec->told, rec->ntold, u);
	}
}

/* All have been told. 0 when all have acked, else -EINPROGRESS. */
static int
record_settle(struct record *rec)
{
	if (rec->as->holds && rec->kind != REQ_ATTACH &&
	    rec->kind != REQ_DETACH) {
		rec->left++;
		list_push_back(&rec->as->waiters, &rec->waiter);
	}
	if (rec->left > 1) {
		rec->sync = false;
		rec->left--;
		return -EINPROGRESS;
	}
	record_drop(rec);
	return 0;
}

/* How many whole maps' extents are in [iova, last]; -errno when one would be split. */
static int64_t
range_count(const struct ioas_ctx *ctx, const struct table *t, uint64_t iova,
	    uint64_t last, struct cursor *first)
{
	int64_t split = ctx->mode == IOAS_LEGACY ? -EINVAL : -ENOENT, n = 0;
	struct cursor c = table_from(t, iova);
	struct extent *e = NULL;

	*first = c;
	for (; c.leaf && cursor_iova(c) <= last; c = cursor_next(c), n++) {
		e = cursor_extent(c);
		if (cursor_iova(c) < iova ||
		    e->len - 1 > last - cursor_iova(c) ||
		    (!n && (e->flags & EXTENT_CONT)))
			return split;
	}
	return e && (e->flags & EXTENT_MORE) ? split : n;
}

/* Take the extents out of the table, into rec->gone. */
static void
range_take(struct record *rec, struct cursor c, uint32_t n)
{
	struct ioas_ctx *ctx = rec->ctx;
	struct table *t = &rec->as->table;
	uint32_t i;

	for (i = 0; i < n; i++, c = cursor_next(c)) {
		rec->gone[i].iova = cursor_iova(c);
		rec->gone[i].e = *cursor_extent(c);
	}
	rec->ngone = n;
	if (n == t->count)
		table_clear(t);
	else
		for (i = 0; i < n; i++)
			table_remove(t, rec->gone[i].iova);
	ctx->usage.extents -= n;
	ctx->usage.unmaps += n;
	if (rec->as != ctx->attached)
		return;
	for (i = 0; i < n; i++)
		view_recent(&ctx->view, rec->gone[i].iova,
			    rec->gone[i].iova + rec->gone[i].e.len - 1);
	view_changed(&ctx->view);
	for (i = 0; i < n; i++)
		record_add(rec, rec->gone[i].iova, &rec->gone[i].e);
	record_tell(rec);
}

int
unmap_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *as = ioas_find(ctx, r->id);
	struct record *rec;
	struct cursor c;
	int64_t n;

	if (!as)
		return -ENOENT;
	if (r->kind == REQ_DESTROY && as == ctx->attached)
		return -EBUSY;
	if (r->kind == REQ_UNMAP) {
		n = range_count(ctx, &as->table, r->iova,
				r->iova + (r->len - 1), &c);
		if (n < 0)
			return (int)n;
		if (!n)
			return ctx->mode == IOAS_LEGACY ? 0 : -ENOENT;
	} else {
		c = table_first(&as->table);
		n = as->table.count;
		if (!n && r->kind == REQ_UNMAP_ALL)
			return 0;
	}
	rec = record_create(ctx, r, as, (uint32_t)n, (uint32_t)n);
	if (!rec)
		return -ENOMEM;
	if (r->kind == REQ_DESTROY) {
		list_remove(&as->node);
		ctx->usage.ioas--;
	}
	range_take(rec, c, (uint32_t)n);
	return record_settle(rec);
}

/* The device's view goes from one IOAS (or none) to another (or none). */
int
attach_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *old = ctx->attached, *as = NULL;
	struct record *rec = NULL;
	struct ioas_listener *l;
	struct cursor c;

	if (r->kind == REQ_ATTACH && !(as = ioas_find(ctx, r->id)))
		return -ENOENT;
	if (r->kind == REQ_DETACH && !old)
		return -EINVAL;
	if (as == old)
		return 0;
	if (old && !(rec = record_create(ctx, r, old, 0, old->table.count)))
		return -ENOMEM;
	ctx->attached = as;
	ctx->view.table = as ? &as->table : &ctx->view.own;
	view_changed(&ctx->view);
	if (old) {
		old->holds++;
		for (c = table_first(&old->table); c.leaf; c = cursor_next(c)) {
			uint64_t iova = cursor_iova(c);

			view_recent(&ctx->view, iova,
				    iova + cursor_extent(c)->len - 1);
			record_add(rec, iova, cursor_extent(c));
		}
		record_tell(rec);
	}
	list_for_each(l, &ctx->listeners, node)
		listener_replay(ctx, l);
	return old ? record_settle(rec) : 0;
}

void
listener_replay(struct ioas_ctx *ctx, struct ioas_listener *l)
{
	struct cursor c;

	for (c = table_first(ctx->view.table); c.leaf; c = cursor_next(c)) {
		struct extent *e = cursor_extent(c);
		struct ioas_extent pub = { cursor_iova(c), e->len, e->delta,
					   e->prot };

		l->map(l, &pub);
	}
}

void
ioas_listen(struct ioas_ctx *ctx, struct ioas_listener *l)
{
	list_init(&l->owed);
	list_push_back(&ctx->listeners, &l->node);
	listener_replay(ctx, l);
}

void
ioas_unlisten(struct ioas_ctx *ctx, struct ioas_listener *l)
{
	struct ioas_unmap *u;
	bool owed;

	list_remove(&l->node);
	while ((u = list_first(&l->owed, struct ioas_unmap, node))) {
		list_remove(&u->node);
		u->l = NULL;
		owed = u->owed;
		u->owed = false;
		if (owed)
			record_drop(u->rec); /* may free u */
	}
}

int
ioas_unmap(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len,
	   struct ioas_op *op)
{
	struct req r = { .op = op,
			 .kind = REQ_UNMAP,
			 .id = id,
			 .iova = iova,
			 .len = len,
			 .fd = -1 };

	if (!len || len - 1 > UINT64_MAX - iova)
		return -EINVAL;
	log_guest_debug(ioas,
			"ioas %" PRIu32 ": unmap %#" PRIx64 ", %#" PRIx64
			" bytes",
			id, iova, len);
	return req_submit(ctx, &r);
}

int
ioas_unmap_all(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op)
{
	struct req r = { .op = op, .kind = REQ_UNMAP_ALL, .id = id, .fd = -1 };

	return req_submit(ctx, &r);
}

int
ioas_destroy(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op)
{
	struct req r = { .op = op, .kind = REQ_DESTROY, .id = id, .fd = -1 };

	return req_submit(ctx, &r);
}

int
ioas_attach(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op)
{
	struct req r = { .op = op, .kind = REQ_ATTACH, .id = id, .fd = -1 };

	if (ctx->mode != IOAS_IOMMUFD || !ctx->bound)
		return -EINVAL;
	return req_submit(ctx, &r);
}

int
ioas_detach(struct ioas_ctx *ctx, struct ioas_op *op)
{
	struct req r = { .op = op, .kind = REQ_DETACH, .fd = -1 };

	if (ctx->mode != IOAS_IOMMUFD || !ctx->bound)
		return -EINVAL;
	return req_submit(ctx, &r);
}
