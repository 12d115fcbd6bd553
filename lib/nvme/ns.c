/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Namespaces as a controller sees them: a channel to the block device on its
 * reactor, its size, its counters. The table itself is the subsystem's (subsys.c);
 * its changes come as messages and go back as acknowledgements.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

struct nvme_nsref *
ctrl_ns(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	struct nvme_nsref *ns;

	if (!nsid || nsid > NVME_MAX_NS)
		return NULL;
	ns = ctrl->group.ns[nsid - 1];
	return ns && !ns->removing ? ns : NULL;
}

int
nsref_add(struct nvme_ctrl *ctrl, const struct nvme_ns_info *info,
	  struct bdev_desc *desc)
{
	struct nvme_nsref *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return -ENOMEM;
	ns->ch = bdev_get_ch(desc);
	if (!ns->ch) {
		free(ns);
		return -ENOMEM;
	}
	ns->nsid = info->cfg.nsid;
	ns->nlb = info->bdev.num_blocks;
	ns->lba_shift = (uint8_t)ilog2(info->bdev.block_len);
	ctrl->group.block_shift = MAX(ctrl->group.block_shift, ns->lba_shift);
	ns->read_only = info->bdev.read_only;
	ns->write_cache = info->bdev.write_cache;
	ns->caps = info->bdev.caps;
	ns->bdev = info->bdev;
	ns->cfg = info->cfg;
	ns->desc = desc;
	ns->flush_seen = bdev_flush_seq(desc);
	ctrl->group.ns[ns->nsid - 1] = ns;
	return 0;
}

static void
nsref_free(struct nvme_ctrl *ctrl, struct nvme_nsref *ns)
{
	ctrl->past_read_cmds += ns->read_cmds;
	ctrl->past_write_cmds += ns->write_cmds;
	ctrl->past_read_units += ns->read_units;
	ctrl->past_write_units += ns->write_units;
	ctrl->group.ns[ns->nsid - 1] = NULL;
	bdev_put_ch(ns->ch);
	if (ns->change)
		ns_change_ack(ns->change);
	free(ns);
}

void
nsref_free_all(struct nvme_ctrl *ctrl)
{
	for (unsigned i = 0; i < NVME_MAX_NS; i++)
		if (ctrl->group.ns[i])
			nsref_free(ctrl, ctrl->group.ns[i]);
}

/* Its last request has ended, perhaps inside the device's completion: later. */
void
ns_drained(struct nvme_nsref *ns)
{
	ns->drained_for->ns_gone = true;
	ctrl_work(ns->drained_for);
}

void
ns_step(struct nvme_ctrl *ctrl)
{
	if (!ctrl->ns_gone)
		return;
	ctrl->ns_gone = false;
	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		struct nvme_nsref *ns = ctrl->group.ns[i];

		if (ns && ns->removing && !ns->inflight)
			nsref_free(ctrl, ns);
	}
}

static void
ns_event(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	if (ctrl->state == CTRL_READY)
		aer_ns_changed(ctrl, nsid);
}

/* New commands are refused at once; those that run are waited for. */
static bool
ns_remove(struct nvme_ctrl *ctrl, struct nvme_nsref *ns, struct ns_change *c)
{
	ns->removing = true;
	ns->change = c;
	ns->drained_for = ctrl;
	ns_event(ctrl, ns->nsid);
	if (ns->inflight)
		return true; /* acknowledged by nsref_free() */
	nsref_free(ctrl, ns);
	return true;
}

void
ns_apply(struct nvme_ctrl *ctrl, struct ns_change *c)
{
	uint32_t nsid = c->info.cfg.nsid;
	struct nvme_nsref *ns = ctrl->group.ns[nsid - 1];

	if (ctrl->ended) { /* it has let go of all of them */
		ns_change_ack(c);
		return;
	}
	switch (c->kind) {
	case NS_ADD:
		if (!ns && !nsref_add(ctrl, &c->info, c->desc))
			ns_event(ctrl, nsid);
		else
			log_error("namespace %u is not seen by controller %u "
				  "of %s: no channel",
				  nsid, ctrl->cntlid, ctrl->subsys_nqn);
		break;
	case NS_REMOVE:
		if (ns && ns_remove(ctrl, ns, c))
			return;
		break;
	case NS_RESIZE:
		if (!ns)
			break;
		ns->nlb = ns->bdev.num_blocks = c->info.bdev.num_blocks;
		ns_event(ctrl, nsid);
		break;
	}
	ns_change_ack(c);
}
