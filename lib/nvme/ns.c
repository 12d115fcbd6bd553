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
nsref_add(struct nvme_group *g, const struct nvme_ns_info *info,
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
	g->block_shift = MAX(g->block_shift, ns->lba_shift);
	ns->read_only = info->bdev.read_only;
	ns->write_cache = info->bdev.write_cache;
	ns->caps = info->bdev.caps;
	ns->bdev = info->bdev;
	ns->cfg = info->cfg;
	ns->desc = desc;
	ns->flush_seen = bdev_flush_seq(desc);
	ns->group = g;
	g->ns[ns->nsid - 1] = ns;
	return 0;
}

/* No request is on it. */
static void
nsref_free(struct nvme_nsref *ns)
{
	struct nvme_group *g = ns->group;

	g->past.read_cmds += ns->read_cmds;
	g->past.write_cmds += ns->write_cmds;
	g->past.read_units += ns->read_units;
	g->past.write_units += ns->write_units;
	g->ns[ns->nsid - 1] = NULL;
	bdev_put_ch(ns->ch);
	if (ns->gone)
		group_return(ns->gone);
	if (ns->change)
		ns_change_ack(ns->change);
	free(ns);
}

void
nsref_free_all(struct nvme_group *g)
{
	for (unsigned i = 0; i < NVME_MAX_NS; i++)
		if (g->ns[i])
			nsref_free(g->ns[i]);
}

void
nsref_sum(const struct nvme_group *g, uint32_t nsid, struct nvme_io_sum *sum)
{
	sum->busy_ns = MAX(sum->busy_ns, g->busy_ns);
	if (!nsid) {
		sum->read_cmds += g->past.read_cmds;
		sum->write_cmds += g->past.write_cmds;
		sum->read_units += g->past.read_units;
		sum->write_units += g->past.write_units;
	}
	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		const struct nvme_nsref *ns = g->ns[i];

		if (!ns || (nsid && ns->nsid != nsid))
			continue;
		sum->read_cmds += ns->read_cmds;
		sum->write_cmds += ns->write_cmds;
		sum->read_units += ns->read_units;
		sum->write_units += ns->write_units;
	}
}

struct ns_entry *
nsref_list(const struct nvme_group *g, unsigned *n)
{
	struct ns_entry *list;

	*n = 0;
	for (unsigned i = 0; i < NVME_MAX_NS; i++)
		*n += g->ns[i] && !g->ns[i]->removing;
	list = calloc(MAX(*n, 1u), sizeof(*list));
	*n = 0;
	for (unsigned i = 0; list && i < NVME_MAX_NS; i++) {
		const struct nvme_nsref *ns = g->ns[i];

		if (!ns || ns->removing)
			continue;
		list[*n].info.cfg = ns->cfg;
		list[*n].info.bdev = ns->bdev;
		list[(*n)++].desc = ns->desc;
	}
	return list;
}

/* Its last request has ended, perhaps inside the device's completion: later. */
void
ns_drained(struct nvme_nsref *ns)
{
	ns->group->ns_gone = true;
	group_work(ns->group);
}

/* Those that are waited for; at home after all other groups. */
void
ns_step(struct nvme_group *g)
{
	if (!g->ns_gone)
		return;
	g->ns_gone = false;
	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		struct nvme_nsref *ns = g->ns[i];

		if (ns && (ns->gone || ns->change) && !ns->inflight)
			nsref_free(ns);
	}
}

static void
ns_event(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	if (ctrl->state == CTRL_READY)
		aer_ns_changed(ctrl, nsid);
}

/* ---- changes of the table: at home first, then in the other groups ---- */

static struct ns_change *
change_of(struct group_tour *t)
{
	return container_of(t, struct ns_change, tour);
}

static struct nvme_nsref *
change_ns(const struct nvme_group *g, const struct ns_change *c)
{
	return g->ns[c->info.cfg.nsid - 1];
}

static void
not_seen(const struct nvme_group *g, uint32_t nsid)
{
	log_error("namespace %u is not seen by controller %u of %s on core "
		  "%u: no channel",
		  nsid, g->ctrl->cntlid, g->ctrl->subsys_nqn,
		  reactor_core(g->core->reactor));
}

/* What does not wait, of all kinds. */
static void
change_visit(struct group_call *call)
{
	struct ns_change *c = change_of(tour_of(call));
	struct nvme_group *g = call->group;
	struct nvme_nsref *ns = change_ns(g, c);

	if (c->kind == NS_ADD && !ns && nsref_add(g, &c->info, c->desc))
		not_seen(g, c->info.cfg.nsid);
	else if (c->kind == NS_REMOVE && ns)
		ns->removing = true;
	else if (c->kind == NS_RESIZE && ns)
		ns->nlb = ns->bdev.num_blocks = c->info.bdev.num_blocks;
	group_return(call);
}

static void
change_end(struct group_tour *t)
{
	struct ns_change *c = change_of(t);

	if (!t->ctrl->ended)
		ns_event(t->ctrl, c->info.cfg.nsid);
	ns_change_ack(c);
}

/* The second round of a removal: those that run are waited for. */
static void
remove_visit(struct group_call *call)
{
	struct nvme_nsref *ns =
		change_ns(call->group, change_of(tour_of(call)));

	if (!ns) {
		group_return(call);
		return;
	}
	ns->gone = call;
	if (!ns->inflight)
		nsref_free(ns);
}

static void
remove_end(struct group_tour *t)
{
	struct ns_change *c = change_of(t);
	struct nvme_nsref *ns = change_ns(&t->ctrl->group, c);

	if (!ns) { /* the controller has ended meanwhile */
		ns_change_ack(c);
		return;
	}
	ns->change = c;
	if (!ns->inflight)
		nsref_free(ns);
}

static void
removing_end(struct group_tour *t)
{
	tour_start(t, t->ctrl, remove_visit, remove_end);
}

void
ns_apply(struct nvme_ctrl *ctrl, struct ns_change *c)
{
	struct nvme_group *g = &ctrl->group;
	struct nvme_nsref *ns = change_ns(g, c);

	if (ctrl->ended) { /* it has let go of all of them */
		ns_change_ack(c);
		return;
	}
	switch (c->kind) {
	case NS_ADD:
		if (!ns && !nsref_add(g, &c->info, c->desc))
			break;
		not_seen(g, c->info.cfg.nsid);
		ns_change_ack(c);
		return;
	case NS_REMOVE:
	case NS_RESIZE:
		if (ns && !ns->removing)
			break;
		ns_change_ack(c);
		return;
	}
	if (c->kind == NS_RESIZE)
		ns->nlb = ns->bdev.num_blocks = c->info.bdev.num_blocks;
	if (c->kind == NS_REMOVE) {
		/* New commands are refused at once. */
		ns->removing = true;
		ns_event(ctrl, ns->nsid);
		tour_start(&c->tour, ctrl, change_visit, removing_end);
	} else {
		tour_start(&c->tour, ctrl, change_visit, change_end);
	}
}
