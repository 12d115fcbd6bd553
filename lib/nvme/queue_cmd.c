/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Create and Delete I/O Submission and Completion Queue: all checks of their
 * fields (NVMe 2.0 §5.4 to §5.7), and the list of queues. Not for what a queue is:
 * sq.c, cq.c, ring.c.
 *
 * What can be told at home is told at home; then the command travels to the group where
 * the queue lives, or shall live, and is answered when it has come back.
 */
#include <stdlib.h>

#include "admin.h"

#define QUEUE_PC 1u  /* CDW11: physically contiguous */
#define QUEUE_IEN 2u /* CDW11 of a CQ: interrupts enabled */
#define CC_IOSQES(cc) ((cc) >> 16 & 15)
#define CC_IOCQES(cc) ((cc) >> 20 & 15)
#define IOSQES 6 /* log2 of an entry's bytes */
#define IOCQES 4

struct queue_call {
	struct group_call call;
	struct nvme_req *req;
	struct nvme_qent *ent; /* in ctrl->sqt or cqt; busy meanwhile */
	nvme_status_t status;
};

/* Ids go up to what feature 07h allocated; all of them, before it was asked. */
static bool
qid_allowed(const struct nvme_ctrl *ctrl, uint16_t qid, uint16_t allocated)
{
	unsigned n = ctrl->cfg.io_queues;

	if (allocated != 0xffff)
		n = MIN(n, allocated + 1u);
	return qid && qid <= n && qid <= NVME_MAX_IO_QUEUES;
}

/* What both creations check alike; @entry_ok: CC has the right entry size. */
static nvme_status_t
check_ring(const struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe,
	   bool entry_ok)
{
	uint32_t qsize = sqe->cdw10 >> 16; /* 0's based */

	if (!entry_ok || !qsize || qsize > (ctrl->cap & 0xffff))
		return SPECIFIC(NVME_SC_QUEUE_SIZE);
	if (!(sqe->cdw11 & QUEUE_PC)) /* CAP.CQR */
		return INVALID_FIELD;
	if (sqe->prp1 & (NVME_PAGE - 1))
		return NVME_DNR(NVME_SC_PRP_INVALID_OFFSET);
	return NVME_OK;
}

static struct queue_call *
call_create(struct nvme_req *req, struct nvme_qent *ent,
	    void (*visit)(struct group_call *c),
	    void (*back)(struct group_call *c))
{
	struct queue_call *q = malloc(sizeof(*q));

	if (q)
		*q = (struct queue_call){ .call.visit = visit,
					  .call.back = back,
					  .req = req,
					  .ent = ent };
	return q;
}

/* It has come back: the list says what there is now. */
static void
call_done(struct queue_call *q, bool gone)
{
	struct nvme_ctrl *ctrl = q->req->sq->group->ctrl;
	struct nvme_req *req = q->req;
	nvme_status_t status = q->status;

	if (gone) {
		*q->ent = (struct nvme_qent){ 0 };
	} else {
		q->ent->busy = false;
		ctrl->feat.queues_made = true;
	}
	free(q);
	link_report(ctrl);
	req_complete(req, status);
}

/* ---- completion queues ---- */

static void
create_cq_visit(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);
	const struct nvme_sqe *sqe = &q->req->sqe;

	q->status = far_broken(c->group)
			    ? NVME_SC_INTERNAL
			    : cq_create(c->group, (uint16_t)sqe->cdw10,
					sqe->prp1, q->ent->depth, q->ent->iv,
					q->ent->ien);
	group_return(c);
}

static void
cq_back(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);
	bool gone = q->status || q->req->sqe.opcode == nvme_admin_delete_cq;

	if (gone)
		far_placed(c->group, -1);
	call_done(q, gone);
}

nvme_status_t
queue_create_cq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint16_t cqid = (uint16_t)sqe->cdw10;
	uint16_t iv = (uint16_t)(sqe->cdw11 >> 16);
	bool ien = sqe->cdw11 & QUEUE_IEN;
	struct nvme_group *g;
	struct queue_call *q;
	nvme_status_t status;

	if (!qid_allowed(ctrl, cqid, ctrl->feat.ncqa) || ctrl->cqt[cqid].group)
		return SPECIFIC(NVME_SC_QID_INVALID);
	status = check_ring(ctrl, sqe, CC_IOCQES(ctrl->cc) == IOCQES);
	if (status)
		return status;
	if (!ien)
		iv = 0; /* means nothing */
	else if (iv >= ctrl->cfg.vectors ||
		 iv >= ARRAY_SIZE(ctrl->group.iv_round))
		return SPECIFIC(NVME_SC_INVALID_VECTOR);
	q = call_create(req, &ctrl->cqt[cqid], create_cq_visit, cq_back);
	if (!q || ctrl->state != CTRL_READY) {
		free(q);
		return NVME_SC_INTERNAL;
	}
	g = group_place(ctrl, iv, ien);
	ctrl->cqt[cqid] =
		(struct nvme_qent){ .group = g,
				    .depth = (uint16_t)((sqe->cdw10 >> 16) + 1),
				    .iv = iv,
				    .ien = ien,
				    .busy = true };
	far_placed(g, 1);
	group_call(g, &q->call);
	return NVME_PENDING;
}

