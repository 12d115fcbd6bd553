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
	/* pool->fresh while some of it was never used, else pool->slabs */
	struct list node;
	char *next;
	uint32_t left;
	char pad[CACHE_LINE - sizeof(struct list) - sizeof(char *) - 4];
	char mem[];
};
_Static_assert(offsetof(struct slab, mem) == CACHE_LINE, "slab's head");

void
pool_init(struct nvme_pool *p, uint32_t obj_len)
{
	*p = (struct nvme_pool){ .obj_len = obj_len };
	list_init(&p->slabs);
	list_init(&p->fresh);
}

void
pool_fini(struct nvme_pool *p)
{
	struct slab *s, *tmp;

	list_splice(&p->slabs, &p->fresh);
	list_for_each_safe(s, tmp, &p->slabs, node) {
		list_remove(&s->node);
		reactor_mem_free(s, SLAB_LEN);
	}
	p->free = NULL;
	p->total = 0;
}

static int
pool_grow(struct nvme_pool *p, const struct reactor *r)
{
	struct slab *s = reactor_mem_alloc(r, SLAB_LEN);

	if (!s)
		return -ENOMEM;
	s->next = s->mem;
	s->left = (SLAB_LEN - sizeof(*s)) / p->obj_len;
	list_push_back(&p->fresh, &s->node);
	p->total += s->left;
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
	struct slab *s = list_first(&p->fresh, struct slab, node);
	void *obj;

	if (!s)
		return NULL;
	obj = s->next;
	s->next += p->obj_len;
	if (--s->left == 0) {
		list_remove(&s->node);
		list_push_back(&p->slabs, &s->node);
	}
	return obj;
}
