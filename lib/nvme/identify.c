/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Identify: the controller, lists, and which NSIDs each CNS takes (NVMe 2.0
 * §5.17). Not for the structures of a namespace: identify_ns.c.
 *
 * An NSID is valid up to NN and active where a namespace is attached. Data
 * structures of inactive ones are all zeros.
 */
#include "admin.h"

#define DEFAULT_VENDOR 0x4e58 /* as lib/pci */
#define CSI_NVM 0
#define IDENTIFY_LEN 4096

#define TO_SPEC_2_0 0x00020000
#define SHUTDOWN_US 10000000 /* RTD3E: a host waits that long for SHST */

static void
fill_ctrl_identity(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	const struct nvme_subsys_config *s = subsys_config(ctrl->subsys);
	uint16_t vendor = ctrl->cfg.vendor ? ctrl->cfg.vendor : DEFAULT_VENDOR;

	id->vid = vendor;
	id->ssvid = ctrl->cfg.sub_vendor ? ctrl->cfg.sub_vendor : vendor;
	util_pad_ascii(id->sn, sizeof(id->sn), s->serial);
	util_pad_ascii(id->mn, sizeof(id->mn), s->model);
	util_pad_ascii(id->fr, sizeof(id->fr), BELFRY_VERSION);
	/* The OUI of the default vendor id's owner: 50-6B-8D. */
	id->ieee[0] = 0x8d;
	id->ieee[1] = 0x6b;
	id->ieee[2] = 0x50;
	id->cntlid = ctrl->cntlid;
	id->ver = TO_SPEC_2_0;
	id->cntrltype = NVME_CTRL_CNTRLTYPE_IO;
	strncpy(id->subnqn, s->nqn, sizeof(id->subnqn) - 1);
}

static void
fill_ctrl_admin(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	id->mdts = NVME_MDTS(ctrl);
	id->rtd3e = SHUTDOWN_US;
	id->oaes = NVME_CTRL_OAES_NA;
	id->oacs = ctrl_has_dbbuf(ctrl) ? NVME_CTRL_OACS_DBBUF_CFG : 0;
	id->acl = 3; /* 0's based; an Abort ends at once, none ever waits */
	id->aerl = NVME_AER_MAX - 1;
	id->frmw = 1 << 1 | 1; /* one slot, read-only */
	id->lpa = NVME_CTRL_LPA_SMART_PER_NS | NVME_CTRL_LPA_CMD_EFFECTS |
		  NVME_CTRL_LPA_EXTENDED | NVME_CTRL_LPA_LI0_LI5_LI12_LI13;
	id->elpe = NVME_ERRLOG_ENTRIES - 1;
	id->npss = 0;
	id->psd[0].mp = 2500; /* hundredths of a watt */
	id->wctemp = TEMP_WARNING;
	id->cctemp = TEMP_CRITICAL;
	id->kas = KAS;
}

static void
fill_ctrl_nvm(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	uint32_t nn = subsys_config(ctrl->subsys)->max_namespaces;

	id->rab = 6;
	/* Other listeners of the subsystem bring controllers of their own, each behind a port of its own. */
	id->cmic = NVME_CTRL_CMIC_MULTI_PORT | NVME_CTRL_CMIC_MULTI_CTRL;
	id->sqes = 6 << 4 | 6;
	id->cqes = 4 << 4 | 4;
	id->maxcmd = (uint16_t)MIN(ctrl->cfg.max_depth, 0xffffu);
	id->nn = nn;
	id->mnan = nn;
	id->oncs = NVME_CTRL_ONCS_COMPARE | NVME_CTRL_ONCS_DSM |
		   NVME_CTRL_ONCS_WRITE_ZEROES | NVME_CTRL_ONCS_SAVE_FEATURES |
		   NVME_CTRL_ONCS_TIMESTAMP | NVME_CTRL_ONCS_VERIFY;
	/*
	 * Always: a host reads this once, and a namespace with a cache may be
	 * added later. Without one a Flush costs nothing.
	 */
	id->vwc = NVME_VWC_FLAGS;
	id->sgls = NVME_SGLS;
}

static nvme_status_t
fill_ctrl(const struct nvme_ctrl *ctrl, void *buf)
{
	fill_ctrl_identity(ctrl, buf);
	fill_ctrl_admin(ctrl, buf);
	fill_ctrl_nvm(ctrl, buf);
	return NVME_OK;
}

