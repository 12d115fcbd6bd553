/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues without work for long. The hot ones are looked at in every round; these each
 * 256 us at most, a part of them at a time, in an array that holds what the look needs:
 * thousands of idle queues cost a hundredth of the core.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define COLD_TICK 16000u /* ns between looks at some of them */
#define COLD_TICKS 16u /* until all have been looked at, when there are many */
#define COLD_LEAST 64u
#define HOT_ENOUGH 8u /* when there are no more, all are always looked at */

struct nvme_cold {
	volatile uint32_t *tail_db; /* NULL: it is not so simple */
	struct nvme_sq *sq;
	uint32_t head; /* the doorbell's value without work */
};

int
cold_reserve(struct nvme_core *core)
{
	uint32_t n = core->nhot + core->ncold + 1;
	void *p;

	if (n <= core->cold_cap)
		return 0;
	n = MAX(n, core->cold_cap * 2);
	p = reallocarray(core->colds, n, sizeof(*core->colds));
	if (!p)
		return -ENOMEM;
	core->colds = p;
	core->cold_cap = n;
	return 0;
}

static void
hot_remove(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;

	list_remove(&sq->node);
	if (list_empty(&g->hot))
		list_remove(&g->hot_node);
	g->core->nhot--;
}

static void
cool(struct nvme_sq *sq)
{
	struct nvme_core *core = sq->group->core;
	bool admin_shadow = !sq->sqid && sq->shadow_db; /* sq_load_tail() */

	hot_remove(sq);
	sq->cold = true;
	sq->cold_at = core->ncold++;
	core->colds[sq->cold_at] = (struct nvme_cold){
		.tail_db = admin_shadow ? NULL : sq->tail_db,
		.sq = sq,
		.head = sq->head,
	};
}

void
sq_cool(struct nvme_sq *sq)
{
	struct nvme_core *core = sq->group->core;

	if (!sq->cold && core->nhot + core->ncold > HOT_ENOUGH)
		cool(sq);
}

/* The last one takes its place. */
static void
cold_remove(struct nvme_sq *sq)
{
	struct nvme_core *core = sq->group->core;
	struct nvme_cold *last = &core->colds[--core->ncold];

	core->colds[sq->cold_at] = *last;
	last->sq->cold_at = sq->cold_at;
	sq->cold = false;
}

void
sq_heat(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;
	struct nvme_core *core = g->core;

	if (sq->cold)
		cold_remove(sq);
	list_push_back(&g->hot, &sq->node);
	if (list_empty(&g->hot_node))
		list_push_back(&core->hot, &g->hot_node);
	sq->worked = *core->clock;
	core->nhot++;
}

void
sq_unlist(struct nvme_sq *sq)
{
	if (sq->cold)
		cold_remove(sq);
	else
		hot_remove(sq);
}

int
cold_poll(struct nvme_core *core)
{
	uint32_t look = MAX(core->ncold / COLD_TICKS, COLD_LEAST);
	int sum = 0;

	core->cold_due = *core->clock + COLD_TICK;
	if (core->scan_all)
		look = core->ncold;
	core->scan_all = false;
	/* a command may heat queues: its own, or all of a group (sq_shadow()) */
	for (look = MIN(look, core->ncold); look && core->ncold; look--) {
		struct nvme_cold *c;
		struct nvme_sq *sq;
		int n;

		if (core->cold_next >= core->ncold)
			core->cold_next = 0;
		c = &core->colds[core->cold_next++];
		if (likely(c->tail_db && guest_load32(c->tail_db) == c->head))
			continue;
		sq = c->sq;
		n = sq_poll(core, sq);
		if (n < 0)
			continue; /* no work until its tail is corrected */
		if (sq->cold && (n || sq_pending(sq))) {
			core->cold_next = sq->cold_at; /* another is there */
			sq_heat(sq);
		}
		sum += n;
	}
	return sum;
}

bool
cold_all(struct nvme_core *core)
{
	struct nvme_group *g, *gtmp;
	struct nvme_sq *sq, *tmp;

	list_for_each_safe(g, gtmp, &core->hot, hot_node) {
		list_for_each_safe(sq, tmp, &g->hot, node) {
			if (sq_pending(sq))
				return false;
			cool(sq);
		}
	}
	return true;
}

bool
cold_look(struct nvme_core *core)
{
	for (uint32_t i = 0; i < core->ncold; i++) {
		struct nvme_cold *c = &core->colds[i];

		if (likely(c->tail_db && guest_load32(c->tail_db) == c->head))
			continue;
		if (sq_pending(c->sq))
			return true;
	}
	return false;
}
