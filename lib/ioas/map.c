/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map: IOVA ranges come. Legacy maps are extents in windows; with the windows there
 * already, no mmap is done. iommufd: see copy.c. Not for what a fd may be (file.c).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "belfry/log.h"
#include "internal.h"

/* A map that waits for mmap. region[] is pinned by a reference each. */
struct map_job {
	struct work work;
	struct ioas_ctx *ctx;
	struct req req;
	int err;
	uint32_t n;
	struct {
		struct region *region;
		uint64_t from,
			to; /* to be mapped, in the region; from == to: stands */
	} part[];
};

int
extent_add(struct ioas_ctx *ctx, struct ioas *as, uint64_t iova,
	   const struct extent *e)
{
	int err;

	if (ctx->usage.extents >= ctx->limits.max_extents)
		return -ENOSPC;
	err = table_insert(&as->table, iova, e);
	if (!err)
		ctx->usage.extents++;
	return err;
}

void
extent_announce(struct ioas_ctx *ctx, struct ioas *as, uint64_t iova,
		const struct extent *e)
{
	struct ioas_extent pub = { iova, e->len, e->delta, e->prot };
	struct ioas_listener *l, *tmp;

	if (as != ctx->attached)
		return;
	list_for_each_safe(l, tmp, &ctx->listeners, node)
		l->map(l, &pub);
}

static uint32_t
piece_count(uint64_t off, uint64_t len)
{
	return (uint32_t)((off + len - 1) / WINDOW - off / WINDOW + 1);
}

/* Is [iova, +len) exactly one map, of these pages? */
static bool
is_duplicate(struct ioas_ctx *ctx, struct ioas *as, const struct req *r,
	     const struct file_info *fi)
{
	struct cursor c = table_from(&as->table, r->iova);
	uint64_t pos = 0;
	uint64_t foff;
	struct extent *e;

	for (; c.leaf; c = cursor_next(c), pos += e->len) {
		e = cursor_extent(c);
		if (cursor_iova(c) - r->iova != pos || e->len > r->len - pos ||
		    !!(e->flags & EXTENT_CONT) != !!pos)
			return false;
		if ((e->prot & ~IOAS_NOHOST) != r->prot || !e->region != !fi)
			return false;
		if (fi) {
			foff = e->region->off +
			       (r->iova + pos + e->delta - e->region->addr);
			if (!file_same(&e->region->id, &fi->id) ||
			    foff != r->off + pos)
				return false;
		}
		if (!(e->flags & EXTENT_MORE))
			return pos + e->len == r->len;
	}
	return false;
}

/*
 * Insert the extents of a map whose windows stand; takes the references on them.
 * Windows that are neighbours in the arena too make one extent.
 */
static int
legacy_commit(struct ioas_ctx *ctx, struct ioas *as, const struct req *r,
	      struct region **region, uint32_t n)
{
	uint64_t iova = r->iova, left = r->len, off = r->off, len;
	struct extent e = { .prot = r->prot };
	uint64_t at, first = iova;
	uint32_t i = 0;
	int err = 0;

	while (i < n) {
		at = region[i]->addr + off % WINDOW;
		len = WINDOW - off % WINDOW;
		e.region = region[i];
		while (++i < n &&
		       region[i]->addr == region[i - 1]->addr + WINDOW)
			len += WINDOW;
		e.len = MIN(len, left);
		e.delta = at - iova;
		e.flags = (iova != first ? EXTENT_CONT : 0) |
			  (i < n ? EXTENT_MORE : 0);
		err = extent_add(ctx, as, iova, &e);
		if (err)
			goto undo;
		iova += e.len;
		off += e.len;
		left -= e.len;
	}
	return 0;
undo:
	while (iova != first) {
		struct cursor c = table_floor(&as->table, iova - 1);

		iova = cursor_iova(c);
		table_remove(&as->table, iova);
		ctx->usage.extents--;
	}
	return err;
}

