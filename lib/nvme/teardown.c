/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a controller comes to rest: controller reset, function and subsystem reset,
 * shutdown, destruction. All but the shutdown are one road: stop and mute, wait until
 * the last request has ended (a hung disk may keep it for ever), clean up, go on.
 *
 * Groups elsewhere walk it with home: one tour hushes them, a second one waits in each
 * until it is at rest. Home goes on when both have come back.
 */
#include <errno.h>

#include "internal.h"

/* ---- all groups ---- */

static void hush_next(struct nvme_ctrl *ctrl);

static void
hush_visit(struct group_call *c)
{
	group_hush(c->group, tour_of(c)->arg);
	group_return(c);
}

static void
hush_end(struct group_tour *t)
{
	t->ctrl->hush_busy = false;
	t->ctrl->hush_done = t->arg;
	hush_next(t->ctrl);
}

static void
hush_next(struct nvme_ctrl *ctrl)
{
	ctrl_work(ctrl);
	if (ctrl->hush_busy || ctrl->hush_done >= ctrl->hush_want)
		return;
	ctrl->hush_busy = true;
	ctrl->hush.arg = ctrl->hush_want;
	tour_start(&ctrl->hush, ctrl, hush_visit, hush_end);
}

void
ctrl_hush(struct nvme_ctrl *ctrl, uint8_t level)
{
	ctrl->hush_want = MAX(ctrl->hush_want, level);
	group_hush(&ctrl->group, level);
	hush_next(ctrl);
}

static bool
hushed(const struct nvme_ctrl *ctrl)
{
	return !ctrl->hush_busy && ctrl->hush_done == ctrl->hush_want;
}

/* On the reactor of a group elsewhere. What it had to tell is told first. */
void
rest_step(struct nvme_group *g)
{
	struct group_call *c = g->rest_call;
	uint8_t level = c ? tour_of(c)->arg : REST_NONE;

	if (!c || g->io_inflight || !list_empty(&g->unmaps))
		return;
	if (level >= REST_FREE)
		group_reset(g);
	if (level == REST_CLOSE) {
		if (!far_told(g))
			return; /* again when it has come back */
		nsref_free_all(g);
		list_remove(&g->node);
		list_remove(&g->intx_node);
		group_close(g);
	}
	g->rest_call = NULL;
	group_return(c); /* at home it may be freed at once */
}

static void
rest_visit(struct group_call *c)
{
	c->group->rest_call = c;
	rest_step(c->group);
}

/* The list of queues: those of @g are gone. */
static void
forget_queues(struct nvme_ctrl *ctrl, const struct nvme_group *g)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (ctrl->sqt[i].group == g)
			ctrl->sqt[i] = (struct nvme_qent){ 0 };
		if (ctrl->cqt[i].group != g)
			continue;
		if (i)
			far_placed(g, -1);
		ctrl->cqt[i] = (struct nvme_qent){ 0 };
	}
}

static void
rest_left(struct group_call *c)
{
	if (tour_of(c)->arg >= REST_FREE)
		forget_queues(c->group->ctrl, c->group);
	if (tour_of(c)->arg == REST_CLOSE)
		far_close(c->group);
}

static void
rest_end(struct group_tour *t)
{
	t->ctrl->rest_busy = false;
	t->ctrl->rest_done = t->arg;
	ctrl_work(t->ctrl);
}

/* Have the groups elsewhere no request any more, and all that @level says? */
static bool
rested(struct nvme_ctrl *ctrl, uint8_t level)
{
	if (ctrl->rest_done < level && !ctrl->rest_busy) {
		ctrl->rest_busy = true;
		ctrl->rest.arg = level;
		ctrl->rest.left = rest_left;
		tour_start(&ctrl->rest, ctrl, rest_visit, rest_end);
	}
	return ctrl->rest_done >= level &&
	       (level < REST_CLOSE || !ctrl->ngroups);
}

/* ---- resets ---- */

/* Requests that end only when they are told to. */
static void
abort_held(struct nvme_sq *sq)
{
	struct nvme_req *req, *tmp;

	list_for_each_safe(req, tmp, &sq->inflight, node)
		if (req->abort)
			req->abort(req);
}

