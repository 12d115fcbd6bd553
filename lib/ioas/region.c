/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * region: what is mapped into the arena, from the quota to the giving back.
 * Windows (legacy) are shared by extents and linger for a moment after the last; mappings (iommufd)
 * have one extent. Not for the extents themselves (map.c, unmap.c).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define LINGER_NS \
	10000000ull /* a guest that remaps all of its RAM is back by then */
#define SLICE_NS 2000000ull /* of giving back, then others get the worker */

/* VMAs are counted by the process (vm.max_map_count): connections take at most half. */
static uint32_t process_regions;

static uint32_t
process_limit(void)
{
	static uint32_t limit;
	uint32_t v = __atomic_load_n(&limit, __ATOMIC_RELAXED);
	FILE *f;

	if (v)
		return v;
	f = fopen("/proc/sys/vm/max_map_count", "re");
	if (!f || fscanf(f, "%u", &v) != 1 || v < 4096)
		v = 65530;
	if (f)
		fclose(f);
	/* A region costs up to two: itself, and what it cuts off from its neighbour. */
	v = (v - 2048) / 2;
	__atomic_store_n(&limit, v, __ATOMIC_RELAXED);
	return v;
}

static void linger_over(struct reactor_timer *t);

void
region_ctx_init(struct ioas_ctx *ctx)
{
	unsigned i;

	for (i = 0; i < BUCKETS; i++) {
		list_init(&ctx->windows[i]);
		list_init(&ctx->files[i]);
	}
	list_init(&ctx->regions);
	list_init(&ctx->lingering);
	list_init(&ctx->releasing);
	list_init(&ctx->rel_batch);
	ctx->linger.fire = linger_over;
}

struct region *
window_find(struct ioas_ctx *ctx, const struct file_id *id, uint64_t piece)
{
	struct list *head = &ctx->windows[file_hash(id, piece)];
	struct region *r;

	list_for_each(r, head, hash)
		if (r->off == piece * WINDOW && file_same(&r->id, id))
			return r;
	return NULL;
}

