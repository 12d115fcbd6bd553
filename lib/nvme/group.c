/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A group: what a controller has on one reactor. Everything here runs there, and
 * touches nothing of the controller that changes. Not for what home and its groups
 * elsewhere tell each other (far.c), nor for the controller's states (ctrl.c).
 */
#include <errno.h>

#include "internal.h"

#define QUOTA_MAX 2048u	  /* commands in flight on a group's I/O queues */
#define LONG_IOV_MAX 256u /* of them with a long iov array */
#define TICK_NS 1000000000u
#define TICK_SLACK (1u << 26) /* 67 ms: slow ticks of many wake us together */

void
group_work(struct nvme_group *g)
{
	if (list_empty(&g->work))
		list_push_back(&g->core->work, &g->work);
}

/* Have the timer fire within @within_ns; a second may be a little longer. */
void
group_tick(struct nvme_group *g, uint64_t within_ns)
{
	uint64_t now = reactor_now(), at = now + within_ns;

	if (within_ns >= TICK_NS)
		at = align_up(at, TICK_SLACK);
	if (g->timer.slot && g->timer.deadline <= at)
		return;
	reactor_timer_start(g->core->reactor, &g->timer, at - now);
}

/*
 * Controller Busy Time is told in minutes: the time since the last look counts when
 * commands were mapped in it or are under way.
 */
static void
count_busy(struct nvme_group *g, uint64_t now)
{
	if (g->io_inflight || g->seq != g->busy_seq)
		g->busy_ns += now - g->busy_looked;
	g->busy_looked = now;
	g->busy_seq = g->seq;
}

static void
group_timer(struct reactor_timer *t)
{
	struct nvme_group *g = container_of(t, struct nvme_group, timer);
	uint64_t now = reactor_now();

	map_tick(g, now);
	count_busy(g, now);
	if (!g->far)
		ctrl_timer(g->ctrl, now);
	else if (g->nsqs)
		group_tick(g, TICK_NS);
}

void
group_busy(struct nvme_group *g)
{
	g->busy_looked = reactor_now();
	g->busy_seq = g->seq;
	group_tick(g, TICK_NS);
}

/*
 * Pledge requests for the queues that there are: sum of depths, bounded; never
 * less than what is in use, so that no other controller is promised those.
 */
int
group_update_quota(struct nvme_group *g)
{
	uint32_t reqs = 0, iovs, old = g->quota, old_iovs = g->iov_quota;
	const struct reactor *r = g->core->reactor;

	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++)
		if (g->sqs[i])
			reqs += g->sqs[i]->depth - 1;
	reqs = MAX(MIN(reqs, QUOTA_MAX), g->io_inflight);
	iovs = MIN(reqs, LONG_IOV_MAX);
	if (g->iov_used > iovs + 1)
		iovs = g->iov_used - 1;
	if (pool_pledge(&g->core->reqs, r, (int64_t)reqs - old))
		return -ENOMEM;
	if (pool_pledge(&g->core->iovs, r, (int64_t)iovs - (old_iovs - 1))) {
		pool_pledge(&g->core->reqs, r, (int64_t)old - reqs);
		return -ENOMEM;
	}
	g->quota = reqs;
	g->iov_quota = iovs + 1; /* one for the admin queue */
	return 0;
}

/* Lists and what never changes. Any thread. */
int
group_init(struct nvme_group *g, struct nvme_ctrl *ctrl,
	   const struct reactor *r, struct ioas_view *view)
{
	g->ctrl = ctrl;
	g->core = core_of(r);
	g->home = ctrl->cfg.home;
	g->ioas = ctrl->cfg.ioas;
	g->irqs = ctrl->cfg.irqs;
	g->view = view;
	g->max_len = ctrl->cfg.max_io_size;
	g->iov_quota = 1;
	g->block_shift = 9;
	g->admin_quota = MAX(MIN(ctrl->cfg.max_aq_depth, ADMIN_INFLIGHT),
			     ADMIN_INFLIGHT_MIN);
	g->timer.fire = group_timer;
	list_init(&g->node);
	list_init(&g->work);
	list_init(&g->hot);
	list_init(&g->hot_node);
	list_init(&g->intx_node);
	list_init(&g->mem_waits);
	list_init(&g->mem_old);
	list_init(&g->late_waits);
	list_init(&g->late_old);
	list_init(&g->buf_waits);
	list_init(&g->unmaps);
	return g->core ? 0 : -EINVAL;
}