void
ctrl_drain(struct nvme_ctrl *ctrl, uint8_t why)
{
	bool first = !ctrl->drain;

	ctrl->drain |= why;
	ctrl->state = CTRL_DRAINING;
	ctrl_work(ctrl);
	if (!first)
		return;
	ctrl_hush(ctrl, HUSH_MUTE);
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++)
		if (ctrl->group.sqs[i])
			abort_held(ctrl->group.sqs[i]);
	ctrl_intx_update(ctrl);
}

/* Tell those who asked for a reset. */
static void
resets_done(struct nvme_ctrl *ctrl)
{
	__typeof__(ctrl->resets[0]) now[NVME_MAX_RESETS];
	unsigned n = ctrl->nresets;

	memcpy(now, ctrl->resets, sizeof(now));
	ctrl->nresets = 0;
	for (unsigned i = 0; i < n; i++)
		now[i].done(now[i].arg);
}

/* The values of after a Controller Level Reset (NVMe 2.0 §3.7.2). */
static void
reset_state(struct nvme_ctrl *ctrl, uint8_t why)
{
	if (why & ~DRAIN_RESET && ctrl->sqt[0].group &&
	    ctrl->shutdown != SHUT_DONE)
		ctrl->unsafe_shutdowns++;
	group_reset(&ctrl->group);
	forget_queues(ctrl, &ctrl->group);
	ctrl->hush_want = ctrl->hush_done = HUSH_NONE;
	ctrl->rest_done = REST_NONE;
	doorbell_reset(ctrl);
	aer_reset(ctrl);
	feature_reset(ctrl);
	ctrl->keep_alive_deadline = 0;
	ctrl->shutdown = SHUT_NONE;
	ctrl->csts &=
		1u << NVME_CSTS_NSSRO_SHIFT; /* until the host clears it */
	if (why & (DRAIN_FUNCTION | DRAIN_SUBSYS))
		log_page_reset(ctrl);
	ctrl->intms = 0;
	if (why & DRAIN_SUBSYS)
		ctrl->csts |= 1u << NVME_CSTS_NSSRO_SHIFT;
	if (ctrl->failed_for_good)
		ctrl->csts |= 1u << NVME_CSTS_CFS_SHIFT;
	ctrl->state = ctrl->failed_for_good ? CTRL_FAILED : CTRL_DISABLED;
}

static void
ctrl_end(struct nvme_ctrl *ctrl)
{
	struct nvme_core *core = ctrl->group.core;

	reactor_timer_stop(&ctrl->group.timer);
	ioas_on_fault(ctrl->cfg.ioas, NULL, NULL);
	map_free(&ctrl->group);
	ioas_unlisten(ctrl->cfg.ioas, &ctrl->listener);
	nsref_free_all(&ctrl->group);
	list_remove(&ctrl->group.node);
	list_remove(&ctrl->group.intx_node);
	core->stats.ctrls--;
	link_detach(ctrl); /* frees it in the end */
}

/* ---- shutdown ---- */

static void flush_done(struct bdev_io *io);

/* Flush one namespace after the other; false: no more. */
static bool
flush_next(struct nvme_ctrl *ctrl)
{
	while (ctrl->flush_nsid < NVME_MAX_NS) {
		struct nvme_nsref *ns = ctrl->group.ns[ctrl->flush_nsid++];
		struct bdev_io *io = &ctrl->flush_io;

		if (!ns || ns->removing || !ns->write_cache ||
		    !(ns->caps & BDEV_CAP_FLUSH))
			continue;
		ns->inflight++;
		ctrl->flushing = true;
		*io = (struct bdev_io){ .done = flush_done,
					.ch = ns->ch,
					.flush_seen = &ns->flush_seen,
					.op = BDEV_FLUSH };
		bdev_submit(io);
		return true;
	}
	return false;
}

static void
flush_done(struct bdev_io *io)
{
	struct nvme_ctrl *ctrl = container_of(io, struct nvme_ctrl, flush_io);
	struct nvme_nsref *ns = ctrl->group.ns[ctrl->flush_nsid - 1];

	ctrl->flushing = false;
	if (io->err) {
		log_guest(LOG_ERROR, "flush of namespace %u at shutdown: %d",
			  ns->nsid, io->err);
		ctrl->flush_failed = true;
	}
	if (--ns->inflight == 0 && ns->removing)
		ns_drained(ns);
	ctrl_work(ctrl); /* the next one from there: no recursion */
}

