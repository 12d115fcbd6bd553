/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's states: disabled, ready, draining, shut down, failed. How it
 * ends is in teardown.c. What a guest may ask at any moment is only noted here and
 * done in ctrl_step(), which the poller calls when no queue is being worked on.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define QUOTA_MAX 2048u	  /* commands in flight on a controller's I/O queues */
#define LONG_IOV_MAX 256u /* of them with a long iov array */
#define TICK_NS 1000000000u

void
ctrl_work(struct nvme_ctrl *ctrl)
{
	if (list_empty(&ctrl->group.work))
		list_push_back(&ctrl->group.core->work, &ctrl->group.work);
}

/* Have the timer fire within @within_ns. */
void
ctrl_tick(struct nvme_ctrl *ctrl, uint64_t within_ns)
{
	uint64_t at = reactor_now() + within_ns;

	if (ctrl->timer.slot && ctrl->timer.deadline <= at)
		return;
	reactor_timer_start(ctrl->cfg.home, &ctrl->timer, within_ns);
}

void
ctrl_keep_alive(struct nvme_ctrl *ctrl)
{
	uint64_t ns = ctrl->feat.kato_ms * 1000000ull;

	ctrl->keep_alive_deadline = ns ? reactor_now() + ns : 0;
	if (ns)
		ctrl_tick(ctrl, ns);
}

/*
 * Pledge requests for the queues that there are: sum of depths, bounded; never
 * less than what is in use, so that no other controller is promised those.
 */
int
ctrl_update_quota(struct nvme_ctrl *ctrl)
{
	struct nvme_group *g = &ctrl->group;
	uint32_t reqs = 0, iovs, old = g->quota, old_iovs = g->iov_quota;
	const struct reactor *r = g->core->reactor;

	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++)
		if (ctrl->sqs[i])
			reqs += ctrl->sqs[i]->depth - 1;
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

void
ctrl_stop(struct nvme_ctrl *ctrl, uint8_t why, bool on)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = ctrl->sqs[i];

		if (!sq)
			continue;
		if (on)
			sq->stop |= why;
		else
			sq->stop &= (uint8_t)~why;
	}
}

static void
drop_waits(struct list *waits)
{
	while (!list_empty(waits)) {
		struct nvme_req *req =
			list_entry(waits->next, struct nvme_req, wait);

		list_remove(&req->wait);
		req_drop(req);
	}
}

/* Nothing is fetched and nothing posted any more; I/O with a device goes on. */
void
ctrl_mute(struct nvme_ctrl *ctrl)
{
	ctrl_stop(ctrl, SQ_STOP_CTRL, true);
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (!ctrl->cqs[i])
			continue;
		ctrl->cqs[i]->hold |= CQ_HOLD_MUTE;
		cq_drop_held(ctrl->cqs[i]);
	}
	drop_waits(&ctrl->mem_waits);
	drop_waits(&ctrl->buf_waits);
	ctrl_work(ctrl);
}

void
ctrl_fail(struct nvme_ctrl *ctrl, const char *why)
{
	if (ctrl->csts & 1u << NVME_CSTS_CFS_SHIFT)
		return;
	log_guest(LOG_WARNING, "controller %u of %s failed: %s", ctrl->cntlid,
		  ctrl->subsys_nqn, why);
	ctrl->csts |= 1u << NVME_CSTS_CFS_SHIFT;
	if (!ctrl->drain)
		ctrl->state = CTRL_FAILED;
	ctrl_mute(ctrl);
	ctrl_intx_update(ctrl);
	link_report(ctrl);
}

void
ctrl_fail_for_good(struct nvme_ctrl *ctrl, const char *why)
{
	ctrl_fail(ctrl, why);
	ctrl->failed_for_good = true;
	ctrl_work(ctrl); /* who asked may be deep in a queue: told later */
}

/* ioas_on_fault */
static void
ctrl_faulted(void *arg)
{
	ctrl_fail_for_good(arg, "its memory file was truncated");
}

/* INTx: up while a queue with interrupts holds entries that the host has not taken. */
void
ctrl_intx_update(struct nvme_ctrl *ctrl)
{
	struct nvme_core *core = ctrl->group.core;
	bool level = false;

	if (!irq_msix_active(ctrl->cfg.irqs) && !ctrl->intx_disabled &&
	    !(ctrl->intms & 1) &&
	    (ctrl->state == CTRL_READY || ctrl->state == CTRL_SHUTDOWN)) {
		for (unsigned i = 0; !level && i <= NVME_MAX_IO_QUEUES; i++) {
			struct nvme_cq *cq = ctrl->cqs[i];

			level = cq && cq->ien && cq_unread(cq);
		}
	}
	if (level == ctrl->intx_level)
		return;
	ctrl->intx_level = level;
	list_remove(&ctrl->intx_node);
	if (level)
		list_push_back(&core->intx, &ctrl->intx_node);
	irq_intx(ctrl->cfg.irqs, level);
	core->stats.irqs += level;
	if (ctrl->cfg.intx_changed)
		ctrl->cfg.intx_changed(ctrl->cfg.arg, level);
}

