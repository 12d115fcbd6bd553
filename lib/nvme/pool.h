/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pools of a core: objects of one size in slabs that grow when a queue is created and
 * never on the data path. Not shared between reactors. mem.c.
 */
#ifndef BELFRY_NVME_POOL_H
#define BELFRY_NVME_POOL_H

#include "belfry/reactor.h"

struct nvme_pool { /* objects of one size in slabs; memory is touched when it is first used */
	void *free;
	uint32_t total, pledged;
	uint32_t obj_len;
	struct list slabs; /* used up */
	struct list fresh; /* slabs of which some was never used */
};

void pool_init(struct nvme_pool *p, uint32_t obj_len);
void pool_fini(struct nvme_pool *p);
/* Promise @n more (or, negative, fewer) objects; -ENOMEM. */
int pool_pledge(struct nvme_pool *p, const struct reactor *r, int64_t n);
void *pool_fresh(struct nvme_pool *p); /* zeroed; NULL: none is left */

static inline void *
pool_get(struct nvme_pool *p)
{
	void *obj = p->free;

	if (unlikely(!obj))
		return pool_fresh(p);
	p->free = *(void **)obj;
	return obj;
}

static inline void
pool_put(struct nvme_pool *p, void *obj)
{
	*(void **)obj = p->free;
	p->free = obj;
}

#endif
