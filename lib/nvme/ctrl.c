/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's states: disabled, ready, draining, shut down, failed. How it
 * ends is in teardown.c. What a guest may ask at any moment is only noted here and
 * done in ctrl_step(), which the poller calls when no queue is being worked on.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define TICK_NS 1000000000u

void
ctrl_work(struct nvme_ctrl *ctrl)
{
	group_work(&ctrl->group);
}

void
ctrl_tick(struct nvme_ctrl *ctrl, uint64_t within_ns)
{
	group_tick(&ctrl->group, within_ns);
}

void
ctrl_keep_alive(struct nvme_ctrl *ctrl)
{
	uint64_t ns = ctrl->feat.kato_ms * 1000000ull;

	ctrl->keep_alive_deadline = ns ? reactor_now() + ns : 0;
	if (ns)
		ctrl_tick(ctrl, ns);
}

static void
ctrl_fail_log(const struct nvme_ctrl *ctrl, const char *why)
{
	log_guest(LOG_WARNING, "controller %u of %s failed: %s", ctrl->cntlid,
		  ctrl->subsys_nqn, why);
}

static void
ctrl_set_failed(struct nvme_ctrl *ctrl)
{
	ctrl->csts |= 1u << NVME_CSTS_CFS_SHIFT;
	if (!ctrl->drain)
		ctrl->state = CTRL_FAILED;
	ctrl_hush(ctrl, HUSH_MUTE);
	ctrl_intx_update(ctrl);
	link_report(ctrl);
}

void
ctrl_fail(struct nvme_ctrl *ctrl, const char *why)
{
	if (ctrl->csts & 1u << NVME_CSTS_CFS_SHIFT)
		return;
	ctrl_fail_log(ctrl, why);
	ctrl_set_failed(ctrl);
}

/* One line in the log: the owner's, who throws the client out and knows its socket. */
void
ctrl_fail_for_good(struct nvme_ctrl *ctrl, const char *why)
{
	if (ctrl->failed_for_good)
		return;
	ctrl->failed_for_good = true;
	ctrl->failed_why = why;
	if (!ctrl->cfg.failed)
		ctrl_fail_log(ctrl, why);
	if (!(ctrl->csts & 1u << NVME_CSTS_CFS_SHIFT))
		ctrl_set_failed(ctrl);
	ctrl_work(ctrl); /* who asked may be deep in a queue: told later */
}

/* ioas_on_fault */
static void
ctrl_faulted(void *arg)
{
	ctrl_fail_for_good(arg, "its memory file was truncated");
}

/* INTx: up while some group has a reason, see group_intx(). */
void
ctrl_intx_update(struct nvme_ctrl *ctrl)
{
	struct nvme_group *g = &ctrl->group;
	bool level = false;

	if (!irq_msix_active(ctrl->cfg.irqs) && !ctrl->intx_disabled &&
	    !(ctrl->intms & 1) &&
	    (ctrl->state == CTRL_READY || ctrl->state == CTRL_SHUTDOWN))
		level = far_intx(ctrl) || group_unread(g);
	if (level == ctrl->intx_level)
		return;
	ctrl->intx_level = level;
	list_remove(&g->intx_node);
	if (level)
		list_push_back(&g->core->intx, &g->intx_node);
	irq_intx(ctrl->cfg.irqs, level);
	g->core->stats.irqs += level;
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
	if (cq_create(&ctrl->group, 0, ctrl->acq, acqs, 0, true) ||
	    sq_create(&ctrl->group, 0, 0, ctrl->asq, asqs)) {
		ctrl_fail(ctrl, "no admin queue at ASQ, ACQ");
		return -EINVAL;
	}
	ctrl->cqt[0] = (struct nvme_qent){ .group = &ctrl->group,
					   .depth = (uint16_t)acqs,
					   .ien = true };
	ctrl->sqt[0] = (struct nvme_qent){ .group = &ctrl->group,
					   .depth = (uint16_t)asqs };
	ctrl->state = CTRL_READY;
	ctrl->csts |= 1u << NVME_CSTS_RDY_SHIFT;
	ctrl->group.map_lost_since = 0;
	ctrl_keep_alive(ctrl);
	ctrl_tick(ctrl, TICK_NS);
	log_guest_debug(nvme, "controller %u: enabled, admin queues %u, %u",
			ctrl->cntlid, asqs, acqs);
	return 0;
}

/* NVMe 2.0 §3.9; the log entry is still there after the reset that follows. */
static void
keep_alive_expired(struct nvme_ctrl *ctrl)
{
	log_page_error(&ctrl->group, NULL, NVME_SC_KAT_EXPIRED);
	ctrl_fail(ctrl, "its host did not keep it alive");
}

/* Slow work; at least once a second while the controller is enabled. */
void
ctrl_timer(struct nvme_ctrl *ctrl, uint64_t now)
{
	if (ctrl->state != CTRL_READY)
		return;
	if (ctrl->keep_alive_deadline && now >= ctrl->keep_alive_deadline)
		keep_alive_expired(ctrl);
	else if (ctrl->keep_alive_deadline)
		ctrl_tick(ctrl, ctrl->keep_alive_deadline - now);
	if (irq_dead(ctrl->cfg.irqs))
		ctrl_fail_for_good(ctrl, "an interrupt eventfd blocks");
	if (ctrl->cfg.map_doorbells && now >= ctrl->scan_at) {
		ctrl->scan_at = now + TICK_NS;
		doorbell_scan(ctrl);
	}
	aer_deliver(ctrl);
	ctrl_tick(ctrl, TICK_NS);
}

void
ctrl_step(struct nvme_ctrl *ctrl)
{
	if (ctrl->failed_for_good && !ctrl->failed_told &&
	    !(ctrl->drain & DRAIN_DESTROY)) {
		ctrl->failed_told = true;
		if (ctrl->cfg.failed)
			ctrl->cfg.failed(ctrl->cfg.arg, ctrl->failed_why);
	}
	if (ctrl->intx_due) {
		ctrl->intx_due = false;
		ctrl_intx_update(ctrl);
	}
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

/* The half that needs nobody: memory, doorbells, registers. */
int
ctrl_alloc(const struct nvme_ctrl_config *cfg, struct nvme_ctrl **out)
{
	struct nvme_ctrl *ctrl;
	int err = ctrl_check_config(cfg);

	if (err)
		return err;
	ctrl = aligned_alloc(CACHE_LINE, align_up(sizeof(*ctrl), CACHE_LINE));
	if (!ctrl)
		return -ENOMEM;
	memset(ctrl, 0, sizeof(*ctrl));
	ctrl->cfg = *cfg;
	ctrl->subsys = cfg->subsys;
	list_init(&ctrl->listener.node);
	err = group_init(&ctrl->group, ctrl, cfg->home,
			 ioas_ctx_view(cfg->ioas));
	if (!err)
		err = doorbells_init(ctrl);
	if (err)
		goto free_ctrl;
	err = group_open(&ctrl->group);
	if (err)
		goto fini_doorbell;
	ctrl->listener.map = ctrl_map;
	ctrl->listener.unmap = ctrl_unmap;
	*out = ctrl;
	return 0;
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
	group_close(&ctrl->group);
	doorbells_fini(ctrl);
	free(ctrl);
}
