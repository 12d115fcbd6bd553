/* SPDX-License-Identifier: BSD-3-Clause */
/* The submission queue: doorbell -> copies of the entries -> requests. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define FETCH_MAX 32u
#define BESIDE_ROUNDS 64u  /* for so long it counts as there */
#define FETCH_LEAST 4u	   /* of a queue, however many have work */
#define ADMIN_FETCH_MAX 4u /* some of these take long */
#define ADMIN_REST 24u	   /* times as long as they took, and then the next */
#define ADMIN_REST_MAX_NS 1000000u
#define ROUND_BYTES (1u << 20) /* of a controller: some disks copy at once */

static inline void *
sq_entry(const struct nvme_sq *sq, uint32_t i)
{
	return (char *)sq->page[i / 64] + i % 64 * sizeof(struct nvme_sqe);
}

/*
 * Requests that it may still have. Never more than a full queue of them, though
 * its slots are free again once fetched: so the depths of the queues that exist
 * bound what a controller holds.
 */
static uint32_t
sq_room(const struct nvme_sq *sq)
{
	uint32_t used = *sq->used, limit = *sq->limit;
	uint32_t group = used < limit ? limit - used : 0;
	uint32_t own = sq->depth - 1 - sq->inflight_n;

	return MIN(group, own);
}

/* Was somebody else there a moment ago who does little? */
static bool
light_beside(const struct nvme_core *core, const struct nvme_group *g)
{
	unsigned i = core->light[0].group == g;

	return core->light[i].group &&
	       core->round - core->light[i].round < BESIDE_ROUNDS;
}

static void
light_seen(struct nvme_core *core, struct nvme_group *g)
{
	if (unlikely(core->light[0].group != g)) {
		core->light[1] = core->light[0];
		core->light[0].group = g;
	}
	core->light[0].round = core->round;
}

/*
 * A round of the group: what it may fetch, and one of its queues, going by how many
 * had work the last time. Who sends a command at a time waits for one round: while there
 * is such a one, all that have more to do together fetch no more than FETCH_BESIDE.
 */
static void
round_begin(struct nvme_group *g)
{
	struct nvme_core *core = g->core;
	bool light = g->taken < LIGHT && !g->short_of;

	if (light)
		light_seen(core, g);
	g->beside = light_beside(core, g);
	g->own_left = g->beside ? LIGHT : FETCH_MAX;
	g->left = g->beside && !light ? &core->beside_left : &g->own_left;
	g->round = core->round;
	g->taken = 0;
	g->short_of = false;
	g->budget = MAX(FETCH_MAX / MAX(g->busy, 1u), FETCH_LEAST);
	g->busy = 0;
	g->blocks_left = (int32_t)((ROUND_BYTES >> g->block_shift) - FETCH_MAX);
	if (unlikely(g->beside && *core->clock < g->rest_until))
		g->blocks_left = 0; /* group_cost() */
}

/*
 * Admin commands cost what they cost, a microsecond or thirty: beside a light client those of
 * a controller have a twenty-fifth of the time.
 */
static uint32_t __attribute__((noinline)) admin_budget(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;
	uint64_t now = *g->core->clock;

	if (!g->beside || now >= g->admin_due)
		return ADMIN_FETCH_MAX;
	g->short_of = true;
	sq->worked = now;
	return 0;
}

/*
 * Commands that its controller may still start in this round, however many queues
 * it has. The blocks that go with them are counted before they are started, from NLB:
 * a little less than ROUND_BYTES, as NLB is 0's based.
 */
static uint32_t
sq_budget(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;
	struct nvme_core *core = g->core;

	if (g->round != core->round)
		round_begin(g);
	g->busy++;
	if (unlikely(!*g->left || g->blocks_left <= 0)) {
		if (!g->denied)
			g->denied = sq;
		if (!core->denied && g->taken < FETCH_BESIDE)
			core->denied = g;
		g->short_of = true;
		sq->worked = *core->clock;
		return 0;
	}
	return MIN(*g->left, likely(sq->sqid) ? g->budget : admin_budget(sq));
}

/* Copy entries to requests, until @budget or the round's blocks are used up. */
static unsigned
sq_copy(struct nvme_sq *sq, uint32_t tail, unsigned budget,
	struct nvme_req **batch)
{
	struct nvme_group *g = sq->group;
	struct nvme_pool *pool = &g->core->reqs;
	struct list *last = sq->inflight.prev;
	uint32_t head = sq->head, depth = sq->depth;
	int32_t blocks = g->blocks_left;
	unsigned n = 0;

	while (head != tail && n < budget && blocks > 0) {
		struct nvme_req *req = req_get(sq, pool);

		if (unlikely(!req))
			break;
		guest_copy(&req->sqe, sq_entry(sq, head), sizeof(req->sqe));
		if (unlikely(++head == depth))
			head = 0;
		req->node.prev = last;
		last->next = &req->node;
		last = &req->node;
		batch[n++] = req;
		blocks -= (uint16_t)req->sqe.cdw12;
	}
	last->next = &sq->inflight;
	sq->inflight.prev = last;
	sq->head = head;
	g->blocks_left = blocks;
	g->taken += n;
	*g->left -= n;
	if (!*g->left)
		g->short_of = true;
	sq_promise(sq, n);
	return n;
}

/* A client cut its memory off: what was copied may be made-up zeros. */
static void
sq_forget(struct nvme_sq *sq, struct nvme_req **batch, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		req_drop(batch[i]);
	group_fail(sq->group, "its memory file was truncated", true);
}

