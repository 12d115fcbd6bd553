/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that comes and goes under a running controller.
 *
 * A ring page that is unmapped pauses its queue, at once and without waiting: nothing
 * is fetched, completions are held in order. When the same IOVA is mapped again (to
 * whatever host memory) the queue goes on, with the doorbells rung meanwhile. Data
 * memory is different: I/O may be writing to it, so an unmap waits for just those
 * requests that use it.
 */
#include <stdlib.h>

#include "internal.h"

#define LOST_NS 2000000000u  /* work may wait that long for its queue */
#define UNMAP_NS 4000000000u /* a client waits 5 s for its answer */
#define TICK_NS 100000000u

/* Host memory that goes. */
struct run {
	uint64_t host, len;
};

struct unmap_wait {
	struct list node; /* ctrl->unmaps */
	struct ioas_unmap *u;
	uint64_t seq;	  /* requests mapped later use other extents */
	uint32_t pending; /* requests */
	uint64_t since;
	uint32_t n;
	struct run runs[]; /* by address; none touch */
};

void
cq_update_hold(struct nvme_cq *cq)
{
	if (cq->ring.missing) {
		cq->hold |= CQ_HOLD_RING;
		cq->group->ctrl->map_lost = true;
		ctrl_tick(cq->group->ctrl, TICK_NS);
	} else if (cq->hold & CQ_HOLD_RING) {
		cq->hold &= (uint8_t)~CQ_HOLD_RING;
		if (!cq->hold)
			cq_release_held(cq);
	}
}

void
sq_update_stop(struct nvme_sq *sq)
{
	if (sq->ring.missing || sq->cq->ring.missing) {
		sq->stop |= SQ_STOP_RING;
		sq->group->ctrl->map_lost = true;
		ctrl_tick(sq->group->ctrl, TICK_NS);
	} else {
		sq->stop &= (uint8_t)~SQ_STOP_RING;
	}
}

/* Something was mapped: which rings are whole again? */
void
map_step(struct nvme_ctrl *ctrl)
{
	struct ioas_view *view = ctrl->group.view;

	if (!ctrl->map_changed)
		return;
	ctrl->map_changed = false;
	if (ctrl->map_lost) {
		ctrl->map_lost = false; /* set again by those that still lack */
		for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
			struct nvme_cq *cq = ctrl->cqs[i];

			if (cq && cq->ring.missing)
				ring_resolve(&cq->ring, view);
			if (cq)
				cq_update_hold(cq);
		}
		for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
			struct nvme_sq *sq = ctrl->sqs[i];

			if (sq && sq->ring.missing)
				ring_resolve(&sq->ring, view);
			if (sq)
				sq_update_stop(sq);
		}
	}
	dbbuf_map(ctrl);
	req_retry(&ctrl->mem_waits);
}

/* Done once for all maps of a round, in map_step(). */
void
ctrl_map(struct ioas_listener *l, const struct ioas_extent *e)
{
	struct nvme_ctrl *ctrl = container_of(l, struct nvme_ctrl, listener);

	ctrl->map_changed = true;
	ctrl_work(ctrl);
}

/* ---- rings: by IOVA ---- */

static bool
ring_lost(struct nvme_ring *ring, const struct ioas_extent *e, uint32_t n)
{
	uint64_t len = (uint64_t)ring->npages * NVME_PAGE;
	uint32_t i = 0, end = n;
	bool lost = false;

	while (i < end) { /* the first one that ends beyond the ring's start */
		uint32_t mid = i + (end - i) / 2;

		if (e[mid].iova + (e[mid].len - 1) < ring->iova)
			i = mid + 1;
		else
			end = mid;
	}
	for (;
	     i < n && (e[i].iova < ring->iova || e[i].iova - ring->iova < len);
	     i++)
		lost |= ring_unmap(ring, e[i].iova, e[i].len);
	return lost;
}