static void
map_announce(struct ioas_ctx *ctx, struct ioas *as, uint64_t iova)
{
	struct cursor c = table_floor(&as->table, iova);
	struct extent e;

	ctx->usage.maps++;
	for (; c.leaf; c = cursor_next(c)) {
		e = *cursor_extent(c);
		extent_announce(ctx, as, cursor_iova(c), &e);
		if (!(e.flags & EXTENT_MORE))
			break;
	}
}

static int
nohost_run(struct ioas_ctx *ctx, struct ioas *as, const struct req *r)
{
	struct extent e = { .len = r->len, .prot = r->prot | IOAS_NOHOST };
	int err;

	if (table_overlaps(&as->table, r->iova, r->len))
		return is_duplicate(ctx, as, r, NULL) ? 0 : -EEXIST;
	err = extent_add(ctx, as, r->iova, &e);
	if (!err)
		map_announce(ctx, as, r->iova);
	return err;
}

static void
map_work(struct work *w)
{
	struct map_job *job = container_of(w, struct map_job, work);
	struct region *r;
	uint32_t i;

	for (i = 0; i < job->n && !job->err; i++) {
		r = job->part[i].region;
		if (job->part[i].from < job->part[i].to)
			job->err =
				arena_mmap(r->addr + job->part[i].from,
					   job->part[i].to - job->part[i].from,
					   (int)r->prot, job->req.fd,
					   r->off + job->part[i].from);
		if (job->err)
			break;
	}
	job->n = job->err ? i : job->n; /* so many are good */
}

/* Back on the home reactor: windows are as they should be, or not. */
static void
map_done(struct work *w)
{
	struct map_job *job = container_of(w, struct map_job, work);
	uint32_t i, total = piece_count(job->req.off, job->req.len);
	struct ioas_op *op = job->req.op;
	struct ioas_ctx *ctx = job->ctx;
	struct ioas *as = ioas_find(ctx, job->req.id);
	struct region **region;
	int err = job->err;

	ctx->busy = false;
	fd_close_later(ctx, job->req.fd);
	for (i = 0; i < job->n; i++)
		job->part[i].region->len =
			MAX(job->part[i].region->len, job->part[i].to);
	if (ctx->dying)
		err = -ECANCELED;
	region = err ? NULL : malloc(total * sizeof(*region));
	if (!err && !region)
		err = -ENOMEM;
	if (!err) {
		for (i = 0; i < total; i++)
			region[i] = job->part[i].region;
		err = legacy_commit(ctx, as, &job->req, region, total);
		free(region);
	}
	if (err)
		for (i = 0; i < total; i++)
			region_put(ctx, job->part[i].region);
	else
		map_announce(ctx, as, job->req.iova);
	free(job);
	op->done(op, err);
	req_pump(ctx);
	ctx_may_end(ctx);
}

/* Find or make the windows of job->req; pins all. On error none is pinned. */
static int
windows_get(struct ioas_ctx *ctx, struct map_job *job,
	    const struct file_info *fi, bool *ready)
{
	uint64_t off = job->req.off, end = off + job->req.len, piece, need,
		 have;
	struct region *r, *before = NULL;
	uint32_t grow = 0;
	int err;

	*ready = true;
	for (piece = off / WINDOW; piece <= (end - 1) / WINDOW; piece++) {
		need = align_up(MIN(end - piece * WINDOW, WINDOW), PAGE);
		have = align_up(MIN(fi->size - piece * WINDOW, WINDOW), PAGE);
		r = window_find(ctx, &fi->id, piece);
		if (r && !r->refs && r->len && r->len < need) {
			region_release(ctx, r); /* it lingers: a new one */
			r = NULL;
		}
		if (!r) {
			err = window_create(
				ctx, &fi->id, piece,
				before ? before->slot + 1 : UINT32_MAX, &r);
			if (err)
				goto put;
		}
		list_remove(&r->node); /* it lingers no more */
		r->refs++;
		job->part[job->n].region = r;
		job->part[job->n].from = job->part[job->n].to = r->len;
		if (r->len < need) { /* new, or the file has grown */
			job->part[job->n].to = have;
			*ready = false;
			grow += r->len > 0;
		}
		job->n++;
		before = r;
	}
	err = grow ? window_may_grow(ctx, grow) : 0;
	if (!err)
		return 0;
put:
	while (job->n)
		region_put(ctx, job->part[--job->n].region);
	return err;
}