static void __attribute__((noinline))
start_admin(struct nvme_group *g, struct nvme_req **batch, unsigned n)
{
	uint64_t begin = util_now_ns(), end; /* cold: no I/O */

	for (unsigned i = 0; i < n; i++) {
		req_slow(batch[i]);
		req_start(batch[i]);
	}
	if (!n)
		return;
	end = util_now_ns(); /* cold: likewise */
	g->admin_due = end + MIN(ADMIN_REST * (end - begin), ADMIN_REST_MAX_NS);
}

static void
start_io(struct nvme_req **batch, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		nvme_status_t st = io_start(batch[i]);

		if (unlikely(st != NVME_PENDING))
			req_complete(batch[i], st);
	}
}

/*
 * Start commands, as many as this round allows; gives how many. -EPROTO: bad doorbell value, the
 * caller reports the event. The entries are copied before the first one is
 * started, so that one check for made-up zeros covers them all.
 */
int
sq_fetch(struct nvme_sq *sq)
{
	struct nvme_req *batch[FETCH_MAX];
	uint32_t tail = guest_load_acquire32(sq->tail_db);
	struct nvme_cq *cq = sq->cq;
	unsigned budget, room, n;

	if (unlikely(sq->shadow_db != NULL))
		tail = sq_load_tail(sq);
	if (tail == sq->head)
		return 0;
	if (unlikely(tail >= sq->depth))
		return -EPROTO;
	sq->tail = tail;
	budget = sq_budget(sq);
	room = sq_room(sq);
	budget = MIN(budget, room);
	room = cq_room(cq);
	if (room < budget) {
		cq_check_head(cq);
		room = cq_room(cq);
		budget = MIN(budget, room); /* so cq_post() cannot fail */
	}
	n = sq_copy(sq, tail, budget, batch);
	if (unlikely(ioas_faulted(sq->group->ioas))) {
		sq_forget(sq, batch, n);
		return 0;
	}
	if (likely(sq->sqid))
		start_io(batch, n);
	else
		start_admin(sq->group, batch, n);
	if (unlikely(sq->event_idx != NULL))
		dbbuf_progress(sq);
	return (int)n;
}

/* Before a sleep and in it: is there something to do? */
bool
sq_pending(struct nvme_sq *sq)
{
	uint32_t tail;

	if (sq->stop)
		return false;
	tail = guest_load_acquire32(sq->tail_db);
	if (sq->shadow_db)
		tail = sq_load_tail(sq);
	if (tail >= sq->depth)
		return tail != sq->bad_tail; /* to be reported */
	if (tail == sq->head)
		return false;
	if (cq_room(sq->cq) == 0) {
		cq_check_head(sq->cq);
		if (cq_room(sq->cq) == 0)
			return false; /* the head's doorbell will be seen then */
	}
	return sq_room(sq) > 0;
}

/* On the group's reactor; that the queue may be was checked. */
nvme_status_t
sq_create(struct nvme_group *g, uint16_t sqid, uint16_t cqid, iova_t iova,
	  uint32_t depth)
{
	struct nvme_sq *sq;
	nvme_status_t st;

	if (cold_reserve(g->core))
		return NVME_SC_INTERNAL;
	sq = aligned_alloc(CACHE_LINE, align_up(sizeof(*sq), CACHE_LINE));
	if (!sq)
		return NVME_SC_INTERNAL;
	*sq = (struct nvme_sq){ .group = g,
				.cq = g->cqs[cqid],
				.sqid = sqid,
				.id_word = (uint32_t)sqid << 16,
				.depth = depth,
				.bad_tail = UINT32_MAX };
	st = ring_init(&sq->ring, g, iova, depth * sizeof(struct nvme_sqe),
		       IOAS_READ, sqid == 0);
	if (st)
		goto free_sq;
	sq->page = sq->ring.page;
	list_init(&sq->node);
	list_init(&sq->inflight);
	sq->used = sqid ? &g->io_inflight : &g->admin_inflight;
	sq->limit = sqid ? &g->quota : &g->admin_quota;
	sq->reg_db = &g->ctrl->db[2 * sqid];
	guest_store32(sq->reg_db, 0);
	g->sqs[sqid] = sq;
	if (group_update_quota(g)) {
		g->sqs[sqid] = NULL;
		st = NVME_SC_INTERNAL;
		goto fini_ring;
	}
	sq_shadow(sq);
	sq_update_stop(sq);
	if (g->hushed)
		sq->stop |= SQ_STOP_CTRL;
	sq_heat(sq);
	g->pairs = MAX(g->pairs, MAX(sqid, cqid) + 1u);
	if (!g->nsqs++)
		group_busy(g);
	if (sqid) {
		g->core->stats.io_queues++;
		g->core->stats.io_queues_total++;
	}
	return NVME_OK;
fini_ring:
	ring_fini(&sq->ring);
free_sq:
	free(sq); /* cold: a queue goes, or was not made */
	return st;
}

/* They complete at the next bdev_kick(), not here. */
void
sq_cancel(struct nvme_sq *sq)
{
	struct nvme_req *req;

	list_for_each(req, &sq->inflight, node)
		bdev_cancel(&req->io);
}

void
sq_free(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;

	sq_unlist(sq);
	g->sqs[sq->sqid] = NULL;
	g->nsqs--;
	guest_store32(sq->reg_db, 0);
	if (sq->sqid)
		g->core->stats.io_queues--;
	ring_fini(&sq->ring);
	free(sq); /* cold: a queue goes, or was not made */
	group_update_quota(g);
}
