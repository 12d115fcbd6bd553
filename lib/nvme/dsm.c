/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dataset Management (deallocate), and Flush of all namespaces: commands that
 * are a chain of bdev I/Os.
 */
#include <errno.h>

#include "internal.h"

#define RANGES_NS(n) (500 + 5 * (n)) /* what they take, about */
#define FLUSHES_NS(n) (200 + (n))

static void dsm_done(struct bdev_io *io);

static bool
dsm_valid(const struct nvme_nsref *ns, const struct nvme_dsm_range *r)
{
	return range_inside(r->slba, r->nlb, ns->nlb);
}

/* The next range that is not empty; false: no more. The device may have shrunk. */
static bool
dsm_next(struct nvme_req *req)
{
	const struct nvme_dsm_range *r = req->buf;
	uint32_t n = (req->sqe.cdw10 & 0xff) + 1;
	struct nvme_nsref *ns = req->ns;

	for (; req->step < n; req->step++) {
		uint32_t i = req->step;

		if (!r[i].nlb || !dsm_valid(ns, &r[i]))
			continue;
		req->step++;
		req->iovcnt = 0;
		req->io.done = dsm_done;
		io_submit_req(req, BDEV_DISCARD, 0, r[i].slba << ns->lba_shift,
			      (uint64_t)r[i].nlb << ns->lba_shift);
		return true;
	}
	return false;
}

static void
dsm_done(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);
	/* A device may find out only now that it cannot: a host may not rely on it. */
	int err = io->err == -EOPNOTSUPP ? 0 : io->err;
	nvme_status_t st = io_result(req, err, BDEV_DISCARD);

	if (st || !dsm_next(req))
		req_complete(req, st);
}

/* All ranges are checked before the first one is applied. */
nvme_status_t
io_dsm(struct nvme_req *req)
{
	uint32_t n = (req->sqe.cdw10 & 0xff) + 1;
	const struct nvme_dsm_range *r;
	nvme_status_t st;

	st = req_io_buf(req, NVME_PAGE);
	if (st)
		return st;
	st = req_from_host(req, req->buf, n * sizeof(*r));
	if (st)
		return st;
	r = req->buf;
	group_cost(req->sq->group, RANGES_NS(n));
	for (uint32_t i = 0; i < n; i++)
		if (!dsm_valid(req->ns, &r[i]))
			return NVME_DNR(NVME_SC_LBA_RANGE);
	/* AD (CDW11 bit 2); the other attributes are hints */
	if (!(req->sqe.cdw11 & 4) || !(req->ns->caps & BDEV_CAP_DISCARD))
		return NVME_OK;
	req->step = 0;
	return dsm_next(req) ? NVME_PENDING : NVME_OK;
}

/* ---- Flush with NSID FFFFFFFFh ---- */

static void flush_done(struct bdev_io *io);

static uint32_t
most_ns(const struct nvme_req *req)
{
	return subsys_config(req->sq->group->ctrl->subsys)->max_namespaces;
}

/* The next namespace with a cache; false: no more. */
static bool
flush_next(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;

	while (req->step < most_ns(req)) {
		struct nvme_nsref *ns = g->ns[req->step++];

		if (!ns || ns->removing || !ns->write_cache ||
		    !(ns->caps & BDEV_CAP_FLUSH))
			continue;
		req->ns = ns;
		ns->inflight++;
		req->io.done = flush_done;
		io_submit_req(req, BDEV_FLUSH, 0, 0, 0);
		return true;
	}
	return false;
}

static void
flush_done(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);
	nvme_status_t st = io_result(req, io->err, BDEV_FLUSH);
	struct nvme_nsref *ns = req->ns;

	if (st && !req->done_len)
		req->done_len = st; /* the first failure is the answer */
	if (--ns->inflight == 0 && ns->removing)
		ns_drained(ns);
	req->ns = NULL;
	if (!flush_next(req))
		req_complete(req, (nvme_status_t)req->done_len);
}

nvme_status_t
io_flush_all(struct nvme_req *req)
{
	req_slow(req);
	req->step = 0;
	req->done_len = 0;
	group_cost(req->sq->group, FLUSHES_NS(most_ns(req)));
	return flush_next(req) ? NVME_PENDING : NVME_OK;
}
