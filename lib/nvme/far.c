/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Groups away from their controller's home: where queues are placed, how such a group
 * begins and ends, and what home and it tell each other. Not for the data path: a
 * group has all that it needs with it.
 *
 * Home knows which groups there are and sends calls; a group sends news. Each struct
 * below is touched by who holds it: a call by who has received it last.
 */
#include <stdlib.h>

#include "internal.h"

struct group_far {
	/* home's */
	struct ioas_listener listener; /* feeds the replica */
	struct nvme_group *group;
	uint32_t owed; /* calls that have not come back */
	bool sent;     /* from now on maps go by message */
	bool failed; /* the replica, while it is filled; or it could not open */
	bool closed;
	bool intx; /* its level as last told */
	struct group_call open;
	struct ns_entry *table; /* with the first call */
	unsigned entries;
	/* the group's */
	struct group_news news cache_aligned;
	bool busy; /* told[] is under way */
	bool due;  /* there is something to tell */
	bool broken;
	/* goes to and fro */
	struct reactor_msg news_msg cache_aligned;
	struct group_news told;
	struct reactor_msg bell cache_aligned;
	bool bell_busy; /* atomic */
};

/* I/O CQs of all controllers, by reactor. Control path only. */
static uint32_t placed[REACTOR_MAX];

/* ---- calls ---- */

static void
group_release(struct nvme_group *g)
{
	struct nvme_ctrl *ctrl = g->ctrl;
	struct group_far *far = g->far;

	ctrl->groups[reactor_index(g->core->reactor)] = NULL;
	ctrl->ngroups--;
	ioas_unlisten(ctrl->cfg.ioas, &far->listener);
	ioas_replica_destroy(g->view);
	free(far->table);
	free(far);
	free(g);
	ctrl_work(ctrl);
}

static void
call_back(struct reactor_msg *m)
{
	struct group_call *c = container_of(m, struct group_call, msg);
	struct nvme_group *g = c->group;

	c->back(c);
	if (--g->far->owed == 0 && g->far->closed)
		group_release(g);
}

static void
call_visit(struct reactor_msg *m)
{
	struct group_call *c = container_of(m, struct group_call, msg);

	c->visit(c);
}

void
group_call(struct nvme_group *g, struct group_call *c)
{
	c->group = g;
	if (!g->far) {
		c->visit(c);
		return;
	}
	g->far->owed++;
	c->msg.fn = call_visit;
	reactor_send(g->core->reactor, &c->msg);
}

/* On the group's reactor, which may not touch @c afterwards. */
void
group_return(struct group_call *c)
{
	if (!c->group->far) {
		c->back(c);
		return;
	}
	c->msg.fn = call_back;
	reactor_send(c->group->home, &c->msg);
}

static void
tour_next(struct group_tour *t)
{
	while (t->at < REACTOR_MAX) {
		struct nvme_group *g = t->ctrl->groups[t->at++];

		if (g && !g->far->closed) {
			group_call(g, &t->call);
			return;
		}
	}
	t->end(t);
}

static void
tour_back(struct group_call *c)
{
	if (tour_of(c)->left)
		tour_of(c)->left(c);
	tour_next(tour_of(c));
}

void
tour_start(struct group_tour *t, struct nvme_ctrl *ctrl,
	   void (*visit)(struct group_call *c),
	   void (*end)(struct group_tour *t))
{
	t->ctrl = ctrl;
	t->at = 0;
	t->end = end;
	t->call.visit = visit;
	t->call.back = tour_back;
	tour_next(t);
}

/* ---- news ---- */

struct group_news *
far_news(struct nvme_group *g)
{
	return &g->far->news;
}

bool
far_told(const struct nvme_group *g)
{
	return !g->far->busy;
}

static void
news_back(struct reactor_msg *m)
{
	struct group_far *far = container_of(m, struct group_far, news_msg);
	struct nvme_group *g = far->group;

	far->busy = false;
	if (far->due)
		far_tell(g);
	group_work(g); /* its end may wait for this */
}

