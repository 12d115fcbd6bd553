/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admin commands: the table, what is checked for all of them, and the small
 * ones (Abort, Keep Alive). Not for a command family: identify.c, feature.c,
 * log_page.c, queue_cmd.c, aer.c.
 *
 * What the table lacks is answered Invalid Opcode; OACS, the effects log and
 * Identify say the same. A command that does not use the NSID takes any: the
 * specification only says "should" refuse, and drivers that leave something
 * there work everywhere else.
 */
#include "admin.h"

struct admin_cmd {
	nvme_status_t (*run)(struct nvme_ctrl *ctrl, struct nvme_req *req);
	uint32_t effects; /* NVMe 2.0 §5.16.1.6, beside CSUPP */
};

/*
 * NVMe 2.0 §5.1. The answer tells only whether it was aborted; and then it comes behind
 * the completion of what was.
 */
static nvme_status_t
abort_cmd(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint16_t sqid = (uint16_t)req->sqe.cdw10;
	uint16_t cid = (uint16_t)(req->sqe.cdw10 >> 16);
	struct nvme_sq *sq = NULL;
	struct nvme_req *r;

	req->dw0 = 1;
	if (sqid < ARRAY_SIZE(ctrl->group.sqs))
		sq = ctrl->group.sqs[sqid];
	if (!sq) /* or elsewhere, where nothing can be aborted */
		return NVME_OK;
	list_for_each(r, &sq->inflight, node) {
		if (r->sqe.cid != cid || r == req)
			continue;
		if (r->abort) {
			req->dw0 = !r->abort(r);
		} else if (!r->aborter && bdev_cancel(&r->io)) {
			req->dw0 = 0;
			req_slow(r);
			r->aborter = req;
			return NVME_PENDING;
		}
		break;
	}
	return NVME_OK;
}

static nvme_status_t
keep_alive(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	ctrl_keep_alive(ctrl);
	return NVME_OK;
}

static nvme_status_t
doorbell_buffer(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	if (!ctrl_has_dbbuf(ctrl))
		return NVME_DNR(NVME_SC_INVALID_OPCODE);
	return dbbuf_config(ctrl, req);
}

static const struct admin_cmd commands[256] = {
	[nvme_admin_delete_sq] = { queue_delete_sq, SCOPE_CTRL },
	[nvme_admin_create_sq] = { queue_create_sq, SCOPE_CTRL },
	[nvme_admin_get_log_page] = { log_page_get, SCOPE_NS | SCOPE_CTRL },
	[nvme_admin_delete_cq] = { queue_delete_cq, SCOPE_CTRL },
	[nvme_admin_create_cq] = { queue_create_cq, SCOPE_CTRL },
	[nvme_admin_identify] = { identify, SCOPE_NS | SCOPE_CTRL },
	[nvme_admin_abort_cmd] = { abort_cmd, SCOPE_CTRL },
	[nvme_admin_set_features] = { feature_set, SCOPE_NS | SCOPE_CTRL },
	[nvme_admin_get_features] = { feature_get, SCOPE_NS | SCOPE_CTRL },
	[nvme_admin_async_event] = { aer_request, SCOPE_CTRL },
	[nvme_admin_keep_alive] = { keep_alive, SCOPE_CTRL },
	[nvme_admin_dbbuf] = { doorbell_buffer, SCOPE_CTRL },
};

nvme_status_t
admin_start(struct nvme_req *req)
{
	const struct admin_cmd *cmd = &commands[req->sqe.opcode];

	log_guest_debug(
		nvme,
		"controller %u: admin command %02x, nsid %u, cdw10 %08x, cdw11 %08x",
		req->sq->group->ctrl->cntlid, req->sqe.opcode, req->sqe.nsid,
		req->sqe.cdw10, req->sqe.cdw11);
	if (!cmd->run)
		return NVME_DNR(NVME_SC_INVALID_OPCODE);
	/* No fused operation (FUSES 0); admin commands over PCIe have PRPs. */
	if (NVME_SQE_FUSE(req->sqe.flags) || NVME_SQE_PSDT(req->sqe.flags))
		return INVALID_FIELD;
	return cmd->run(req->sq->group->ctrl, req);
}

void
admin_effects(uint32_t acs[256])
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		acs[i] = commands[i].run
				 ? commands[i].effects | NVME_CMD_EFFECTS_CSUPP
				 : 0;
}
