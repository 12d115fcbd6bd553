/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy: iommufd's IOAS_MAP and IOAS_COPY: a mapping of its own, at an address that we choose.
 * Not for legacy maps (map.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

struct mapping_job {
	struct work work;
	struct ioas_ctx *ctx;
	struct ioas_op *op;
	struct region *region;
	uint32_t id, prot;
	uint64_t iova, len;
	uint64_t map_at, map_len, map_off;
	int err;
	int close_fd; /* the client's, when we have that file already */
};

static void
mapping_work(struct work *w)
{
	struct mapping_job *job = container_of(w, struct mapping_job, work);

	job->err = arena_mmap(job->map_at, job->map_len, (int)job->region->prot,
			      job->region->file->fd, job->map_off);
}

static void
mapping_done(struct work *w)
{
	struct mapping_job *job = container_of(w, struct mapping_job, work);
	struct extent e = { .len = job->len,
			    .prot = job->prot,
			    .region = job->region };
	struct ioas_ctx *ctx = job->ctx;
	struct ioas *as = ioas_find(ctx, job->id);
	struct ioas_op *op = job->op;
	int err = ctx->dying ? -ECANCELED : job->err;

	ctx->busy = false;
	fd_close_later(ctx, job->close_fd);
	if (!err)
		err = extent_add(ctx, as, job->iova, &e);
	if (err) {
		job->region->refs = 0;
		region_release(ctx, job->region);
	} else {
		ctx->usage.maps++;
		op->iova = job->iova;
		extent_announce(ctx, as, job->iova, &e);
	}
	free(job);
	op->done(op, err);
	req_pump(ctx);
	ctx_may_end(ctx);
}

/* Where huge pages can be used, addresses are congruent with file offsets. */
static int
mapping_place(struct ioas_ctx *ctx, struct mapping_job *job, uint64_t off,
	      uint64_t granule)
{
	uint64_t align = granule == PAGE && job->len >= HUGE_2M ? HUGE_2M
								: granule;
	uint64_t skip = off % align, in_page = off % granule;
	int err;

	err = mapping_create(ctx, align_up(skip + job->len, granule), align,
			     &job->region);
	if (err)
		return err;
	job->iova = job->region->addr + skip;
	job->region->off = off;
	job->region->refs = 1;
	job->region->prot = job->prot & IOAS_WRITE ? PROT_READ | PROT_WRITE
						   : PROT_READ;
	job->map_at = job->iova - in_page;
	job->map_len = align_up(in_page + job->len, granule);
	job->map_off = off - in_page;
	return 0;
}

static struct mapping_job *
mapping_job_create(struct ioas_ctx *ctx, const struct req *r, uint32_t id)
{
	struct mapping_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->ctx = ctx;
	job->op = r->op;
	job->id = id;
	job->prot = r->prot;
	job->len = r->len;
	job->close_fd = -1;
	job->work.fn = mapping_work;
	job->work.done = mapping_done;
	return job;
}

int
mapping_map(struct ioas_ctx *ctx, struct ioas *as, const struct req *r,
	    const struct file_info *fi)
{
	uint64_t granule = file_granule(r->fd);
	struct mapping_job *job;
	int err, fd = r->fd;

	if (ctx->usage.extents >= ctx->limits.max_extents)
		return -ENOSPC;
	if (granule > WINDOW)
		return -EINVAL;
	job = mapping_job_create(ctx, r, as->id);
	if (!job)
		return -ENOMEM;
	err = mapping_place(ctx, job, r->off, granule);
	if (err)
		goto free_job;
	job->region->file = file_get(ctx, &fi->id, &fd);
	if (!job->region->file) {
		err = -ENOMEM;
		goto release;
	}
	if (fd < 0)
		ctx->usage.fds++;
	job->close_fd = fd;
	ctx->busy = true;
	work_submit(WORK_CONTROL, &job->work);
	return -EINPROGRESS;
release:
	job->region->refs = 0;
	region_release(ctx, job->region);
free_job:
	free(job);
	return err;
}

int
copy_run(struct ioas_ctx *ctx, const struct req *r)
{
	struct ioas *src = ioas_find(ctx, r->id), *dst = ioas_find(ctx, r->dst);
	struct mapping_job *job;
	struct extent *e;
	struct cursor c;
	struct file *f;
	uint64_t off;
	int err;

	if (!src || !dst)
		return -ENOENT;
	c = table_floor(&src->table, r->iova);
	if (!c.leaf)
		return -ENOENT;
	e = cursor_extent(c);
	off = r->iova - cursor_iova(c);
	if (!range_inside(off, r->len, e->len))
		return -ENOENT;
	if ((e->prot & r->prot) != r->prot)
		return -EPERM;
	if (ctx->usage.extents >= ctx->limits.max_extents)
		return -ENOSPC;
	job = mapping_job_create(ctx, r, dst->id);
	if (!job)
		return -ENOMEM;
	f = e->region->file;
	err = mapping_place(ctx, job, e->region->off + off,
			    file_granule(f->fd));
	if (err) {
		free(job);
		return err;
	}
	f->refs++;
	job->region->file = f;
	ctx->busy = true;
	work_submit(WORK_CONTROL, &job->work);
	return -EINPROGRESS;
}

int
ioas_copy(struct ioas_ctx *ctx, uint32_t src, iova_t src_iova, uint64_t len,
	  uint32_t dst, uint32_t prot, struct ioas_op *op)
{
	struct req r = { .op = op,
			 .kind = REQ_COPY,
			 .id = src,
			 .dst = dst,
			 .iova = src_iova,
			 .len = len,
			 .prot = prot,
			 .fd = -1 };

	if (ctx->mode != IOAS_IOMMUFD || !len || len % PAGE || !prot ||
	    (prot & ~(IOAS_READ | IOAS_WRITE)) ||
	    len - 1 > UINT64_MAX - src_iova)
		return -EINVAL;
	return req_submit(ctx, &r);
}
