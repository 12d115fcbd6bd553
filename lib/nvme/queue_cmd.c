/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Create and Delete I/O Submission and Completion Queue: all checks of their
 * fields (NVMe 2.0 §5.4 to §5.7). Not for what a queue is: sq.c, cq.c, ring.c.
 */
#include "admin.h"

#define QUEUE_PC 1u  /* CDW11: physically contiguous */
#define QUEUE_IEN 2u /* CDW11 of a CQ: interrupts enabled */
#define CC_IOSQES(cc) ((cc) >> 16 & 15)
#define CC_IOCQES(cc) ((cc) >> 20 & 15)
#define IOSQES 6 /* log2 of an entry's bytes */
#define IOCQES 4

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

nvme_status_t
queue_create_cq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint16_t cqid = (uint16_t)sqe->cdw10;
	uint16_t iv = (uint16_t)(sqe->cdw11 >> 16);
	bool ien = sqe->cdw11 & QUEUE_IEN;
	nvme_status_t status;

	if (!qid_allowed(ctrl, cqid, ctrl->feat.ncqa) || ctrl->cqs[cqid])
		return SPECIFIC(NVME_SC_QID_INVALID);
	status = check_ring(ctrl, sqe, CC_IOCQES(ctrl->cc) == IOCQES);
	if (status)
		return status;
	if (!ien)
		iv = 0; /* means nothing */
	else if (iv >= ctrl->cfg.vectors)
		return SPECIFIC(NVME_SC_INVALID_VECTOR);
	return cq_create(ctrl, cqid, sqe->prp1, (sqe->cdw10 >> 16) + 1, iv,
			 ien);
}

nvme_status_t
queue_create_sq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint16_t sqid = (uint16_t)sqe->cdw10;
	uint16_t cqid = (uint16_t)(sqe->cdw11 >> 16);
	nvme_status_t status;

	if (!qid_allowed(ctrl, sqid, ctrl->feat.nsqa) || ctrl->sqs[sqid])
		return SPECIFIC(NVME_SC_QID_INVALID);
	status = check_ring(ctrl, sqe, CC_IOSQES(ctrl->cc) == IOSQES);
	if (status)
		return status;
	/* One that cannot be is another error than one that is not there. */
	if (!qid_allowed(ctrl, cqid, ctrl->feat.ncqa))
		return SPECIFIC(NVME_SC_QID_INVALID);
	if (!ctrl->cqs[cqid])
		return SPECIFIC(NVME_SC_CQ_INVALID);
	return sq_create(ctrl, sqid, cqid, sqe->prp1, (sqe->cdw10 >> 16) + 1,
			 sqe->cdw11 >> 1 & 3);
}

nvme_status_t
queue_delete_cq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint16_t cqid = (uint16_t)req->sqe.cdw10;

	if (!cqid || cqid > NVME_MAX_IO_QUEUES || !ctrl->cqs[cqid])
		return SPECIFIC(NVME_SC_QID_INVALID);
	if (ctrl->cqs[cqid]->sq_count)
		return SPECIFIC(NVME_SC_INVALID_QUEUE);
	return cq_delete(ctrl, cqid);
}

nvme_status_t
queue_delete_sq(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint16_t sqid = (uint16_t)req->sqe.cdw10;

	if (!sqid || sqid > NVME_MAX_IO_QUEUES || !ctrl->sqs[sqid] ||
	    ctrl->sqs[sqid]->stop & SQ_STOP_DELETE)
		return SPECIFIC(NVME_SC_QID_INVALID);
	return sq_delete(ctrl, sqid, req);
}
