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
/*
 * Pieces of requests that are looked up among the ranges of an unmap in one round: 256 requests of 256 pieces,
 * and 60000 ranges, would take 10 ms that belong to others.
 */
#define SCAN_PIECES 1024u
_Static_assert(SCAN_PIECES >= REQ_MAX_IOV, "a request at least");

/* Host memory that goes. */
struct run {
	uint64_t host, len;
};

/* A map on its way to a group elsewhere; or an unmap, until no request uses the memory. */
struct unmap_wait {
	struct group_call call;
	struct list node;		/* g->unmaps */
	struct ioas_extent e;		/* of a map */
	struct ioas_unmap *u;		/* NULL: a map */
	const struct ioas_extent *gone; /* of an unmap; there until it is acked */
	uint32_t ngone;
	uint32_t pending; /* requests that use it, of those looked at */
	uint8_t bit;	  /* of req->unmaps, in those; 0: not begun */
	bool scanned;	  /* all have been looked at */
	uint64_t serial;  /* req->scanned, of those */
	uint64_t seq;	  /* requests mapped later use other extents */
	uint64_t since;
	uint32_t n;
	struct run runs[]; /* by address; none touch */
};

void
cq_update_hold(struct nvme_cq *cq)
{
	if (cq->ring.missing) {
		cq->hold |= CQ_HOLD_RING;
		cq->group->map_lost = true;
		group_tick(cq->group, TICK_NS);
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
		sq->group->map_lost = true;
		group_tick(sq->group, TICK_NS);
	} else {
		sq->stop &= (uint8_t)~SQ_STOP_RING;
	}
}

/* Something was mapped: which rings are whole again? */
static void
mapped_step(struct nvme_group *g)
{
	req_retry(g, &g->mem_old);
	if (!g->map_changed)
		return;
	g->map_changed = false;
	if (g->map_lost) {
		g->map_lost = false; /* set again by those that still lack */
		for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
			struct nvme_cq *cq = g->cqs[i];

			if (cq && cq->ring.missing)
				ring_resolve(&cq->ring, g->view);
			if (cq)
				cq_update_hold(cq);
		}
		for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
			struct nvme_sq *sq = g->sqs[i];

			if (sq && sq->ring.missing)
				ring_resolve(&sq->ring, g->view);
			if (sq)
				sq_update_stop(sq);
		}
		if (!g->map_lost)
			g->map_lost_since = 0; /* the next loss is another */
	}
	dbbuf_map(g);
	list_splice(&g->mem_old, &g->mem_waits);
	if (!list_empty(&g->mem_old))
		group_work(g);
}

/* Looked at once for all maps of a round, in mapped_step(). */
static void
group_mapped(struct nvme_group *g)
{
	g->map_changed = true;
	group_work(g);
}

