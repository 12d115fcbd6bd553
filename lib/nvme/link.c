/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller's link to its subsystem: attach, report, detach. The subsystem lives
 * on the control reactor, the controller on its home; what one tells the other
 * travels in messages, in order, also when both are the same reactor.
 */
#include <errno.h>
#include <stdlib.h>

#include "subsys.h"

static struct reactor *
control(void)
{
	return reactor_get(0);
}

/* ---- attach ---- */

static bool
cntlid_used(const struct nvme_subsys *s, uint16_t id)
{
	struct ctrl_link *l;

	list_for_each(l, &s->links, node)
		if (l->cntlid == id)
			return true;
	return false;
}

/* The next one that is free; ids are reused as late as possible. */
static int
cntlid_alloc(struct nvme_subsys *s, uint16_t *out)
{
	uint32_t n = s->cfg.max_cntlid - s->cfg.min_cntlid + 1u;

	for (; n; n--) {
		uint16_t id = s->next_cntlid;

		s->next_cntlid = id == s->cfg.max_cntlid ? s->cfg.min_cntlid
							 : (uint16_t)(id + 1);
		if (!cntlid_used(s, id)) {
			*out = id;
			return 0;
		}
	}
	return -ENOSPC;
}

static int
table_copy(struct ctrl_link *l)
{
	const struct nvme_subsys *s = l->subsys;
	unsigned n = 0;

	for (unsigned i = 0; i < NVME_MAX_NS; i++)
		n += s->ns[i] && !s->ns[i]->info.removing;
	l->table = calloc(MAX(n, 1u), sizeof(*l->table));
	if (!l->table)
		return -ENOMEM;
	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		if (!s->ns[i] || s->ns[i]->info.removing)
			continue;
		l->table[l->entries].info = s->ns[i]->info;
		l->table[l->entries++].desc = s->ns[i]->desc;
	}
	return 0;
}

static void
attached(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, msg);
	struct nvme_ctrl *ctrl = l->ctrl;

	if (l->err) {
		l->done(l->arg, NULL, l->err);
		if (ctrl)
			ctrl_free(ctrl);
		free(l);
		return;
	}
	ctrl->cntlid = l->cntlid;
	ctrl->power_cycles = l->power_cycles;
	ctrl->unsafe_shutdowns = l->unsafe_shutdowns;
	for (unsigned i = 0; i < l->entries; i++)
		if (nsref_add(&ctrl->group, &l->table[i].info,
			      l->table[i].desc))
			log_error("namespace %u is not seen by controller %u "
				  "of %s: no channel",
				  l->table[i].info.cfg.nsid, ctrl->cntlid,
				  ctrl->subsys_nqn);
	free(l->table);
	l->table = NULL;
	ctrl->attached = true;
	ctrl_open(ctrl);
	l->done(l->arg, ctrl, 0);
}

static void
link_add(struct ctrl_link *l)
{
	struct nvme_subsys *s = l->subsys;

	list_push_back(&s->links, &l->node);
	l->power_cycles = ++s->power_cycles;
	l->unsafe_shutdowns = s->unsafe_shutdowns;
}

/* Control: from here on changes of the table are sent to it, behind this answer. */
static void
attach(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, msg);

	l->err = table_copy(l);
	if (!l->err)
		l->err = cntlid_alloc(l->subsys, &l->cntlid);
	if (!l->err)
		l->err = ns_link_add(l);
	if (l->err)
		free(l->table);
	else
		link_add(l);
	l->msg.fn = attached;
	reactor_send(l->home, &l->msg);
}

int
nvme_ctrl_create(const struct nvme_ctrl_config *cfg,
		 void (*done)(void *arg, struct nvme_ctrl *ctrl, int err),
		 void *arg)
{
	struct ctrl_link *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	list_init(&l->node);
	list_init(&l->changes);
	l->subsys = cfg->subsys;
	l->home = cfg->home;
	l->done = done;
	l->arg = arg;
	l->err = ctrl_alloc(cfg, &l->ctrl);
	if (l->err) { /* not from inside: the caller is not ready for it */
		l->ctrl = NULL;
		l->msg.fn = attached;
		reactor_send(reactor_self(), &l->msg);
		return 0;
	}
	l->ctrl->link = l;
	l->ctrl->subsys_nqn = cfg->subsys->cfg.nqn;
	l->ctrl->nssr_enabled = cfg->subsys->cfg.enable_nssr;
	l->msg.fn = attach;
	reactor_send(control(), &l->msg);
	return 0;
}

/* ---- detach ---- */

static void
detached(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, msg);
	struct nvme_ctrl *ctrl = l->ctrl;
	void (*done)(void *arg) = ctrl->destroyed;
	void *arg = ctrl->destroyed_arg;

	ctrl_free(ctrl);
	free(l);
	done(arg);
}

/*
 * Control: no change is sent to it any more; those under way arrive before the answer. A
 * reset that was sent comes back first, so that its message is not in use.
 */
static void
detach(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, msg);

	list_remove(&l->node);
	ns_link_remove(l);
	l->subsys->unsafe_shutdowns +=
		l->ctrl->unsafe_shutdowns - l->unsafe_shutdowns;
	l->msg.fn = detached;
	reactor_send(l->home, &l->msg);
}

