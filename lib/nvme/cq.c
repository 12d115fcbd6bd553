/* SPDX-License-Identifier: BSD-3-Clause */
/* The completion queue: post an entry, flip the phase, mark the vector. */
#include <stdlib.h>

#include "internal.h"

/*
 * The host's head. A value outside of the queue, or one that takes more than
 * there is, is an event and otherwise ignored (NVMe 2.0 §3.1.3.19).
 */
bool
cq_check_head(struct nvme_cq *cq)
{
	struct nvme_group *g = cq->group;
	uint32_t head, taken;

	/* The admin queue's register counts until its shadow entry moves. */
	if (unlikely(g->shadow && !cq->shadow_db) &&
	    guest_load32(&g->shadow[1]) != cq->shadow_first) {
		cq->shadow_db = &g->shadow[1];
		cq->event_idx = &g->event[1];
		g->rearm = true;
	}
	head = guest_load_acquire32(cq->shadow_db ? cq->shadow_db
						  : cq->head_db);
	if (head == cq->head)
		return true;
	if (head < cq->depth) {
		taken = head >= cq->head ? head - cq->head
					 : head + cq->depth - cq->head;
		if (taken <= cq_used(cq)) {
			cq->head = head;
			g->rearm = true; /* its event index */
			cq->bad_head = UINT32_MAX;
			return true;
		}
	}
	if (head != cq->bad_head) {
		cq->bad_head = head;
		group_bad_doorbell(g);
	}
	return false;
}

bool
cq_unread(struct nvme_cq *cq)
{
	cq_check_head(cq);
	return cq->head != cq->tail;
}

/* The ring is unmapped, or nobody shall hear of it any more. */
void
cq_hold(struct nvme_cq *cq, struct nvme_req *req)
{
	if (cq->hold & CQ_HOLD_MUTE) {
		cq->busy--;
		req_free(req);
		return;
	}
	req->next = NULL;
	if (cq->held_tail)
		cq->held_tail->next = req;
	else
		cq->held_head = req;
	cq->held_tail = req;
}

static struct nvme_req *
cq_pop_held(struct nvme_cq *cq)
{
	struct nvme_req *req = cq->held_head;

	if (req) {
		cq->held_head = req->next;
		if (!cq->held_head)
			cq->held_tail = NULL;
	}
	return req;
}

void
cq_release_held(struct nvme_cq *cq)
{
	struct nvme_req *req;

	while ((req = cq_pop_held(cq))) {
		cq_post(cq, req, req->status);
		req_free(req);
	}
}

void
cq_drop_held(struct nvme_cq *cq)
{
	struct nvme_req *req;

	while ((req = cq_pop_held(cq))) {
		cq->busy--;
		req_free(req);
	}
}

/* On the group's reactor; that the queue may be was checked. */
nvme_status_t
cq_create(struct nvme_group *g, uint16_t cqid, iova_t iova, uint32_t depth,
	  uint16_t iv, bool ien)
{
	struct nvme_cq *cq;
	nvme_status_t st;

	cq = aligned_alloc(CACHE_LINE, align_up(sizeof(*cq), CACHE_LINE));
	if (!cq)
		return NVME_SC_INTERNAL;
	*cq = (struct nvme_cq){ .group = g,
				.cqid = cqid,
				.iv = iv,
				.ien = ien,
				.depth = depth,
				.phase = CQE_PHASE,
				.bad_head = UINT32_MAX };
	st = ring_init(&cq->ring, g, iova, depth * sizeof(struct nvme_cqe),
		       IOAS_WRITE, cqid == 0);
	if (st) {
		free(cq);
		return st;
	}
	cq->page = cq->ring.page;
	list_init(&cq->dirty);
	pace_init(cq);
	group_pace(g, cq);
	cq->head_db = &g->ctrl->db[2 * cqid + 1];
	guest_store32(cq->head_db, 0);
	g->cqs[cqid] = cq;
	cq_shadow(cq);
	cq_update_hold(cq);
	if (g->hushed == HUSH_MUTE)
		cq->hold |= CQ_HOLD_MUTE;
	return NVME_OK;
}

void
cq_free(struct nvme_cq *cq)
{
	struct nvme_group *g = cq->group;

	list_remove(&cq->dirty);
	g->cqs[cq->cqid] = NULL;
	guest_store32(cq->head_db, 0);
	ring_fini(&cq->ring);
	free(cq); /* cold: a queue goes */
	group_intx(g);
}