void
ctrl_map(struct ioas_listener *l, const struct ioas_extent *e)
{
	group_mapped(&container_of(l, struct nvme_ctrl, listener)->group);
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
unmap_rings(struct nvme_group *g, const struct ioas_extent *e, uint32_t n)
{
	bool lost = false;

	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_cq *cq = g->cqs[i];
		struct nvme_sq *sq = g->sqs[i];

		if (cq && ring_lost(&cq->ring, e, n)) {
			cq_update_hold(cq);
			lost = true;
		}
		if (sq && ring_lost(&sq->ring, e, n))
			lost = true;
	}
	for (unsigned i = 0; lost && i <= NVME_MAX_IO_QUEUES; i++)
		if (g->sqs[i])
			sq_update_stop(g->sqs[i]);
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

static void
wait_back(struct group_call *c)
{
	struct unmap_wait *w = container_of(c, struct unmap_wait, call);

	if (w->u)
		ioas_unmap_ack(w->u);
	free(w);
}

/* NULL: no memory. With room for @n runs, twice: to sort them. */
static struct unmap_wait *
wait_create(struct nvme_group *g, const struct ioas_extent *gone, uint32_t n,
	    struct ioas_unmap *u)
{
	struct unmap_wait *w =
		malloc(sizeof(*w) + 2 * (size_t)n * sizeof(w->runs[0]));

	if (!w)
		return NULL;
	*w = (struct unmap_wait){ .u = u, .gone = gone, .ngone = n };
	w->call.group = g;
	w->call.back = wait_back;
	return w;
}

static void
wait_fill(struct unmap_wait *w)
{
	for (uint32_t i = 0; i < w->ngone; i++) {
		const struct ioas_extent *e = &w->gone[i];

		if (!(e->prot & IOAS_NOHOST))
			w->runs[w->n++] =
				(struct run){ e->iova + e->delta, e->len };
	}
	runs_sort(w->runs, w->runs + w->ngone, w->n);
	w->n = runs_merge(w->runs, w->n);
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

/* Looks at some of the requests that it may have to wait for; true: that were all. */
static bool
unmap_scan(struct nvme_group *g, struct unmap_wait *w)
{
	unsigned left = SCAN_PIECES;

	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_req *req;

		if (!g->sqs[i])
			continue;
		list_for_each(req, &g->sqs[i]->inflight, node) {
			if (req->scanned == w->serial || req->seq >= w->seq)
				continue;
			if (req->iovcnt > left)
				return false;
			left -= req->iovcnt;
			req->scanned = w->serial;
			if (req_uses(req, w)) {
				req->unmaps |= w->bit;
				w->pending++;
			}
		}
	}
	return true;
}

static void
unmap_answer(struct nvme_group *g, struct unmap_wait *w)
{
	g->unmap_bits &= (uint8_t)~w->bit;
	list_remove(&w->node);
	if (!list_empty(&g->unmaps))
		group_work(g); /* one may wait for the bit */
	group_return(&w->call);
}

/*
 * The first unmap that has not looked at all: one at a time, or they would lose each other's marks. With no bit
 * left it waits until another one has been answered.
 */
static void
scan_step(struct nvme_group *g)
{
	uint8_t bits = (uint8_t)~g->unmap_bits;
	struct unmap_wait *w;

	list_for_each(w, &g->unmaps, node) {
		if (w->scanned)
			continue;
		if (!w->bit && !bits)
			return;
		if (!w->bit) {
			w->bit = bits & -bits;
			g->unmap_bits |= w->bit;
		}
		group_work(g);
		w->scanned = unmap_scan(g, w);
		if (w->scanned && !w->pending)
			unmap_answer(g, w);
		return;
	}
}

void
map_step(struct nvme_group *g)
{
	scan_step(g);
	mapped_step(g);
}

/* Forget what is cached of it. One look at the rings, however many extents go. */
static void
group_forget(struct nvme_group *g, const struct ioas_extent *e, uint32_t n)
{
	unmap_rings(g, e, n);
	for (uint32_t i = 0; i < n; i++)
		dbbuf_unmap(g, e[i].iova, e[i].len);
}

/* And one at the requests. Answered when those that use it have ended. */
static void
unmap_wait(struct nvme_group *g, struct unmap_wait *w)
{
	wait_fill(w);
	w->serial = ++g->core->unmaps;
	w->seq = g->seq;
	w->since = reactor_now();
	list_push_back(&g->unmaps, &w->node);
	scan_step(g);
	if (!list_empty(&g->unmaps))
		group_tick(g, UNMAP_NS);
}

void
ctrl_unmap(struct ioas_listener *l, const struct ioas_extent *e, uint32_t n,
	   struct ioas_unmap *u)
{
	struct nvme_ctrl *ctrl = container_of(l, struct nvme_ctrl, listener);
	struct nvme_group *g = &ctrl->group;
	struct unmap_wait *w;

	group_forget(g, e, n);
	if (!g->io_inflight && !g->admin_inflight) {
		ioas_unmap_ack(u);
		return;
	}
	w = wait_create(g, e, n, u);
	if (w)
		unmap_wait(g, w);
	else /* never answer early: it is owed until the listener goes */
		ctrl_fail_for_good(ctrl, "no memory to wait for an unmap");
}

/* ---- groups elsewhere ---- */

/* On their reactor. */
static void
far_map_visit(struct group_call *c)
{
	struct unmap_wait *w = container_of(c, struct unmap_wait, call);
	struct nvme_group *g = c->group;

	if (ioas_replica_map(g->view, &w->e))
		group_fail(g, "no memory for its address space", true);
	group_mapped(g);
	group_return(c);
}

static void
far_unmap_visit(struct group_call *c)
{
	struct unmap_wait *w = container_of(c, struct unmap_wait, call);
	struct nvme_group *g = c->group;

	for (uint32_t i = 0; i < w->ngone; i++)
		ioas_replica_unmap(g->view, &w->gone[i]);
	group_forget(g, w->gone, w->ngone);
	if (g->io_inflight)
		unmap_wait(g, w);
	else
		group_return(c);
}

/* Home: pass it on. What cannot be told would be a hole, or memory used for ever. */
void
far_map(struct nvme_group *g, const struct ioas_extent *e)
{
	struct unmap_wait *w = wait_create(g, NULL, 0, NULL);

	if (!w) {
		ctrl_fail_for_good(g->ctrl, "no memory to tell of a map");
		return;
	}
	w->e = *e;
	w->call.visit = far_map_visit;
	group_call(g, &w->call);
}

void
far_unmap(struct nvme_group *g, const struct ioas_extent *e, uint32_t n,
	  struct ioas_unmap *u)
{
	struct unmap_wait *w = wait_create(g, e, n, u);

	if (!w) {
		ctrl_fail_for_good(g->ctrl, "no memory to tell of an unmap");
		return;
	}
	w->call.visit = far_unmap_visit;
	group_call(g, &w->call);
}

/* Without another look at its pieces: many such requests may end together. */
void
unmap_req_done(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;
	struct list ready = LIST_INIT(ready);
	uint8_t bits = req->unmaps;
	struct unmap_wait *w, *tmp;

	req->unmaps = 0;
	list_for_each_safe(w, tmp, &g->unmaps, node) {
		if (!(bits & w->bit) || --w->pending || !w->scanned)
			continue;
		list_remove(&w->node);
		list_push_back(&ready, &w->node);
	}
	/* The client's next one may come from within. */
	while ((w = list_first(&ready, struct unmap_wait, node)))
		unmap_answer(g, w);
}

/* Home, before its listener goes, which answers what is still owed. */
void
map_free(struct nvme_group *g)
{
	struct unmap_wait *w, *tmp;

	g->unmap_bits = 0;
	list_for_each_safe(w, tmp, &g->unmaps, node) {
		list_remove(&w->node);
		free(w);
	}
}

/* Does a doorbell or a completion wait for a queue's memory? */
static bool
work_waits(struct nvme_group *g)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = g->sqs[i];

		if (g->cqs[i] && g->cqs[i]->held_head)
			return true;
		if (sq && sq->stop == SQ_STOP_RING &&
		    guest_load32(sq->tail_db) != sq->head)
			return true;
	}
	return false;
}

/* From the timer. */
void
map_tick(struct nvme_group *g, uint64_t now)
{
	struct unmap_wait *w;

	w = list_first(&g->unmaps, struct unmap_wait, node);
	if (w && now - w->since >= UNMAP_NS)
		group_fail(g, "I/O on memory that goes does not end", false);
	else if (w)
		group_tick(g, UNMAP_NS - (now - w->since));
	if (!list_empty(&g->mem_waits))
		group_mapped(g);
	if (!g->map_lost || g->hushed == HUSH_MUTE)
		return;
	group_tick(g, TICK_NS);
	if (!work_waits(g))
		g->map_lost_since = 0;
	else if (!g->map_lost_since)
		g->map_lost_since = now;
	else if (now - g->map_lost_since > LOST_NS)
		group_fail(g, "a queue's memory did not come back", false);
}