static int
legacy_map(struct ioas_ctx *ctx, struct ioas *as, const struct req *r,
	   const struct file_info *fi)
{
	uint64_t pieces = (r->off + r->len - 1) / WINDOW - r->off / WINDOW + 1;
	struct map_job *job;
	bool ready;
	uint32_t i;
	int err;

	if (pieces > ctx->arena.nslots || pieces > ctx->limits.max_vmas)
		return -ENOSPC;
	job = calloc(1, sizeof(*job) + pieces * sizeof(job->part[0]));
	if (!job)
		return -ENOMEM;
	job->ctx = ctx;
	job->req = *r;
	err = windows_get(ctx, job, fi, &ready);
	if (!err && !ready) {
		for (i = 0; i < job->n; i++)
			if (job->part[i].from &&
			    job->part[i].from < job->part[i].to)
				window_grow(ctx, job->part[i].region);
		ctx->busy = true;
		job->work.fn = map_work;
		job->work.done = map_done;
		work_submit(WORK_CONTROL, &job->work);
		return -EINPROGRESS;
	}
	if (!err) {
		struct region *region[pieces <= 16 ? pieces : 1], **p = region;

		if (pieces > 16)
			p = malloc(pieces * sizeof(*p));
		err = p ? 0 : -ENOMEM;
		for (i = 0; !err && i < pieces; i++)
			p[i] = job->part[i].region;
		if (!err)
			err = legacy_commit(ctx, as, r, p, (uint32_t)pieces);
		if (p != region)
			free(p);
		for (i = 0; err && i < pieces; i++)
			region_put(ctx, job->part[i].region);
		if (!err)
			map_announce(ctx, as, r->iova);
	}
	free(job);
	return err;
}

int
map_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *as = ioas_find(ctx, r->id);
	struct file_info fi;
	int err;

	if (!as)
		return -ENOENT;
	if (r->fd < 0)
		return nohost_run(ctx, as, r);
	err = file_screen(r->fd, r->prot, r->off, r->len,
			  ctx->limits.allow_any_fs, &fi);
	if (err)
		return err;
	if (ctx->mode == IOAS_IOMMUFD)
		return mapping_map(ctx, as, r, &fi);
	if (table_overlaps(&as->table, r->iova, r->len))
		err = is_duplicate(ctx, as, r, &fi) ? 0 : -EEXIST;
	else
		err = legacy_map(ctx, as, r, &fi);
	/* A window holds the memory, so this close frees nothing. */
	if (!err && ctx->limits.allow_any_fs)
		fd_close_later(ctx, r->fd);
	else if (!err)
		close(r->fd);
	return err;
}

int
ioas_map(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len, int fd,
	 uint64_t off, uint32_t prot, struct ioas_op *op)
{
	bool legacy = ctx->mode == IOAS_LEGACY;
	struct req r = { .op = op,
			 .kind = REQ_MAP,
			 .id = id,
			 .iova = iova,
			 .len = len,
			 .off = off,
			 .fd = fd,
			 .prot = prot };

	if (fd < -1)
		r.fd = -1;
	if (!len || len % PAGE || !prot || (prot & ~(IOAS_READ | IOAS_WRITE)) ||
	    (fd >= 0 && (off > INT64_MAX || len > INT64_MAX - off)) ||
	    (!legacy && fd < 0) ||
	    (legacy &&
	     (iova % PAGE || off % PAGE || len - 1 > UINT64_MAX - iova)))
		return -EINVAL;
	op->iova = iova;
	log_guest_debug(ioas,
			"ioas %" PRIu32 ": map %#" PRIx64 ", %#" PRIx64
			" bytes, access %" PRIu32,
			id, iova, len, prot);
	return req_submit(ctx, &r);
}