static void
unmap_rings(struct nvme_ctrl *ctrl, const struct ioas_extent *e, uint32_t n)
{
	bool lost = false;

	for (unsigned i = 0; i <= ctrl->cfg.io_queues; i++) {
		struct nvme_cq *cq = ctrl->cqs[i];
		struct nvme_sq *sq = ctrl->sqs[i];

		if (cq && ring_lost(&cq->ring, e, n)) {
			cq_update_hold(cq);
			lost = true;
		}
		if (sq && ring_lost(&sq->ring, e, n))
			lost = true;
	}
	for (unsigned i = 0; lost && i <= ctrl->cfg.io_queues; i++)
		if (ctrl->sqs[i])
			sq_update_stop(ctrl->sqs[i]);
}

/* ---- I/O: by host address ---- */

/*
 * Sort, in steps of a byte of the page number: 65 535 runs in no order at all take a millisecond so, and ten
 * by qsort. @tmp has as much room.
 */
static void
runs_sort(struct run *runs, struct run *tmp, uint32_t n)
{
	uint64_t low = UINT64_MAX, high = 0;
	struct run *from = runs, *to = tmp;

	for (uint32_t i = 0; i < n; i++) {
		low = MIN(low, runs[i].host);
		high = MAX(high, runs[i].host);
	}
	for (unsigned shift = 12; n && (high - low) >> shift; shift += 8) {
		uint32_t at[257] = { 0 };
		struct run *swap = from;

		for (uint32_t i = 0; i < n; i++)
			at[((from[i].host - low) >> shift & 255) + 1]++;
		for (unsigned b = 0; b < 256; b++)
			at[b + 1] += at[b];
		for (uint32_t i = 0; i < n; i++)
			to[at[(from[i].host - low) >> shift & 255]++] = from[i];
		from = to;
		to = swap;
	}
	if (from != runs)
		memcpy(runs, from, n * sizeof(*runs));
}

/* Two extents may be the same memory: overlapping runs become one, too. */
static uint32_t
runs_merge(struct run *runs, uint32_t n)
{
	uint32_t last = 0;

	for (uint32_t i = 1; i < n; i++) {
		uint64_t off = runs[i].host - runs[last].host;

		if (off <= runs[last].len)
			runs[last].len = MAX(runs[last].len, off + runs[i].len);
		else
			runs[++last] = runs[i];
	}
	return n ? last + 1 : 0;
}

/* NULL: no memory. */
static struct unmap_wait *
wait_create(const struct ioas_extent *e, uint32_t n)
{
	struct unmap_wait *w = malloc(sizeof(*w) + n * sizeof(w->runs[0]));
	struct run *tmp = malloc(n * sizeof(*tmp));

	if (!w || !tmp) {
		free(w);
		free(tmp);
		return NULL;
	}
	w->n = 0;
	for (uint32_t i = 0; i < n; i++)
		if (!(e[i].prot & IOAS_NOHOST))
			w->runs[w->n++] = (struct run){ e[i].iova + e[i].delta,
							e[i].len };
	runs_sort(w->runs, tmp, w->n);
	w->n = runs_merge(w->runs, w->n);
	free(tmp);
	return w;
}

static bool
touches(const struct unmap_wait *w, uint64_t host, uint64_t len)
{
	uint32_t i = 0, end = w->n;

	while (i < end) { /* the first run that ends beyond @host */
		uint32_t mid = i + (end - i) / 2;

		if (w->runs[mid].host + w->runs[mid].len <= host)
			i = mid + 1;
		else
			end = mid;
	}
	return i < w->n && w->runs[i].host < host + len;
}

static bool
req_uses(const struct nvme_req *req, const struct unmap_wait *w)
{
	for (unsigned i = 0; i < req->iovcnt; i++)
		if (touches(w, (uintptr_t)req->iov[i].iov_base,
			    req->iov[i].iov_len))
			return true;
	return false;
}

