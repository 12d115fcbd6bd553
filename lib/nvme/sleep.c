/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A core that sleeps: what wakes it, and what it looks at meanwhile. Not for the loop
 * that sleeps: reactor/loop.c; nor for polling: poll.c.
 *
 * A trapped doorbell is a message, which wakes; where there are shadow doorbells the event indexes
 * ask for it. A store to a mapped page wakes nobody, so a timer does, and all that is done
 * then is a glance at those pages (glance.c): about a microsecond for thousands of queues.
 */
#include "internal.h"

/*
 * Between looks at mapped doorbells: what a client stores is seen within 1 ms, the way
 * out of the sleep included.
 */
#define LOOK_NS 900000u

/* Arm what wakes. Gives whether there is something that must be looked at. */
static bool
arm(struct nvme_core *core)
{
	bool look = !list_empty(&core->intx);
	struct nvme_group *g;

	list_for_each(g, &core->groups, node) {
		if (!g->nsqs || g->hushed == HUSH_MUTE)
			continue;
		dbbuf_arm(g);
		look |= g->ctrl->cfg.map_doorbells;
	}
	return look;
}

/*
 * Has a doorbell brought work since the copy was made? Those that did not, a head or a value that is known to be
 * wrong, are the copy from now on. Copied first: what is stored after that differs at the next glance.
 */
static bool
look_again(struct nvme_core *core)
{
	glance_copy(core);
	__sync_synchronize(); /* copies, and event indexes, before tails */
	return cold_look(core);
}

/*
 * Arm the wake-ups, then look once more: a doorbell in between is not lost. The look before
 * keeps event indexes from being armed for nothing; those few that are all the same
 * cost a message each.
 */
uint64_t
core_sleep(struct reactor_poller *p)
{
	struct nvme_core *core = container_of(p, struct nvme_core, poller);
	uint64_t now = reactor_now(), ns = bdev_sleep();
	struct nvme_cq *cq;
	bool look;

	if (!ns || !list_empty(&core->work) || !cold_all(core))
		goto stay;
	look = arm(core);
	if (look_again(core))
		goto stay;
	list_for_each(cq, &core->dirty, dirty) {
		if (!cq->coal || cq->irq_deadline <= now)
			goto stay;
		ns = MIN(ns, cq->irq_deadline - now);
	}
	core->wake_at = ns < UINT64_MAX - now ? now + ns : UINT64_MAX;
	return look ? MIN(ns, LOOK_NS) : ns;
stay:
	bdev_wake();
	core->scan_all = true; /* what the looks saw is not kept waiting */
	return 0;
}

/* The sleep has passed: has a doorbell been rung, or is something else due? */
uint64_t
core_look(struct reactor_poller *p)
{
	struct nvme_core *core = container_of(p, struct nvme_core, poller);
	uint64_t now = reactor_now();

	/* INTx: heads are looked at, too */
	if (core->wake_at <= now || !list_empty(&core->intx) ||
	    (glance(core) && look_again(core)))
		return 0;
	return MIN(core->wake_at - now, LOOK_NS);
}

/* Whatever woke it, doorbells are not kept waiting. Event indexes stay: dbbuf_progress(). */
void
core_wake(struct reactor_poller *p)
{
	struct nvme_core *core = container_of(p, struct nvme_core, poller);

	bdev_wake();
	core->scan_all = true;
}