int
group_open(struct nvme_group *g)
{
	struct nvme_core *core = g->core;

	if (pool_pledge(&core->reqs, core->reactor, ADMIN_INFLIGHT))
		return -ENOMEM;
	if (pool_pledge(&core->iovs, core->reactor, 1)) {
		pool_pledge(&core->reqs, core->reactor,
			    -(int64_t)ADMIN_INFLIGHT);
		return -ENOMEM;
	}
	g->open = true;
	return 0;
}

void
group_close(struct nvme_group *g)
{
	struct nvme_core *core = g->core;

	if (g->open) {
		pool_pledge(&core->reqs, core->reactor,
			    -(int64_t)ADMIN_INFLIGHT);
		pool_pledge(&core->iovs, core->reactor, -1);
	}
	reactor_timer_stop(&g->timer);
	list_remove(&g->work);
}

/* ---- coming to rest ---- */

/* What is under way has nobody any more who would hear of its failure. */
static void
sq_mute(struct nvme_sq *sq)
{
	struct nvme_req *req;

	list_for_each(req, &sq->inflight, node) {
		req_slow(req);
		req->flags |= REQ_NO_LOG;
	}
	sq_cancel(sq);
}

/* STOP: nothing is fetched. MUTE: nothing is posted any more; I/O with a device goes on. */
void
group_hush(struct nvme_group *g, uint8_t level)
{
	if (g->hushed >= level)
		return;
	g->hushed = level;
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (g->sqs[i])
			g->sqs[i]->stop |= SQ_STOP_CTRL;
		if (level == HUSH_MUTE && g->sqs[i])
			sq_mute(g->sqs[i]);
		if (level < HUSH_MUTE || !g->cqs[i])
			continue;
		g->cqs[i]->hold |= CQ_HOLD_MUTE;
		cq_drop_held(g->cqs[i]);
	}
	if (level < HUSH_MUTE)
		return;
	req_drop_waits(&g->mem_waits);
	req_drop_waits(&g->mem_old);
	req_drop_waits(&g->late_waits);
	req_drop_waits(&g->late_old);
	req_drop_waits(&g->buf_waits);
	group_work(g);
}

/* No request is left. */
void
group_free_queues(struct nvme_group *g)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = g->sqs[i];
		struct group_call *c = sq ? sq->delete_call : NULL;

		if (sq)
			sq_free(sq);
		if (c)
			group_return(c);
	}
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++)
		if (g->cqs[i])
			cq_free(g->cqs[i]);
	g->pairs = 0;
}

void
group_reset(struct nvme_group *g)
{
	struct group_settings set;

	group_free_queues(g);
	dbbuf_reset(g);
	feature_default_settings(&set);
	group_set(g, &set);
	g->map_lost = false;
	g->map_lost_since = 0;
	g->hushed = HUSH_NONE;
}

/* ---- work ---- */

/* Deleted queues that have drained. */
static void
queues_step(struct nvme_group *g)
{
	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = g->sqs[i];
		struct group_call *c;

		if (!sq || !(sq->stop & SQ_STOP_DELETE) || sq->inflight_n)
			continue;
		c = sq->delete_call;
		sq_free(sq);
		group_return(c);
	}
}

/* A map that the client knew of may be in a message, which has been taken a round later. */
static void
late_step(struct nvme_group *g)
{
	req_retry(g, &g->late_old);
	if (list_empty(&g->late_waits))
		return;
	list_splice(&g->late_old, &g->late_waits);
	group_work(g);
}