static uint32_t
unmap_scan(struct nvme_ctrl *ctrl, const struct unmap_wait *w)
{
	uint32_t n = 0;

	for (unsigned i = 0; i <= ctrl->cfg.io_queues; i++) {
		struct nvme_req *req;

		if (!ctrl->sqs[i])
			continue;
		list_for_each(req, &ctrl->sqs[i]->inflight, node) {
			if (req_uses(req, w)) {
				req->unmaps = 1;
				n++;
			}
		}
	}
	return n;
}

/* One look at the rings and one at the requests, however many extents go. */
void
ctrl_unmap(struct ioas_listener *l, const struct ioas_extent *e, uint32_t n,
	   struct ioas_unmap *u)
{
	struct nvme_ctrl *ctrl = container_of(l, struct nvme_ctrl, listener);
	struct nvme_group *g = &ctrl->group;
	struct unmap_wait *w;

	unmap_rings(ctrl, e, n);
	for (uint32_t i = 0; i < n; i++)
		dbbuf_unmap(ctrl, e[i].iova, e[i].len);
	if (!g->io_inflight && !g->admin_inflight) {
		ioas_unmap_ack(u);
		return;
	}
	w = wait_create(e, n);
	if (!w) {
		/* Never answer early: it is owed until the listener goes. */
		ctrl_fail_for_good(ctrl, "no memory to wait for an unmap");
		return;
	}
	w->pending = unmap_scan(ctrl, w);
	if (!w->pending) {
		free(w);
		ioas_unmap_ack(u);
		return;
	}
	w->u = u;
	w->seq = g->seq;
	w->since = reactor_now();
	list_push_back(&ctrl->unmaps, &w->node);
	ctrl_tick(ctrl, UNMAP_NS);
}

/* The same requests are found as when they were counted: iov and seq stand. */
void
unmap_req_done(struct nvme_req *req)
{
	struct nvme_ctrl *ctrl = req->sq->group->ctrl;
	struct unmap_wait *w, *tmp;

	req->unmaps = 0;
	list_for_each_safe(w, tmp, &ctrl->unmaps, node) {
		struct ioas_unmap *u = w->u;

		if (req->seq >= w->seq || !req_uses(req, w) || --w->pending)
			continue;
		list_remove(&w->node);
		free(w);
		ioas_unmap_ack(u);
	}
}

/* Before the listener goes, which answers what is still owed. */
void
map_free(struct nvme_ctrl *ctrl)
{
	struct unmap_wait *w, *tmp;

	list_for_each_safe(w, tmp, &ctrl->unmaps, node) {
		list_remove(&w->node);
		free(w);
	}
}

/* Does a doorbell or a completion wait for a queue's memory? */
static bool
work_waits(struct nvme_ctrl *ctrl)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = ctrl->sqs[i];

		if (ctrl->cqs[i] && ctrl->cqs[i]->held_head)
			return true;
		if (sq && sq->stop == SQ_STOP_RING &&
		    guest_load32(sq->tail_db) != sq->head)
			return true;
	}
	return false;
}

/* From the timer. */
void
map_tick(struct nvme_ctrl *ctrl, uint64_t now)
{
	struct unmap_wait *w;

	w = list_first(&ctrl->unmaps, struct unmap_wait, node);
	if (w && now - w->since >= UNMAP_NS)
		ctrl_fail(ctrl, "I/O on memory that goes does not end");
	else if (w)
		ctrl_tick(ctrl, UNMAP_NS - (now - w->since));
	if (!list_empty(&ctrl->mem_waits)) {
		ctrl->map_changed = true;
		ctrl_work(ctrl);
	}
	if (!ctrl->map_lost || ctrl->state == CTRL_FAILED)
		return;
	ctrl_tick(ctrl, TICK_NS);
	if (!work_waits(ctrl))
		ctrl->map_lost_since = 0;
	else if (!ctrl->map_lost_since)
		ctrl->map_lost_since = now;
	else if (now - ctrl->map_lost_since > LOST_NS)
		ctrl_fail(ctrl, "a queue's memory did not come back");
}
