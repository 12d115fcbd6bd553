/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core: what there is once per reactor (poll.c, sleep.c). Part of internal.h.
 */
#ifndef BELFRY_NVME_CORE_H
#define BELFRY_NVME_CORE_H

#include "glance.h"
#include "pool.h"

struct nvme_core {
	struct reactor_poller poller;
	struct reactor *reactor;
	struct list hot; /* groups with SQs that are looked at in every round */
	struct list dirty; /* CQs that owe an interrupt */
	struct list work;  /* groups that have a step to do */
	struct list groups;
	struct list intx; /* groups whose INTx level is up */
	uint64_t round;
	uint32_t nhot;
	uint32_t ncold;
	struct nvme_cold *colds; /* cold.c */
	uint32_t cold_cap, cold_next;
	uint64_t cold_due; /* the next look */
	const uint64_t *clock;
	struct {
		struct nvme_group *group; /* never followed: it may be gone */
		uint64_t round;
	} light[2];	      /* the last two that had little to do, and when */
	uint32_t beside_left; /* of FETCH_BESIDE, in this round */
	struct nvme_group *denied; /* first of those for which none was left */
	bool scan_all;		   /* just woken: look at every queue */
	int8_t patience;	   /* are interrupts for batches? */
	uint64_t wake_at;	   /* asleep: when what is no doorbell is due */
	struct nvme_glance glance; /* asleep: at mapped doorbells */
	struct nvme_pool reqs, iovs;
	uint64_t unmaps; /* counts them, for req->scanned */
	void *scratch;	 /* bit bucket */
	struct nvme_core_stats stats;
};
#define CORE_SCRATCH_LEN (64u << 10)
#define LIGHT 3u	/* fewer commands of a round: a light client */
#define FETCH_BESIDE 2u /* a round of all others, beside a light one */

/* sleep.c: the poller's hooks */
uint64_t core_sleep(struct reactor_poller *p);
uint64_t core_look(struct reactor_poller *p);
void core_wake(struct reactor_poller *p);
/* poll.c */
struct nvme_core *core_of(const struct reactor *r);

#endif