struct file *
file_get(struct ioas_ctx *ctx, const struct file_id *id, int *fd)
{
	struct list *head = &ctx->files[file_hash(id, 0)];
	struct file *f;

	list_for_each(f, head, node) {
		if (file_same(&f->id, id)) {
			f->refs++;
			return f;
		}
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->id = *id;
	f->fd = *fd;
	*fd = -1;
	f->refs = 1;
	list_push_back(head, &f->node);
	return f;
}

int
file_put(struct ioas_ctx *ctx, struct file *f)
{
	int fd = f->fd;

	if (--f->refs)
		return -1;
	list_remove(&f->node);
	free(f);
	return fd;
}

bool
release_pending(const struct ioas_ctx *ctx)
{
	return ctx->rel_busy || !list_empty(&ctx->releasing) ||
	       !list_empty(&ctx->lingering);
}

/*
 * Freeing the pages of a big file takes seconds: in the pool for what hangs, one work of a client at a time, so that other
 * clients' mmap() finds a thread.
 */
static void
release_work(struct work *w)
{
	struct ioas_ctx *ctx = container_of(w, struct ioas_ctx, rel_work);
	uint64_t until = util_now_ns() + SLICE_NS;
	struct region *r;

	list_for_each(r, &ctx->rel_batch, node) {
		if (r->given_back)
			continue;
		if (!arena_give_back(r->addr, r->room, &r->gone, until))
			return;
		r->given_back = true;
		/* The last reference to a big file frees its pages here. */
		if (r->close_fd >= 0)
			close(r->close_fd);
	}
}

static void release_kick(struct ioas_ctx *ctx);

static void
region_destroy(struct ioas_ctx *ctx, struct region *r)
{
	struct fault_region *fr = &ctx->fault->regions[r->fault];

	__atomic_store_n(&fr->addr, 0, __ATOMIC_RELEASE);
	ctx->fault_free[ctx->nfault_free++] = r->fault;
	if (r->span)
		span_free(&ctx->arena, r->span);
	else
		slot_free(&ctx->arena, r->slot);
	ctx->usage.arena_used -= r->room;
	ctx->usage.vmas -= 1 + r->grown;
	__atomic_fetch_sub(&process_regions, 1 + r->grown, __ATOMIC_RELAXED);
	list_remove(&r->all);
	list_remove(&r->node);
	free(r);
}

static void
release_done(struct work *w)
{
	struct ioas_ctx *ctx = container_of(w, struct ioas_ctx, rel_work);
	struct region *r, *tmp;

	ctx->rel_busy = false;
	list_for_each_safe(r, tmp, &ctx->rel_batch, node)
		if (r->given_back)
			region_destroy(ctx, r);
	release_kick(ctx);
	req_pump(ctx);
	ctx_may_end(ctx); /* may free ctx */
}

static void
release_kick(struct ioas_ctx *ctx)
{
	if (ctx->rel_busy)
		return;
	list_splice(&ctx->rel_batch, &ctx->releasing);
	if (list_empty(&ctx->rel_batch))
		return;
	ctx->rel_busy = true;
	ctx->rel_work.fn = release_work;
	ctx->rel_work.done = release_done;
	work_submit(WORK_CLOSE, &ctx->rel_work);
}

void
region_release(struct ioas_ctx *ctx, struct region *r)
{
	list_remove(&r->hash);
	list_remove(&r->node);
	if (r->file) {
		r->close_fd = file_put(ctx, r->file);
		r->file = NULL;
		if (r->close_fd >= 0)
			ctx->usage.fds--;
	}
	list_push_back(&ctx->releasing, &r->node);
	release_kick(ctx);
}

static void
linger_flush(struct ioas_ctx *ctx)
{
	struct region *r;

	while ((r = list_first(&ctx->lingering, struct region, node)))
		region_release(ctx, r);
}

static void
linger_over(struct reactor_timer *t)
{
	linger_flush(container_of(t, struct ioas_ctx, linger));
}

void
region_put(struct ioas_ctx *ctx, struct region *r)
{
	assert(r->refs);
	if (--r->refs)
		return;
	if (ctx->mode == IOAS_IOMMUFD || ctx->dying) {
		region_release(ctx, r);
		return;
	}
	/* The same piece is often mapped again at once: window_find still sees it. */
	if (list_empty(&ctx->lingering) &&
	    reactor_timer_start(ctx->home, &ctx->linger, LINGER_NS)) {
		region_release(ctx, r);
		return;
	}
	list_push_back(&ctx->lingering, &r->node);
}

void
regions_release_all(struct ioas_ctx *ctx)
{
	struct region *r;

	reactor_timer_stop(&ctx->linger);
	linger_flush(ctx);
	list_for_each(r, &ctx->regions, all) {
		if (!r->refs)
			continue; /* goes already */
		r->refs = 0;
		region_release(ctx, r);
	}
}

void
extent_put(struct ioas_ctx *ctx, uint64_t iova, const struct extent *e)
{
	uint64_t first, last;

	if (!e->region)
		return;
	if (ctx->mode == IOAS_IOMMUFD) {
		region_put(ctx, e->region);
		return;
	}
	first = (iova + e->delta - ctx->arena.base) / WINDOW;
	last = (iova + e->delta + e->len - 1 - ctx->arena.base) / WINDOW;
	for (; first <= last; first++)
		region_put(ctx, ctx->arena.slot[first]);
}

/* Over quota with something on its way back: wait for that. */
static int
shortage(struct ioas_ctx *ctx)
{
	linger_flush(ctx);
	return release_pending(ctx) ? -EAGAIN : -ENOSPC;
}

static struct region *
region_create(struct ioas_ctx *ctx, int *err)
{
	struct region *r;

	*err = -ENOSPC;
	/* fault_free[] has one left then, too */
	if (ctx->usage.vmas >= ctx->limits.max_vmas) {
		*err = shortage(ctx);
		return NULL;
	}
	if (__atomic_fetch_add(&process_regions, 1, __ATOMIC_RELAXED) >=
	    process_limit())
		goto uncount;
	r = calloc(1, sizeof(*r));
	if (!r) {
		*err = -ENOMEM;
		goto uncount;
	}
	list_init(&r->hash);
	list_init(&r->node);
	r->close_fd = -1;
	r->fault = ctx->fault_free[--ctx->nfault_free];
	ctx->usage.vmas++;
	return r;
uncount:
	__atomic_fetch_sub(&process_regions, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* The place is known. From here on the signal handler finds it. */
static void
region_publish(struct ioas_ctx *ctx, struct region *r)
{
	struct fault_region *fr = &ctx->fault->regions[r->fault];

	list_push_back(&ctx->regions, &r->all);
	ctx->usage.arena_used += r->room;
	__atomic_store_n(&fr->len, r->room, __ATOMIC_RELAXED);
	__atomic_store_n(&fr->addr, r->addr, __ATOMIC_RELEASE);
}

static void
region_uncreate(struct ioas_ctx *ctx, struct region *r)
{
	ctx->fault_free[ctx->nfault_free++] = r->fault;
	ctx->usage.vmas--;
	__atomic_fetch_sub(&process_regions, 1, __ATOMIC_RELAXED);
	free(r);
}

int
window_create(struct ioas_ctx *ctx, const struct file_id *id, uint64_t piece,
	      uint32_t want, struct region **out)
{
	struct region *r;
	int err;

	r = region_create(ctx, &err);
	if (!r)
		return err;
	if (slot_alloc(&ctx->arena, want, r, &r->slot)) {
		region_uncreate(ctx, r);
		return shortage(ctx);
	}
	r->id = *id;
	r->off = piece * WINDOW;
	r->addr = ctx->arena.base + r->slot * WINDOW;
	r->room = WINDOW;
	r->prot = id->write ? PROT_READ | PROT_WRITE : PROT_READ;
	region_publish(ctx, r);
	list_push_back(&ctx->windows[file_hash(id, piece)], &r->hash);
	*out = r;
	return 0;
}

/*
 * A file that has grown is mapped on with another descriptor: if that is another open file, the kernel makes it another VMA. So
 * each time counts as a mapping, until the window goes.
 */
int
window_may_grow(struct ioas_ctx *ctx, uint32_t n)
{
	if (n > ctx->limits.max_vmas - ctx->usage.vmas)
		return shortage(ctx);
	if (__atomic_load_n(&process_regions, __ATOMIC_RELAXED) + n >
	    process_limit())
		return -ENOSPC;
	return 0;
}

void
window_grow(struct ioas_ctx *ctx, struct region *r)
{
	r->grown++;
	ctx->usage.vmas++;
	__atomic_fetch_add(&process_regions, 1, __ATOMIC_RELAXED);
}

int
mapping_create(struct ioas_ctx *ctx, uint64_t len, uint64_t align,
	       struct region **out)
{
	struct region *r;
	int err;

	if (len > ctx->arena.len)
		return -ENOSPC;
	r = region_create(ctx, &err);
	if (!r)
		return err;
	r->span = span_alloc(&ctx->arena, len, align);
	if (!r->span) {
		region_uncreate(ctx, r);
		return shortage(ctx);
	}
	r->addr = r->span->addr;
	r->room = r->len = len;
	region_publish(ctx, r);
	*out = r;
	return 0;
}

struct closing {
	struct work work;
	int fd;
};

static void
close_work(struct work *w)
{
	close(container_of(w, struct closing, work)->fd);
}

static void
close_done(struct work *w)
{
	free(container_of(w, struct closing, work));
}

void
fd_close_later(struct ioas_ctx *ctx, int fd)
{
	struct closing *c;

	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c) { /* better slow than leaking */
		close(fd);
		return;
	}
	c->fd = fd;
	c->work.fn = close_work;
	c->work.done = close_done;
	work_submit(ctx->limits.allow_any_fs ? WORK_CLOSE : WORK_CONTROL,
		    &c->work);
}