/*
 * A register was written. The first of a round is looked at once, so that no unmask finds an old level; in a flood of
 * them the rest is looked at together, for there may be 128 queues.
 */
void
ctrl_intx_written(struct nvme_ctrl *ctrl)
{
	uint64_t round = ctrl->group.core->round;

	if (ctrl->intx_round != round) {
		ctrl->intx_round = round;
		ctrl_intx_update(ctrl);
		return;
	}
	ctrl->intx_due = true;
	ctrl_work(ctrl);
}

void
nvme_ctrl_update_intx(struct nvme_ctrl *ctrl, bool disabled)
{
	ctrl->intx_disabled = disabled;
	ctrl_intx_update(ctrl);
}

/* CC.EN 0 -> 1 (NVMe 2.0 §3.5.3). What cannot be is a fatal status. */
int
ctrl_enable(struct nvme_ctrl *ctrl)
{
	uint32_t css = NVME_CC_CSS(ctrl->cc);
	uint32_t asqs = NVME_AQA_ASQS(ctrl->aqa) + 1;
	uint32_t acqs = NVME_AQA_ACQS(ctrl->aqa) + 1;

	if (ctrl->state == CTRL_FAILED || ctrl->failed_for_good)
		return -EIO;
	ctrl->csts &= ~(3u << NVME_CSTS_SHST_SHIFT);
	ctrl->shutdown = SHUT_NONE;
	if (NVME_CC_MPS(ctrl->cc) || NVME_CC_AMS(ctrl->cc) ||
	    (css != NVME_CC_CSS_NVM && css != NVME_CC_CSS_CSI)) {
		ctrl_fail(ctrl, "enabled with a CC that CAP does not offer");
		return -EINVAL;
	}
	if (asqs < 2 || acqs < 2) {
		ctrl_fail(ctrl, "enabled with an admin queue of one entry");
		return -EINVAL;
	}
	doorbell_reset(ctrl);
	if (cq_create(ctrl, 0, ctrl->acq, acqs, 0, true) ||
	    sq_create(ctrl, 0, 0, ctrl->asq, asqs, 0)) {
		ctrl_fail(ctrl, "no admin queue at ASQ, ACQ");
		return -EINVAL;
	}
	ctrl->state = CTRL_READY;
	ctrl->csts |= 1u << NVME_CSTS_RDY_SHIFT;
	ctrl->map_lost_since = 0;
	ctrl->busy_looked = reactor_now();
	ctrl->busy_seq = ctrl->group.seq;
	ctrl_keep_alive(ctrl);
	ctrl_tick(ctrl, TICK_NS);
	return 0;
}

/*
 * Controller Busy Time is told in minutes: the time since the last look counts when
 * commands were mapped in it or are under way.
 */
static void
count_busy(struct nvme_ctrl *ctrl, uint64_t now)
{
	struct nvme_group *g = &ctrl->group;

	if (g->io_inflight || g->seq != ctrl->busy_seq)
		ctrl->ctrl_busy_ns += now - ctrl->busy_looked;
	ctrl->busy_looked = now;
	ctrl->busy_seq = g->seq;
}

/* Slow work; at least once a second while the controller is enabled. */
static void
ctrl_timer(struct reactor_timer *t)
{
	struct nvme_ctrl *ctrl = container_of(t, struct nvme_ctrl, timer);
	uint64_t now = reactor_now();

	map_tick(ctrl, now);
	count_busy(ctrl, now);
	if (ctrl->state != CTRL_READY)
		return;
	if (ctrl->keep_alive_deadline && now >= ctrl->keep_alive_deadline)
		ctrl_fail(ctrl, "its host did not keep it alive");
	else if (ctrl->keep_alive_deadline)
		ctrl_tick(ctrl, ctrl->keep_alive_deadline - now);
	if (irq_dead(ctrl->cfg.irqs))
		ctrl_fail_for_good(ctrl, "an interrupt eventfd blocks");
	if (ctrl->cfg.map_doorbells && now >= ctrl->scan_at) {
		ctrl->scan_at = now + TICK_NS;
		doorbell_scan(ctrl);
	}
	ctrl_tick(ctrl, TICK_NS);
}

/* Deleted queues that have drained. */
static void
queues_step(struct nvme_ctrl *ctrl)
{
	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = ctrl->sqs[i];
		struct nvme_req *req;

		if (!sq || !(sq->stop & SQ_STOP_DELETE) || sq->inflight_n)
			continue;
		req = sq->delete_req;
		sq_free(sq);
		if (req)
			req_complete(req, NVME_OK);
		link_report(ctrl);
	}
}