static void
delete_cq_visit(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);

	cq_free(c->group->cqs[(uint16_t)q->req->sqe.cdw10]);
	group_return(c);
}

nvme_status_t
queue_delete_cq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint16_t cqid = (uint16_t)req->sqe.cdw10;
	struct nvme_qent *ent = &ctrl->cqt[cqid % ARRAY_SIZE(ctrl->cqt)];
	struct queue_call *q;

	if (!cqid || cqid > NVME_MAX_IO_QUEUES || !ent->group || ent->busy)
		return SPECIFIC(NVME_SC_QID_INVALID);
	if (ent->users)
		return SPECIFIC(NVME_SC_INVALID_QUEUE);
	q = call_create(req, ent, delete_cq_visit, cq_back);
	if (!q)
		return NVME_SC_INTERNAL;
	ent->busy = true;
	group_call(ent->group, &q->call);
	return NVME_PENDING;
}

/* ---- submission queues ---- */

static void
create_sq_visit(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);
	const struct nvme_sqe *sqe = &q->req->sqe;

	q->status = sq_create(c->group, (uint16_t)sqe->cdw10, q->ent->cqid,
			      sqe->prp1, q->ent->depth);
	group_return(c);
}

static void
sq_back(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);
	struct nvme_ctrl *ctrl = q->req->sq->group->ctrl;
	bool gone = q->status || q->req->sqe.opcode == nvme_admin_delete_sq;

	if (gone)
		ctrl->cqt[q->ent->cqid].users--;
	call_done(q, gone);
}

nvme_status_t
queue_create_sq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint16_t sqid = (uint16_t)sqe->cdw10;
	uint16_t cqid = (uint16_t)(sqe->cdw11 >> 16);
	struct nvme_qent *cq;
	struct queue_call *q;
	nvme_status_t status;

	if (!qid_allowed(ctrl, sqid, ctrl->feat.nsqa) || ctrl->sqt[sqid].group)
		return SPECIFIC(NVME_SC_QID_INVALID);
	status = check_ring(ctrl, sqe, CC_IOSQES(ctrl->cc) == IOSQES);
	if (status)
		return status;
	/* One that cannot be is another error than one that is not there. */
	if (!qid_allowed(ctrl, cqid, ctrl->feat.ncqa))
		return SPECIFIC(NVME_SC_QID_INVALID);
	cq = &ctrl->cqt[cqid];
	if (!cq->group || cq->busy)
		return SPECIFIC(NVME_SC_CQ_INVALID);
	q = call_create(req, &ctrl->sqt[sqid], create_sq_visit, sq_back);
	if (!q || ctrl->state != CTRL_READY) {
		free(q);
		return NVME_SC_INTERNAL;
	}
	ctrl->sqt[sqid] =
		(struct nvme_qent){ .group = cq->group,
				    .depth = (uint16_t)((sqe->cdw10 >> 16) + 1),
				    .cqid = cqid,
				    .busy = true };
	cq->users++;
	group_call(cq->group, &q->call);
	return NVME_PENDING;
}

/* Stop fetching; freed in group_step() when it is empty, never under a poller. */
static void
delete_sq_visit(struct group_call *c)
{
	struct queue_call *q = container_of(c, struct queue_call, call);
	struct nvme_sq *sq = c->group->sqs[(uint16_t)q->req->sqe.cdw10];

	sq->stop |= SQ_STOP_DELETE;
	sq_cancel(sq);
	sq->delete_call = c;
	group_work(c->group);
}

nvme_status_t
queue_delete_sq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint16_t sqid = (uint16_t)req->sqe.cdw10;
	struct nvme_qent *ent = &ctrl->sqt[sqid % ARRAY_SIZE(ctrl->sqt)];
	struct queue_call *q;

	if (!sqid || sqid > NVME_MAX_IO_QUEUES || !ent->group || ent->busy)
		return SPECIFIC(NVME_SC_QID_INVALID);
	q = call_create(req, ent, delete_sq_visit, sq_back);
	if (!q)
		return NVME_SC_INTERNAL;
	ent->busy = true;
	group_call(ent->group, &q->call);
	return NVME_PENDING;
}
