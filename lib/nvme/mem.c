/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pools of a core: requests and long iov arrays, in slabs that grow when a
 * queue is created and never on the data path. A queue pledges what it may use,
 * so that no controller can use up what another was promised.
 */
#include <errno.h>

#include "internal.h"

#define SLAB_LEN (256u << 10)

struct slab {
	struct list node;
	char pad[CACHE_LINE - sizeof(struct list)];
	char mem[];
};

void
pool_init(struct nvme_pool *p, uint32_t obj_len)
{
	*p = (struct nvme_pool){ .obj_len = obj_len };
	list_init(&p->slabs);
}

void
pool_fini(struct nvme_pool *p)
{
	struct slab *s, *tmp;

	list_for_each_safe(s, tmp, &p->slabs, node) {
		list_remove(&s->node);
		reactor_mem_free(s, SLAB_LEN);
	}
	p->free = NULL;
	p->nfresh = p->total = 0;
}

static int
pool_grow(struct nvme_pool *p, const struct reactor *r)
{
	uint32_t n = (SLAB_LEN - sizeof(struct slab)) / p->obj_len;
	struct slab *s = reactor_mem_alloc(r, SLAB_LEN);

	if (!s)
		return -ENOMEM;
	/* What the slab before still had fresh goes to the free list. */
	while (p->nfresh) {
		pool_put(p, p->fresh);
		p->fresh += p->obj_len;
		p->nfresh--;
	}
	list_push_back(&p->slabs, &s->node);
	p->fresh = s->mem;
	p->nfresh = n;
	p->total += n;
	return 0;
}

int
pool_pledge(struct nvme_pool *p, const struct reactor *r, int64_t n)
{
	uint32_t want = (uint32_t)(p->pledged + n);

	while (p->total < want) {
		int err = pool_grow(p, r);

		if (err)
			return err;
	}
	p->pledged = want;
	return 0;
}

void *
pool_fresh(struct nvme_pool *p)
{
	void *obj = p->fresh;

	if (!p->nfresh)
		return NULL;
	p->fresh += p->obj_len;
	p->nfresh--;
	return obj;
}