void
group_step(struct nvme_group *g)
{
	map_step(g);
	late_step(g);
	req_retry_bufs(g);
	queues_step(g);
	ns_step(g);
	if (g->intx_due)
		group_intx(g);
	if (g->far)
		rest_step(g);
	else
		ctrl_step(g->ctrl);
}

#define REST 8u /* times as long as it took */
#define REST_MAX_NS 1000000u

void
group_cost(struct nvme_group *g, uint64_t ns)
{
	uint64_t now = *g->core->clock;
	uint64_t until = MAX(g->rest_until, now) + REST * ns;

	g->rest_until = MIN(until, now + REST_MAX_NS);
}

/* ---- settings ---- */

/* Neither the admin queue, nor vectors whose Coalescing Disable is set (NVMe 2.0 §5.27.1.7). */
void
group_pace(const struct nvme_group *g, struct nvme_cq *cq)
{
	bool may = cq->cqid &&
		   !(g->set.no_coalescing[cq->iv / 64] >> cq->iv % 64 & 1);

	cq->coal = 0;
	if (may && g->set.coalescing & 0xff00) /* TIME 0: none (§5.27.1.6) */
		cq->coal = (uint16_t)g->set.coalescing;
	cq->adaptive = may && g->ctrl->cfg.adaptive_irq;
	cq->irq_deadline = 0; /* what is owed is due */
}

void
group_set(struct nvme_group *g, const struct group_settings *set)
{
	g->set = *set;
	g->write_cache = set->write_cache;
	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++)
		if (g->cqs[i])
			group_pace(g, g->cqs[i]);
}

/* ---- what the controller is to know ---- */

static bool
holds_entries(struct nvme_cq *cq)
{
	return cq && cq->ien && cq_unread(cq);
}

/* Entries that the host has not taken, on some queue. As long as it is the same one, no other is looked at. */
bool
group_unread(struct nvme_group *g)
{
	if (holds_entries(g->cqs[g->unread_cq]))
		return true;
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (!holds_entries(g->cqs[i]))
			continue;
		g->unread_cq = (uint16_t)i;
		return true;
	}
	return false;
}

/* INTx: up while a queue with interrupts holds entries that the host has not taken. */
void
group_intx(struct nvme_group *g)
{
	struct group_news *n;
	bool level;

	if (!g->far) {
		ctrl_intx_update(g->ctrl);
		return;
	}
	g->intx_due = false;
	level = !irq_msix_active(g->irqs) && g->hushed != HUSH_MUTE &&
		group_unread(g);
	n = far_news(g);
	if (level == n->intx)
		return;
	n->intx = level;
	list_remove(&g->intx_node);
	if (level)
		list_push_back(&g->core->intx, &g->intx_node);
	far_tell(g);
}

void
group_intx_soon(struct nvme_group *g)
{
	if (!g->far) {
		ctrl_intx_written(g->ctrl);
		return;
	}
	g->intx_due = true;
	group_work(g);
}

void
group_fail(struct nvme_group *g, const char *why, bool for_good)
{
	struct group_news *n;

	if (!g->far) {
		(for_good ? ctrl_fail_for_good : ctrl_fail)(g->ctrl, why);
		return;
	}
	n = far_news(g);
	if (n->failed && n->for_good >= for_good)
		return;
	n->failed = why;
	n->for_good = for_good;
	group_hush(g, HUSH_MUTE);
	far_tell(g);
}

void
group_bad_doorbell(struct nvme_group *g)
{
	if (!g->far) {
		doorbell_bad_value(g->ctrl);
		return;
	}
	far_news(g)->bad_doorbell = true;
	far_tell(g);
}

void
group_error(struct nvme_group *g, const struct nvme_error_log_page *e,
	    bool media)
{
	struct group_news *n;

	if (!g->far) {
		log_page_add(g->ctrl, e, 1, media);
		return;
	}
	n = far_news(g);
	n->e[n->errors++ % NVME_ERRLOG_ENTRIES] = *e;
	n->media_errors += media;
	far_tell(g);
}
