/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands that make and delete I/O queues (NVMe 2.0 §5.4, §5.5). Not for
 * what goes through them: that is qpair.c.
 */
#include <errno.h>

#include "internal.h"

#define OPC_DELETE_SQ 0x00
#define OPC_CREATE_SQ 0x01
#define OPC_DELETE_CQ 0x04
#define OPC_CREATE_CQ 0x05
#define OPC_SET_FEATURES 0x09
#define FEAT_QUEUES 0x07
#define CQ_CONTIGUOUS 1u
#define CQ_INTERRUPTS 2u

int
belfry_set_queue_count(struct belfry_host *h, unsigned want, unsigned *got)
{
	struct belfry_sqe sqe = { .dw = { OPC_SET_FEATURES } };
	struct belfry_cqe cqe;
	int err;

	if (!want || want >= MAX_QID)
		return -EINVAL;
	sqe.dw[10] = FEAT_QUEUES;
	sqe.dw[11] = (want - 1) << 16 | (want - 1);
	err = belfry_admin(h, &sqe, NULL, 0, &cqe, 0);
	if (!err)
		*got = MIN(cqe.dw0 & 0xffff, cqe.dw0 >> 16) + 1;
	return err;
}

static int
create_cq(struct belfry_host *h, const struct belfry_qpair *q)
{
	struct belfry_sqe sqe = { .dw = { OPC_CREATE_CQ } };
	uint64_t iova =
		q->mem->iova + (uint64_t)((char *)q->cq - (char *)q->mem->va);

	sqe.dw[6] = (uint32_t)iova;
	sqe.dw[7] = (uint32_t)(iova >> 32);
	sqe.dw[10] = (q->cq_depth - 1) << 16 | q->id;
	sqe.dw[11] = CQ_CONTIGUOUS;
	if (q->iv >= 0)
		sqe.dw[11] |= (uint32_t)q->iv << 16 | CQ_INTERRUPTS;
	return belfry_admin(h, &sqe, NULL, 0, NULL, 0);
}

static int
create_sq(struct belfry_host *h, const struct belfry_qpair *q)
{
	struct belfry_sqe sqe = { .dw = { OPC_CREATE_SQ } };

	sqe.dw[6] = (uint32_t)q->mem->iova;
	sqe.dw[7] = (uint32_t)(q->mem->iova >> 32);
	sqe.dw[10] = (q->depth - 1) << 16 | q->id;
	sqe.dw[11] = (uint32_t)q->id << 16 | CQ_CONTIGUOUS;
	return belfry_admin(h, &sqe, NULL, 0, NULL, 0);
}

static int
delete_queue(struct belfry_host *h, unsigned opcode, unsigned id)
{
	struct belfry_sqe sqe = { .dw = { opcode } };

	sqe.dw[10] = id;
	return belfry_admin(h, &sqe, NULL, 0, NULL, 0);
}

/* The lowest id that no live queue pair has; 0: none left. */
static unsigned
free_id(struct belfry_host *h)
{
	for (unsigned id = 1; id < MAX_QID; id++) {
		struct belfry_qpair *q;
		bool used = false;

		list_for_each(q, &h->qpairs, node)
			used |= q->limit && q->id == id;
		if (!used)
			return id;
	}
	return 0;
}

int
belfry_qpair_create(struct belfry_host *h, unsigned depth, int iv,
		    struct belfry_qpair **out)
{
	unsigned id = free_id(h);
	struct belfry_qpair *q;
	int err;

	if (!h->enabled)
		return -ENODEV;
	if (depth < 2 || depth > max_depth(h) || iv > 2047)
		return -EINVAL;
	if (!id || !range_inside(REG_DOORBELLS + 2 * id * db_stride(h),
				 2 * db_stride(h), h->bar0_len))
		return -ENOSPC;
	err = qpair_alloc(h, id, depth, iv, &q);
	if (err)
		return err;
	doorbell_shadow(h, q);
	err = create_cq(h, q);
	if (err)
		goto free_qpair;
	err = create_sq(h, q);
	if (err) {
		delete_queue(h, OPC_DELETE_CQ, id);
		goto free_qpair;
	}
	list_push_back(&h->qpairs, &q->node);
	*out = q;
	return 0;
free_qpair:
	belfry_mem_free(h, q->mem);
	qpair_free(q);
	return err;
}

int
belfry_qpair_destroy(struct belfry_qpair *q)
{
	struct belfry_host *h;
	int err = 0;

	if (!q)
		return 0;
	h = q->h;
	if (h->enabled && q->limit) {
		err = delete_queue(h, OPC_DELETE_SQ, q->id);
		if (!err)
			err = delete_queue(h, OPC_DELETE_CQ, q->id);
	}
	belfry_mem_free(h, q->mem);
	qpair_free(q);
	return err;
}
