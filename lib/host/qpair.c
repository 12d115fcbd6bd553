/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue pair: push, ring, poll. Nothing here allocates, locks or enters the
 * kernel but alloc and free; the commands that create one are in queue.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

static inline int
db_ring(const struct belfry_qpair *q, const struct doorbell *db, uint32_t old,
	uint32_t val)
{
	if (unlikely(!db->mmio || db->shadow))
		return doorbell_write(q->h, db, old, val);
	/* Release: the entries come first. */
	__atomic_store_n(db->mmio, val, __ATOMIC_RELEASE);
	return 0;
}

int
belfry_push(struct belfry_qpair *q, const struct belfry_sqe *sqe)
{
	uint32_t tail = q->tail;

	if (unlikely(q->inflight >= q->limit))
		return q->limit ? -EAGAIN : -ESHUTDOWN;
	q->sq[tail] = *sqe;
	q->tail = tail + 1 == q->depth ? 0 : tail + 1;
	q->inflight++;
	return 0;
}

int
belfry_ring(struct belfry_qpair *q)
{
	uint32_t old = q->rung;

	if (q->tail == old)
		return 0;
	q->rung = q->tail;
	return db_ring(q, &q->sq_db, old, q->tail);
}

/* Tell the head when enough entries have gathered: a store less per I/O on a line that the controller polls. */
static inline int
ring_head(struct belfry_qpair *q)
{
	uint32_t old = q->head_rung, n = q->head - old;

	if (q->head < old)
		n += q->cq_depth;
	if (!n || n < q->lazy)
		return 0;
	q->head_rung = q->head;
	return db_ring(q, &q->cq_db, old, q->head);
}

int
belfry_poll(struct belfry_qpair *q, unsigned max,
	    void (*done)(void *arg, const struct belfry_cqe *cqe), void *arg)
{
	unsigned n = 0;
	int err;

	/* What was never asked for is never taken, so a controller gone mad ends the loop. */
	while (n < max && q->inflight) {
		struct belfry_cqe *slot = &q->cq[q->head], cqe;
		uint16_t status;

		/* Acquire: pairs with the controller's store of the status, its last. */
		status = __atomic_load_n(&slot->status, __ATOMIC_ACQUIRE);
		if ((status & 1) != q->phase)
			break;
		cqe = *slot;
		cqe.status = status;
		if (++q->head == q->cq_depth) {
			q->head = 0;
			q->phase ^= 1;
		}
		q->inflight--;
		n++;
		done(arg, &cqe);
	}
	if (!n)
		return 0;
	err = ring_head(q);
	return err ? err : (int)n;
}

unsigned
belfry_qpair_id(const struct belfry_qpair *q)
{
	return q->id;
}

int
qpair_alloc(struct belfry_host *h, unsigned id, unsigned depth, int iv,
	    struct belfry_qpair **out)
{
	struct belfry_qpair *q;
	size_t sq_len;
	int err;

	if (posix_memalign((void **)&q, CACHE_LINE, sizeof(*q)))
		return -ENOMEM;
	*q = (struct belfry_qpair){ .h = h,
				    .id = (uint16_t)id,
				    .iv = iv,
				    .depth = depth,
				    .cq_depth = depth,
				    .limit = depth - 1,
				    .phase = 1 };
	if (id && iv < 0)
		q->cq_depth = MIN(2 * depth, max_depth(h));
	q->lazy = q->cq_depth - depth;
	sq_len = align_up(depth * sizeof(*q->sq), NVME_PAGE);
	err = belfry_mem_alloc(h, sq_len + q->cq_depth * sizeof(*q->cq),
			       BELFRY_MEM_READ | BELFRY_MEM_WRITE, &q->mem);
	if (err) {
		free(q);
		return err;
	}
	q->sq = q->mem->va;
	q->cq = (struct belfry_cqe *)((char *)q->mem->va + sq_len);
	doorbell_init(h, &q->sq_db, 2 * id);
	doorbell_init(h, &q->cq_db, 2 * id + 1);
	list_init(&q->node);
	*out = q;
	return 0;
}

/* Its memory is the caller's business. */
void
qpair_free(struct belfry_qpair *q)
{
	list_remove(&q->node);
	free(q);
}