/* NVM Command Set 1.0 §4.1.5.2 */
static nvme_status_t
fill_ctrl_nvm_limits(const struct nvme_ctrl *ctrl, void *buf)
{
	struct nvme_id_ctrl_nvm *id = buf;

	id->vsl = NVME_VSL(ctrl);
	id->wzsl = NVME_WZSL(ctrl);
	id->dmrl = NVME_DMRL;
	id->dmrsl = NVME_DMRSL;
	id->dmsl = NVME_DMSL;
	return NVME_OK;
}

/* Active NSIDs above @after, ascending. */
static nvme_status_t
fill_ns_list(struct nvme_ctrl *ctrl, uint32_t after, void *buf)
{
	struct nvme_ns_list *list = buf;
	unsigned n = 0;

	if (after >= NVME_NSID_ALL - 1)
		return INVALID_NS;
	for (uint32_t nsid = after + 1;
	     nsid <= NVME_MAX_NS && n < ARRAY_SIZE(list->ns); nsid++)
		if (ctrl_ns(ctrl, nsid))
			list->ns[n++] = nsid;
	return NVME_OK;
}

/* The one combination of I/O command sets: NVM alone. */
static nvme_status_t
fill_command_sets(const struct nvme_ctrl *ctrl, uint16_t cntlid, void *buf)
{
	struct nvme_id_iocs *iocs = buf;

	if (cntlid != 0xffff && cntlid != ctrl->cntlid)
		return INVALID_FIELD;
	iocs->iocsc[0] = 1u << CSI_NVM;
	return NVME_OK;
}

/* A structure of one namespace. */
static nvme_status_t
fill_ns(struct nvme_ctrl *ctrl, uint8_t cns, uint32_t nsid, void *buf)
{
	const struct nvme_nsref *ns;

	if (!nsid_valid(ctrl, nsid))
		return INVALID_NS;
	ns = ctrl_ns(ctrl, nsid);
	if (cns == NVME_IDENTIFY_CNS_NS_DESC_LIST) {
		if (!ns)
			return INVALID_FIELD;
		identify_fill_descs(ns, buf);
	} else if (!ns) {
		return NVME_OK; /* inactive: zeros */
	} else if (cns == NVME_IDENTIFY_CNS_NS) {
		identify_fill_ns(ns, buf);
	} else if (cns == NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS) {
		identify_fill_independent(ns, buf);
	}
	/* CNS 05h: no metadata, no protection: zeros say so. */
	return NVME_OK;
}

static nvme_status_t
fill(struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe, void *buf)
{
	uint8_t cns = (uint8_t)sqe->cdw10;
	uint16_t cntlid = (uint16_t)(sqe->cdw10 >> 16);
	uint8_t csi = (uint8_t)(sqe->cdw11 >> 24);

	switch (cns) {
	case NVME_IDENTIFY_CNS_CSI_NS:
	case NVME_IDENTIFY_CNS_CSI_CTRL:
	case NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST:
		if (csi != CSI_NVM)
			return INVALID_FIELD;
	}
	switch (cns) {
	case NVME_IDENTIFY_CNS_NS:
	case NVME_IDENTIFY_CNS_NS_DESC_LIST:
	case NVME_IDENTIFY_CNS_CSI_NS:
	case NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS:
		return fill_ns(ctrl, cns, sqe->nsid, buf);
	case NVME_IDENTIFY_CNS_CTRL:
		return fill_ctrl(ctrl, buf);
	case NVME_IDENTIFY_CNS_NS_ACTIVE_LIST:
	case NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST:
		return fill_ns_list(ctrl, sqe->nsid, buf);
	case NVME_IDENTIFY_CNS_CSI_CTRL:
		return fill_ctrl_nvm_limits(ctrl, buf);
	case NVME_IDENTIFY_CNS_COMMAND_SET_STRUCTURE:
		return fill_command_sets(ctrl, cntlid, buf);
	default:
		return INVALID_FIELD;
	}
}

nvme_status_t
identify(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint64_t buf[IDENTIFY_LEN / 8] = { 0 };
	nvme_status_t status;

	if ((uint8_t)req->sqe.cdw10 == NVME_IDENTIFY_CNS_CTRL_LIST)
		return link_list_ctrls(ctrl, req);
	status = fill(ctrl, &req->sqe, buf);
	return status ? status : req_to_host(req, buf, sizeof(buf));
}