/* Home. */
static void
news_arrived(struct reactor_msg *m)
{
	struct group_far *far = container_of(m, struct group_far, news_msg);
	struct nvme_ctrl *ctrl = far->group->ctrl;
	struct group_news *n = &far->told;

	if (n->errors)
		log_page_add(ctrl, n->e, n->errors, n->media_errors);
	if (n->bad_doorbell)
		doorbell_bad_value(ctrl);
	if (n->failed)
		(n->for_good ? ctrl_fail_for_good : ctrl_fail)(ctrl, n->failed);
	if (far->intx != n->intx) {
		far->intx = n->intx;
		ctrl_intx_update(ctrl);
	}
	far->news_msg.fn = news_back;
	reactor_send(far->group->core->reactor, &far->news_msg);
}

void
far_tell(struct nvme_group *g)
{
	struct group_far *far = g->far;

	far->due = far->busy;
	if (far->busy)
		return;
	far->told = far->news;
	far->news.errors = far->news.media_errors = 0;
	far->news.bad_doorbell = false;
	far->news.failed = NULL;
	far->busy = true;
	far->news_msg.fn = news_arrived;
	reactor_send(g->home, &far->news_msg);
}

bool
far_intx(const struct nvme_ctrl *ctrl)
{
	for (unsigned i = 0; ctrl->ngroups && i < REACTOR_MAX; i++)
		if (ctrl->groups[i] && ctrl->groups[i]->far->intx)
			return true;
	return false;
}

static void
bell_rings(struct reactor_msg *m)
{
	struct group_far *far = container_of(m, struct group_far, bell);

	far->group->core->scan_all = true;
	/* pairs with the exchange: what rings from here on is sent again */
	__atomic_store_n(&far->bell_busy, false, __ATOMIC_SEQ_CST);
}

/* Home, behind the doorbell's store: a sleeping reactor wakes up and looks. */
void
far_bell(struct nvme_group *g)
{
	struct group_far *far = g->far;

	if (__atomic_exchange_n(&far->bell_busy, true, __ATOMIC_SEQ_CST))
		return;
	far->bell.fn = bell_rings;
	reactor_send(g->core->reactor, &far->bell);
}

/* ---- life ---- */

static void
replica_map(struct ioas_listener *l, const struct ioas_extent *e)
{
	struct group_far *far = container_of(l, struct group_far, listener);

	if (far->sent) {
		if (!far->closed)
			far_map(far->group, e);
	} else if (ioas_replica_map(far->group->view, e)) {
		far->failed = true;
	}
}

static void
replica_unmap(struct ioas_listener *l, const struct ioas_extent *e, uint32_t n,
	      struct ioas_unmap *u)
{
	struct group_far *far = container_of(l, struct group_far, listener);

	if (far->closed)
		ioas_unmap_ack(u);
	else
		far_unmap(far->group, e, n, u);
}

/* On its reactor, the first that it hears. */
static void
open_visit(struct group_call *c)
{
	struct nvme_group *g = c->group;
	struct group_far *far = g->far;

	if (group_open(g)) {
		far->broken = true;
	} else {
		list_push_back(&g->core->groups, &g->node);
		for (unsigned i = 0; i < far->entries; i++)
			if (nsref_add(g, &far->table[i].info,
				      far->table[i].desc))
				far->broken = true;
	}
	dbbuf_map(g);
	group_return(c);
}

static void
open_back(struct group_call *c)
{
	struct group_far *far = c->group->far;

	far->failed = far->broken;
	free(far->table);
	far->table = NULL;
}