void
link_detach(struct nvme_ctrl *ctrl)
{
	struct ctrl_link *l = ctrl->link;

	if (l->report_busy || l->nssr_busy) { /* when they have come back */
		l->detach_due = true;
		return;
	}
	l->detach_due = false;
	l->msg.fn = detach;
	reactor_send(control(), &l->msg);
}

/* ---- reports ---- */

static void
report_back(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, report_msg);

	l->report_busy = false;
	if (l->detach_due)
		link_detach(l->ctrl);
	else if (l->report_due)
		link_report(l->ctrl);
}

static void
report_arrived(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, report_msg);

	l->seen = l->report;
	l->report_msg.fn = report_back;
	reactor_send(l->home, &l->report_msg);
}

static void
report_queue(struct ctrl_report *r, unsigned qid, const struct nvme_qent *q)
{
	r->depth[qid] = q->depth;
	r->where[qid] =
		q->group ? (uint8_t)reactor_index(q->group->core->reactor) : 0;
}

void
link_report(struct nvme_ctrl *ctrl)
{
	struct ctrl_link *l = ctrl->link;

	if (!ctrl->attached || ctrl->ended)
		return;
	l->report_due = l->report_busy;
	if (l->report_busy)
		return;
	l->report.cc = ctrl->cc;
	l->report.csts = ctrl->csts;
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++)
		report_queue(&l->report, i, &ctrl->sqt[i]);
	l->report_busy = true;
	l->report_msg.fn = report_arrived;
	reactor_send(control(), &l->report_msg);
}

/* ---- Identify CNS 13h: only the control reactor knows them all ---- */

#define IDS_NS 1000u /* what it takes, about */

struct ids_call {
	struct reactor_msg msg;
	struct ctrl_link *link;
	struct nvme_req *req; /* in flight, so that the controller stays */
	struct nvme_ctrl_list list;
};
_Static_assert(sizeof(struct nvme_ctrl_list) == 4096, "Controller List");

static void
ids_back(struct reactor_msg *m)
{
	struct ids_call *c = container_of(m, struct ids_call, msg);
	nvme_status_t status = req_to_host(c->req, &c->list, sizeof(c->list));

	if (status != NVME_PENDING) /* else it is run again, from its start */
		req_complete(c->req, status);
	free(c);
}

/* Ascending; they mostly are. */
static void
ids_add(struct nvme_ctrl_list *list, uint16_t id)
{
	unsigned at = list->num++;

	for (; at && list->identifier[at - 1] > id; at--)
		list->identifier[at] = list->identifier[at - 1];
	list->identifier[at] = id;
}

static void
ids_arrived(struct reactor_msg *m)
{
	struct ids_call *c = container_of(m, struct ids_call, msg);
	uint16_t from = (uint16_t)(c->req->sqe.cdw10 >> 16);
	struct ctrl_link *l;

	list_for_each(l, &c->link->subsys->links, node)
		if (l->cntlid >= from &&
		    c->list.num < ARRAY_SIZE(c->list.identifier))
			ids_add(&c->list, l->cntlid);
	c->msg.fn = ids_back;
	reactor_send(c->link->home, &c->msg);
}

nvme_status_t
link_list_ctrls(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	struct ids_call *c = calloc(1, sizeof(*c));

	if (!c)
		return NVME_SC_INTERNAL;
	group_cost(&ctrl->group, IDS_NS);
	c->link = ctrl->link;
	c->req = req;
	c->msg.fn = ids_arrived;
	reactor_send(control(), &c->msg);
	return NVME_PENDING;
}

/* ---- subsystem reset: every controller of the subsystem ---- */

static void
reset_arrived(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, reset_msg);

	__atomic_store_n(&l->reset_busy, false, __ATOMIC_RELEASE);
	if (!l->ctrl->ended)
		nvme_ctrl_reset(l->ctrl, NVME_RESET_SUBSYS, NULL, NULL);
}

static void
nssr_back(struct reactor_msg *m)
{
	struct ctrl_link *l = container_of(m, struct ctrl_link, nssr_msg);

	l->nssr_busy = false;
	if (l->detach_due)
		link_detach(l->ctrl);
}

static void
nssr_arrived(struct reactor_msg *m)
{
	struct ctrl_link *from = container_of(m, struct ctrl_link, nssr_msg);
	struct ctrl_link *l;

	list_for_each(l, &from->subsys->links, node) {
		if (__atomic_exchange_n(&l->reset_busy, true, __ATOMIC_ACQ_REL))
			continue; /* one is on its way */
		l->reset_msg.fn = reset_arrived;
		reactor_send(l->home, &l->reset_msg);
	}
	from->nssr_msg.fn = nssr_back;
	reactor_send(from->home, &from->nssr_msg);
}

void
subsys_nssr(struct nvme_ctrl *ctrl)
{
	struct ctrl_link *l = ctrl->link;

	if (l->nssr_busy || ctrl->ended)
		return;
	l->nssr_busy = true;
	l->nssr_msg.fn = nssr_arrived;
	reactor_send(control(), &l->nssr_msg);
}