/* CC.SHN was set: I/O in flight ends, caches are flushed, then SHST says so. */
void
ctrl_shutdown(struct nvme_ctrl *ctrl)
{
	ctrl->shutdown_again = ctrl->drain != 0; /* when that has ended */
	if (ctrl->shutdown != SHUT_NONE || ctrl->drain)
		return;
	log_guest_debug(nvme, "controller %u: shutdown", ctrl->cntlid);
	ctrl->shutdown = SHUT_WAIT;
	ctrl->csts &= ~(3u << NVME_CSTS_SHST_SHIFT);
	ctrl->csts |= (uint32_t)NVME_CSTS_SHST_OCCUR << NVME_CSTS_SHST_SHIFT;
	if (ctrl->state == CTRL_READY)
		ctrl->state = CTRL_SHUTDOWN;
	ctrl->keep_alive_deadline = 0;
	ctrl_hush(ctrl, HUSH_STOP);
}

static void
shutdown_step(struct nvme_ctrl *ctrl)
{
	if (ctrl->shutdown == SHUT_WAIT && !ctrl->flushing && hushed(ctrl) &&
	    rested(ctrl, REST_WAIT) && !ctrl->group.io_inflight) {
		ctrl->shutdown = SHUT_FLUSH;
		ctrl->flush_failed = false;
		ctrl->flush_nsid = NVME_CC_SHN(ctrl->cc) == NVME_CC_SHN_ABRUPT
					   ? NVME_MAX_NS
					   : 0;
	}
	if (ctrl->shutdown != SHUT_FLUSH || ctrl->flushing || flush_next(ctrl))
		return;
	/*
	 * SHST never says that it is complete then, so that the host notices.
	 * Another try proves nothing: the kernel tells of lost data once.
	 */
	if (ctrl->flush_failed) {
		ctrl->shutdown = SHUT_FAILED;
		ctrl_fail(ctrl, "a flush at shutdown failed");
		return;
	}
	ctrl->shutdown = SHUT_DONE;
	ctrl->csts &= ~(3u << NVME_CSTS_SHST_SHIFT);
	ctrl->csts |= (uint32_t)NVME_CSTS_SHST_CMPLT << NVME_CSTS_SHST_SHIFT;
	link_report(ctrl);
}

/* From ctrl_step(): has it come to rest? */
void
ctrl_drain_step(struct nvme_ctrl *ctrl)
{
	uint8_t why = ctrl->drain;

	if (!why) {
		shutdown_step(ctrl);
		return;
	}
	if (ctrl->ended || !hushed(ctrl) ||
	    !rested(ctrl, why & DRAIN_DESTROY ? REST_CLOSE : REST_FREE) ||
	    ctrl->group.io_inflight || ctrl->group.admin_inflight ||
	    ctrl->flushing)
		return;
	reset_state(ctrl, why);
	if (why & DRAIN_DESTROY) {
		ctrl->ended = true;
		ctrl->state = CTRL_DRAINING;
		resets_done(ctrl);
		ctrl_end(ctrl);
		return;
	}
	ctrl->drain = 0;
	if (ctrl->enable_again && NVME_CC_EN(ctrl->cc))
		ctrl_enable(ctrl);
	ctrl->enable_again = false;
	if (ctrl->shutdown_again)
		ctrl_shutdown(ctrl);
	link_report(ctrl);
	resets_done(ctrl);
}

void
nvme_ctrl_reset(struct nvme_ctrl *ctrl, enum nvme_reset kind,
		void (*done)(void *arg), void *arg)
{
	if (done) {
		assert(ctrl->nresets < NVME_MAX_RESETS);
		ctrl->resets[ctrl->nresets].done = done;
		ctrl->resets[ctrl->nresets++].arg = arg;
	}
	ctrl->enable_again = ctrl->shutdown_again = false;
	ctrl_drain(ctrl,
		   kind == NVME_RESET_SUBSYS ? DRAIN_SUBSYS : DRAIN_FUNCTION);
	/* at once: what is written from now on is for after the reset */
	regs_init(ctrl);
}

void
nvme_ctrl_destroy(struct nvme_ctrl *ctrl, void (*done)(void *arg), void *arg)
{
	ctrl->destroyed = done;
	ctrl->destroyed_arg = arg;
	ctrl_drain(ctrl, DRAIN_DESTROY);
}