/* What it is to know at once. */
static int
far_fill(struct nvme_group *g)
{
	struct nvme_ctrl *ctrl = g->ctrl;
	struct group_far *far = g->far;

	far->group = g;
	far->table = nsref_list(&ctrl->group, &far->entries);
	if (!far->table)
		return -1;
	g->write_cache = ctrl->group.write_cache;
	g->set = ctrl->group.set;
	g->shadow_on = ctrl->group.shadow_on;
	g->shadow_iova = ctrl->group.shadow_iova;
	g->event_iova = ctrl->group.event_iova;
	g->hushed = ctrl->hush_want;
	far->listener.map = replica_map;
	far->listener.unmap = replica_unmap;
	ioas_listen(ctrl->cfg.ioas, &far->listener); /* replays */
	if (!far->failed)
		return 0;
	ioas_unlisten(ctrl->cfg.ioas, &far->listener);
	return -1;
}

static struct nvme_group *
far_create(struct nvme_ctrl *ctrl, struct reactor *r)
{
	size_t len = align_up(sizeof(struct nvme_group), CACHE_LINE);
	struct nvme_group *g = aligned_alloc(CACHE_LINE, len);
	struct group_far *far = aligned_alloc(CACHE_LINE, sizeof(*far));
	struct ioas_view *view;

	if (!g || !far || ioas_replica_create(&view))
		goto free_both;
	memset(g, 0, len);
	memset(far, 0, sizeof(*far));
	g->far = far;
	if (group_init(g, ctrl, r, view) || far_fill(g))
		goto destroy_view;
	far->sent = true;
	ctrl->groups[reactor_index(r)] = g;
	ctrl->ngroups++;
	far->open.visit = open_visit;
	far->open.back = open_back;
	group_call(g, &far->open);
	return g;
destroy_view:
	free(far->table);
	ioas_replica_destroy(view);
free_both:
	free(far);
	free(g);
	return NULL;
}

bool
far_broken(const struct nvme_group *g)
{
	return g->far && g->far->broken;
}

/* Home: it has ended there. Freed when its last call has come back. */
void
far_close(struct nvme_group *g)
{
	g->far->closed = true;
}

/* ---- placement ---- */

void
far_placed(const struct nvme_group *g, int n)
{
	__atomic_fetch_add(&placed[reactor_index(g->core->reactor)], n,
			   __ATOMIC_RELAXED);
}

static bool
reactor_usable(const struct nvme_ctrl *ctrl, unsigned i)
{
	const struct nvme_group *g = ctrl->groups[i];

	return core_of(reactor_get(i)) && !(g && g->far->failed);
}

/* The reactor with the fewest queues; of equals home, then the lowest. */
static struct reactor *
least_loaded(const struct nvme_ctrl *ctrl)
{
	unsigned best = reactor_index(ctrl->cfg.home);
	uint32_t least = __atomic_load_n(&placed[best], __ATOMIC_RELAXED);

	for (unsigned i = 0; i < reactor_count(); i++) {
		uint32_t n = __atomic_load_n(&placed[i], __ATOMIC_RELAXED);

		if (n < least && reactor_usable(ctrl, i)) {
			least = n;
			best = i;
		}
	}
	return reactor_get(best);
}

/*
 * Where a new CQ goes, and its SQs with it. A vector has one owner, vector 0 is the
 * admin queue's; and INTx is a level that home computes.
 */
struct nvme_group *
group_place(struct nvme_ctrl *ctrl, uint16_t iv, bool ien)
{
	struct nvme_group *g;
	struct reactor *r;

	if (ien && (!iv || !irq_msix_active(ctrl->cfg.irqs)))
		return &ctrl->group;
	for (unsigned i = 1; ien && i <= NVME_MAX_IO_QUEUES; i++)
		if (ctrl->cqt[i].group && ctrl->cqt[i].ien &&
		    ctrl->cqt[i].iv == iv)
			return ctrl->cqt[i].group;
	r = least_loaded(ctrl);
	if (r == ctrl->cfg.home)
		return &ctrl->group;
	g = ctrl->groups[reactor_index(r)];
	if (!g)
		g = far_create(ctrl, r);
	return g ? g : &ctrl->group;
}
