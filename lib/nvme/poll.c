/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path on one page. One poller per reactor serves all controllers there:
 * fetch what the doorbells show and start it, send to the block devices what was queued,
 * reap what they finished, raise one interrupt a vector. Read on in sq.c, req.c, io.c, cq.c. How it sleeps: sleep.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define COLD_NS 2000000u /* without work: a queue is looked at now and then */
#define LOOKS 32u	 /* of a client's queues, at most, in a round */
#define LOOKS_BESIDE 4u	 /* and beside one with little to do */

static struct nvme_core *cores[REACTOR_MAX];

struct nvme_core *
core_of(const struct reactor *r)
{
	return cores[reactor_index(r)];
}

/* Each value is told once; a client that has more of them, one a round. */
static void
sq_bad_tail(const struct nvme_core *core, struct nvme_sq *sq)
{
	uint32_t tail = guest_load32(sq->tail_db);
	struct nvme_group *g = sq->group;

	if (tail == sq->bad_tail || g->bad_round == core->round)
		return;
	g->bad_round = core->round;
	sq->bad_tail = tail;
	group_bad_doorbell(g);
}

int
sq_poll(struct nvme_core *core, struct nvme_sq *sq)
{
	int n;

	if (unlikely(sq->stop))
		return 0;
	n = sq_fetch(sq);
	if (likely(n > 0)) {
		sq->worked = *core->clock;
		if (sq->cq->adaptive)
			pace_fetched(sq->cq);
		core->stats.commands += (unsigned)n;
		if (unlikely(!sq->sqid))
			core->stats.admin_commands += (unsigned)n;
		return n;
	}
	if (unlikely(n == -EPROTO))
		sq_bad_tail(core, sq); /* not fetched until it is corrected */
	return n;
}

void
cq_owe(struct nvme_cq *cq)
{
	cq->irq_pending = true;
	list_push_back(&cq->group->core->dirty, &cq->dirty);
	if (cq->adaptive || cq->coal)
		pace_begin(cq, reactor_now());
}

static void
cq_raise(struct nvme_core *core, struct nvme_cq *cq)
{
	struct nvme_group *g = cq->group;
	bool msix = irq_msix_active(g->irqs);
	enum pace due = PACE_NOW;

	if (likely(msix) && (cq->adaptive || cq->coal))
		due = pace_look(cq, reactor_now());
	if (due == PACE_LATER)
		return; /* stays on the list */
	list_remove(&cq->dirty);
	cq->irq_pending = false;
	pace_nap(core, cq, reactor_now());
	cq->unsignalled = 0;
	if (unlikely(!msix)) {
		group_intx_soon(g); /* a level, not an event */
		return;
	}
	if (due == PACE_NONE)
		return;
	if (g->iv_round[cq->iv] == core->round)
		return; /* another queue of the vector */
	g->iv_round[cq->iv] = core->round;
	irq_raise(g->irqs, cq->iv);
	core->stats.irqs++;
}

/* What is not I/O: queues that end, memory that came back, resets. */
static void
core_work(struct nvme_core *core)
{
	struct list now;

	list_init(&now);
	list_splice(&now, &core->work);
	while (!list_empty(&now)) {
		struct nvme_group *g =
			list_entry(now.next, struct nvme_group, work);

		list_remove(&g->work);
		group_step(g);
	}
}

/*
 * Some of its queues, in turn: there may be many that have just had work. Beside a light
 * client, which waits for all looks of a round, not even one at those that will have to wait.
 */
static int
group_poll(struct nvme_core *core, struct nvme_group *g)
{
	unsigned looks = g->beside ? LOOKS_BESIDE : LOOKS;
	struct nvme_sq *sq, *tmp;
	int n = 0;

	g->denied = NULL;
	/* Nothing that runs below takes another queue off this list. */
	list_for_each_safe(sq, tmp, &g->hot, node) {
		int fetched;

		if (unlikely(!looks-- || (g->denied && g->beside))) {
			g->denied = g->denied ? g->denied : sq;
			break;
		}
		fetched = sq_poll(core, sq);
		if (likely(fetched > 0))
			n += fetched;
		else if (fetched || *core->clock - sq->worked > COLD_NS)
			sq_cool(sq); /* see cold.c */
	}
	if (unlikely(g->denied != NULL)) { /* the first next time */
		list_remove(&g->hot);
		list_insert_before(&g->denied->node, &g->hot);
	}
	return n;
}

static int
core_poll(struct reactor_poller *p)
{
	struct nvme_core *core = container_of(p, struct nvme_core, poller);
	struct nvme_group *g, *gtmp;
	struct nvme_cq *cq, *cqtmp;
	int n = 0;

	core->round++;
	core->stats.polls++;
	core->beside_left = FETCH_BESIDE;
	core->denied = NULL;
	list_for_each_safe(g, gtmp, &core->hot, hot_node)
		n += group_poll(core, g);
	if (unlikely(core->denied != NULL)) {
		list_remove(&core->hot);
		list_insert_before(&core->denied->hot_node, &core->hot);
	}
	if (core->ncold && (core->scan_all || *core->clock >= core->cold_due))
		n += cold_poll(core);
	n += bdev_kick();
	n += bdev_reap();
	list_for_each_safe(cq, cqtmp, &core->dirty, dirty)
		cq_raise(core, cq);
	if (unlikely(!list_empty(&core->intx)))
		list_for_each_safe(g, gtmp, &core->intx, intx_node)
			group_intx(g);
	if (unlikely(!list_empty(&core->work))) {
		core_work(core);
		n++;
	}
	if (!n)
		core->stats.polls_spurious++;
	return n;
}

int
nvme_core_init(struct reactor *r)
{
	struct nvme_core *core;

	if (cores[reactor_index(r)])
		return 0;
	core = calloc(1, sizeof(*core));
	if (!core)
		return -ENOMEM;
	core->scratch = reactor_mem_alloc(r, CORE_SCRATCH_LEN);
	if (!core->scratch) {
		free(core);
		return -ENOMEM;
	}
	core->reactor = r;
	core->clock = reactor_clock(r);
	list_init(&core->hot);
	list_init(&core->dirty);
	list_init(&core->work);
	list_init(&core->groups);
	list_init(&core->intx);
	pool_init(&core->reqs, align_up(sizeof(struct nvme_req), CACHE_LINE));
	pool_init(&core->iovs, REQ_MAX_IOV * sizeof(struct iovec));
	core->poller = (struct reactor_poller){ .poll = core_poll,
						.sleep = core_sleep,
						.look = core_look,
						.wake = core_wake,
						.name = "nvme" };
	cores[reactor_index(r)] = core;
	reactor_poller_add(r, &core->poller);
	return 0;
}

void
nvme_core_fini(struct reactor *r)
{
	struct nvme_core *core = cores[reactor_index(r)];

	if (!core)
		return;
	assert(list_empty(&core->groups));
	reactor_poller_del(r, &core->poller);
	free(core->colds); /* cold: the core goes */
	glance_fini(core);
	pool_fini(&core->reqs);
	pool_fini(&core->iovs);
	reactor_mem_free(core->scratch, CORE_SCRATCH_LEN);
	cores[reactor_index(r)] = NULL;
	free(core);
}

void
nvme_core_get_stats(const struct reactor *r, struct nvme_core_stats *out)
{
	const struct nvme_core *core = cores[reactor_index(r)];
	const struct nvme_group *g;

	*out = core ? core->stats : (struct nvme_core_stats){ 0 };
	if (!core)
		return;
	list_for_each(g, &core->groups, node)
		out->pending_io += g->io_inflight;
}
