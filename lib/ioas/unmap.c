/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unmap: ranges go, at once for whoever looks, for good when the last listener has no I/O on them.
 * Detach and destroy are the same with other endings. Not for giving memory back (region.c).
 *
 * A client may have 65535 extents, and all of them in one unmap would be ten milliseconds that belong to others. So they
 * go in slices, one a round; what the client asks for next waits behind.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "belfry/log.h"
#include "internal.h"

#define SLICE 4096u

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
	uint32_t ngone, ntold, ntoken, nused;
	uint32_t want; /* extents, as ngone in the end */
	uint64_t next; /* where the first of them begins that is still there */
	uint64_t last; /* nothing beyond this goes */
	struct reactor_msg msg;
	struct work work;
	struct ioas_unmap token[]; /* one for each listener and slice */
};

static uint32_t
slices_of(const struct record *rec)
{
	return MAX((rec->want + SLICE - 1) / SLICE, 1u);
}

static struct record *
record_create(struct ioas_ctx *ctx, const struct req *r, struct ioas *as,
	      uint32_t ngone, uint32_t ntold)
{
	uint32_t slices = MAX((ngone + SLICE - 1) / SLICE, 1u), n = 0, i;
	struct ioas_listener *l;
	struct record *rec;

	if (as == ctx->attached)
		list_for_each(l, &ctx->listeners, node)
			n += slices;
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
	rec->want = ngone;
	rec->left = 1;
	rec->sync = true;
	list_init(&rec->waiter);
	for (i = 0; n && i < slices; i++) {
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
memory_work(struct work *w)
{
	struct record *rec = container_of(w, struct record, work);

	free(rec->gone);
	free(rec->told);
}

static void
memory_done(struct work *w)
{
	free(container_of(w, struct record, work));
}

/* Some MiB go back to the kernel, page by page: for those a worker has the time. */
static void
record_free(struct record *rec)
{
	rec->work.fn = memory_work;
	rec->work.done = memory_done;
	if (rec->ngone > SLICE) {
		work_submit(WORK_CONTROL, &rec->work);
		return;
	}
	memory_work(&rec->work);
	memory_done(&rec->work);
}

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
	record_free(rec);
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

/* All of a slice at once: a listener that looks for I/O on them looks once. */
static void
record_tell(struct record *rec, uint32_t from)
{
	uint32_t n = rec->ntold - from, i;

	if (!n)
		return;
	/* A listener has as many tokens as the others, in their order. */
	for (i = rec->ntoken / slices_of(rec); i; i--) {
		struct ioas_unmap *u = &rec->token[rec->nused++];

		if (!u->l)
			continue;
		u->owed = true;
		rec->left++;
		u->l->unmap(u->l, rec->told + from, n, u);
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

/*
 * Would it split a map? Only the first and the last extent in [iova, last] can be one of which a part stays, so only they are
 * looked at: else a client could have all of them looked at on and on, for nothing.
 */
static bool
range_splits(const struct table *t, uint64_t iova, uint64_t last)
{
	struct cursor first = table_from(t, iova), c = table_floor(t, last);

	if (!first.leaf || cursor_iova(first) > last)
		return false; /* none */
	return cursor_iova(first) < iova ||
	       cursor_extent(first)->flags & EXTENT_CONT ||
	       cursor_extent(c)->len - 1 > last - cursor_iova(c) ||
	       cursor_extent(c)->flags & EXTENT_MORE;
}

/* The next ones leave the table, into rec->gone. */
static uint32_t
slice_take(struct record *rec)
{
	struct table *t = &rec->as->table;
	struct cursor c = table_from(t, rec->next);
	uint32_t n = MIN(rec->want - rec->ngone, SLICE), i;
	struct gone *gone = rec->gone + rec->ngone;

	for (i = 0; i < n; i++, c = cursor_next(c)) {
		gone[i].iova = cursor_iova(c);
		gone[i].e = *cursor_extent(c);
	}
	rec->ngone += n;
	if (rec->ngone < rec->want)
		rec->next = cursor_iova(c);
	if (n == t->count)
		table_clear(t);
	else
		for (i = 0; i < n; i++)
			table_remove(t, gone[i].iova);
	return n;
}

/* A slice goes. False: there are more. */
static bool
slice_run(struct record *rec)
{
	uint32_t told = rec->ntold, n, i;
	struct ioas_ctx *ctx = rec->ctx;
	uint64_t now = util_now_ns();
	struct gone *gone;

	if (!rec->want)
		return true; /* an empty space is destroyed */
	gone = rec->gone + rec->ngone;
	n = slice_take(rec);
	ctx->usage.extents -= n;
	ctx->usage.unmaps += n;
	if (rec->as == ctx->attached) {
		for (i = 0; i < n; i++) {
			view_recent(&ctx->view, gone[i].iova,
				    gone[i].iova + gone[i].e.len - 1, now);
			record_add(rec, gone[i].iova, &gone[i].e);
		}
		view_changed(&ctx->view);
		record_tell(rec, told);
	}
	return rec->ngone == rec->want;
}

/* A round later. The client may have gone meanwhile, and its address spaces with it. */
static void
slice_next(struct reactor_msg *m)
{
	struct record *rec = container_of(m, struct record, msg);
	struct ioas_ctx *ctx = rec->ctx;

	if (!ctx->dying && !slice_run(rec)) {
		reactor_send(ctx->home, m);
		return;
	}
	ctx->busy = false;
	ctx->slicing = NULL;
	if (ctx->dying && rec->kind == REQ_DESTROY)
		table_clear(&rec->as->table);
	if (ctx->dying)
		record_drop(rec);
	else
		record_settle(rec);
	req_pump(ctx);
}

int
unmap_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *as = ioas_find(ctx, r->id);
	uint64_t first = 0, last = UINT64_MAX;
	struct record *rec;
	uint32_t n;

	if (!as)
		return -ENOENT;
	if (r->kind == REQ_DESTROY && as == ctx->attached)
		return -EBUSY;
	if (r->kind == REQ_UNMAP) {
		first = r->iova;
		last = r->iova + (r->len - 1);
		if (range_splits(&as->table, first, last))
			return ctx->mode == IOAS_LEGACY ? -EINVAL : -ENOENT;
		n = table_count(&as->table, first, last);
		if (!n)
			return ctx->mode == IOAS_LEGACY ? 0 : -ENOENT;
	} else {
		n = as->table.count;
		if (!n && r->kind == REQ_UNMAP_ALL)
			return 0;
	}
	rec = record_create(ctx, r, as, n, n);
	if (!rec)
		return -ENOMEM;
	if (r->kind == REQ_DESTROY) {
		list_remove(&as->node);
		ctx->usage.ioas--;
	}
	rec->next = first;
	rec->last = last;
	if (slice_run(rec))
		return record_settle(rec);
	rec->sync = false;
	ctx->busy = true;
	ctx->slicing = rec;
	rec->msg.fn = slice_next;
	reactor_send(ctx->home, &rec->msg);
	return -EINPROGRESS;
}

/* The device's view goes from one IOAS (or none) to another (or none). */
int
attach_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *old = ctx->attached, *as = NULL;
	uint64_t now = util_now_ns();
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
				    iova + cursor_extent(c)->len - 1, now);
			record_add(rec, iova, cursor_extent(c));
		}
		record_tell(rec, 0);
	}
	list_for_each(l, &ctx->listeners, node)
		listener_replay(ctx, l);
	return old ? record_settle(rec) : 0;
}

/*
 * Does it go with a slice to come? Who begins to listen between two slices is not told of those: it has no
 * token. So for him it has gone already.
 */
static bool
is_leaving(const struct ioas_ctx *ctx, uint64_t iova)
{
	const struct record *rec = ctx->slicing;

	return rec && rec->as == ctx->attached && iova >= rec->next &&
	       iova <= rec->last;
}

void
listener_replay(struct ioas_ctx *ctx, struct ioas_listener *l)
{
	struct cursor c;

	for (c = table_first(ctx->view.table); c.leaf; c = cursor_next(c)) {
		struct extent *e = cursor_extent(c);
		struct ioas_extent pub = { cursor_iova(c), e->len, e->delta,
					   e->prot };

		if (!is_leaving(ctx, pub.iova))
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