void
ctrl_step(struct nvme_ctrl *ctrl)
{
	if (ctrl->failed_for_good && !ctrl->failed_told &&
	    !(ctrl->drain & DRAIN_DESTROY)) {
		ctrl->failed_told = true;
		if (ctrl->cfg.failed)
			ctrl->cfg.failed(ctrl->cfg.arg);
	}
	if (ctrl->intx_due) {
		ctrl->intx_due = false;
		ctrl_intx_update(ctrl);
	}
	map_step(ctrl);
	req_retry_bufs(ctrl);
	queues_step(ctrl);
	ns_step(ctrl);
	ctrl_drain_step(ctrl); /* may free it: the last */
}

static int
ctrl_check_config(const struct nvme_ctrl_config *cfg)
{
	if (!cfg->subsys || !cfg->home || !cfg->ioas || !cfg->irqs ||
	    !cfg->io_queues || cfg->io_queues > NVME_MAX_IO_QUEUES ||
	    cfg->max_depth < 2 || cfg->max_depth > 4096 ||
	    !is_pow2(cfg->max_io_size) || cfg->max_io_size < NVME_PAGE ||
	    cfg->max_io_size > 1u << 20 || !cfg->vectors)
		return -EINVAL;
	return core_of(cfg->home) ? 0 : -EINVAL;
}

static void
ctrl_init_lists(struct nvme_ctrl *ctrl)
{
	list_init(&ctrl->group.node);
	list_init(&ctrl->group.work);
	list_init(&ctrl->intx_node);
	list_init(&ctrl->mem_waits);
	list_init(&ctrl->buf_waits);
	list_init(&ctrl->unmaps);
	list_init(&ctrl->listener.node);
}

/* The half that needs nobody: memory, doorbells, registers. */
int
ctrl_alloc(const struct nvme_ctrl_config *cfg, struct nvme_ctrl **out)
{
	struct nvme_group *g;
	struct nvme_ctrl *ctrl;
	int err = ctrl_check_config(cfg);

	if (err)
		return err;
	ctrl = calloc(1, sizeof(*ctrl));
	if (!ctrl)
		return -ENOMEM;
	ctrl->cfg = *cfg;
	ctrl->subsys = cfg->subsys;
	ctrl_init_lists(ctrl);
	g = &ctrl->group;
	g->ctrl = ctrl;
	g->core = core_of(cfg->home);
	g->ioas = cfg->ioas;
	g->view = ioas_ctx_view(cfg->ioas);
	g->max_len = cfg->max_io_size;
	g->iov_quota = 1;
	g->block_shift = 9;
	g->admin_quota =
		MAX(MIN(cfg->max_aq_depth, ADMIN_INFLIGHT), ADMIN_INFLIGHT_MIN);
	err = doorbells_init(ctrl);
	if (err)
		goto free_ctrl;
	err = pool_pledge(&g->core->reqs, cfg->home, ADMIN_INFLIGHT);
	if (err)
		goto fini_doorbell;
	err = pool_pledge(&g->core->iovs, cfg->home, 1);
	if (err)
		goto unpledge;
	ctrl->timer.fire = ctrl_timer;
	ctrl->listener.map = ctrl_map;
	ctrl->listener.unmap = ctrl_unmap;
	*out = ctrl;
	return 0;
unpledge:
	pool_pledge(&g->core->reqs, cfg->home, -(int64_t)ADMIN_INFLIGHT);
fini_doorbell:
	doorbells_fini(ctrl);
free_ctrl:
	free(ctrl);
	return err;
}

/* The other half: it is known to its subsystem. */
void
ctrl_open(struct nvme_ctrl *ctrl)
{
	struct nvme_group *g = &ctrl->group;

	regs_init(ctrl);
	feature_reset(ctrl);
	log_page_reset(ctrl);
	aer_reset(ctrl);
	list_push_back(&g->core->groups, &g->node);
	g->core->stats.ctrls++;
	g->core->stats.admin_queues_total++;
	ioas_listen(ctrl->cfg.ioas, &ctrl->listener);
	ioas_on_fault(ctrl->cfg.ioas, ctrl_faulted, ctrl);
}

void
ctrl_free(struct nvme_ctrl *ctrl)
{
	struct nvme_core *core = ctrl->group.core;

	pool_pledge(&core->reqs, core->reactor, -(int64_t)ADMIN_INFLIGHT);
	pool_pledge(&core->iovs, core->reactor, -1);
	reactor_timer_stop(&ctrl->timer);
	list_remove(&ctrl->group.work);
	doorbells_fini(ctrl);
	free(ctrl);
}
