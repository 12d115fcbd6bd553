/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The subsystem's table of namespaces: add, remove, resize. Each change goes to every
 * controller as a message and is done when all have sent it back. Control reactor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "subsys.h"

static void
ns_free(struct subsys_ns *ns)
{
	ns->subsys->ns[ns->info.cfg.nsid - 1] = NULL;
	bdev_close(ns->desc);
	free(ns->bdev_name);
	free(ns);
}

static void
round_put(struct ns_round *r)
{
	struct nvme_op *op = r->op;

	if (--r->pending)
		return;
	if (r->remove)
		ns_free(r->ns);
	else
		free(r);
	if (op)
		op->done(op, 0);
}

static void
change_arrived(struct reactor_msg *m)
{
	struct ns_change *c = container_of(m, struct ns_change, msg);

	ns_apply(c->link->ctrl, c);
}

static struct ns_change *
change_new(struct ctrl_link *l, struct subsys_ns *ns)
{
	struct ns_change *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	list_init(&c->node);
	list_init(&c->link_node);
	c->link = l;
	c->ns = ns;
	return c;
}

static void
change_free(struct ns_change *c)
{
	list_remove(&c->node);
	list_remove(&c->link_node);
	free(c);
}

/* It stays with the namespace and with the controller until one of them goes. */
static void
change_keep(struct ns_change *c)
{
	list_push_back(&c->ns->changes, &c->node);
	list_push_back(&c->link->changes, &c->link_node);
}

static void
change_send(struct ns_change *c, struct ns_round *r, int kind)
{
	c->round = r;
	c->kind = kind;
	c->info = c->ns->info;
	c->desc = c->ns->desc;
	c->busy = true;
	c->msg.fn = change_arrived;
	reactor_send(c->link->home, &c->msg);
}

static void
change_acked(struct reactor_msg *m)
{
	struct ns_change *c = container_of(m, struct ns_change, msg);
	struct ns_round *r = c->round, *removal = NULL;

	c->busy = false;
	if (c->kind == NS_ADD && c->ns->info.removing) {
		removal = &c->ns->removal; /* which waited for this one */
		if (!c->gone) {
			change_send(c, removal, NS_REMOVE);
			removal = NULL;
		}
	}
	if (!c->busy && (c->kind != NS_ADD || c->gone))
		change_free(c);
	round_put(r);
	if (removal)
		round_put(removal);
}

/* Home reactor: it has been applied. */
void
ns_change_ack(struct ns_change *c)
{
	c->msg.fn = change_acked;
	reactor_send(reactor_get(0), &c->msg);
}

/*
 * Send to all controllers. -EINPROGRESS: round_put() ends it; 0: there are none, @r is the
 * caller's; -ENOMEM: nothing was sent.
 */
static int
broadcast(struct ns_round *r, int kind)
{
	struct nvme_subsys *s = r->ns->subsys;
	struct list made = LIST_INIT(made);
	struct ns_change *c, *tmp;
	struct ctrl_link *l;

	list_for_each(l, &s->links, node) {
		c = change_new(l, r->ns);
		if (!c)
			goto no_memory;
		list_push_back(&made, &c->node);
		r->pending++;
	}
	if (list_empty(&made))
		return 0;
	list_for_each_safe(c, tmp, &made, node) {
		list_remove(&c->node);
		if (kind == NS_ADD)
			change_keep(c);
		change_send(c, r, kind);
	}
	return -EINPROGRESS;
no_memory:
	list_for_each_safe(c, tmp, &made, node)
		change_free(c);
	return -ENOMEM;
}

int
ns_link_add(struct ctrl_link *l)
{
	struct nvme_subsys *s = l->subsys;

	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		struct ns_change *c;

		if (!s->ns[i] || s->ns[i]->info.removing)
			continue;
		c = change_new(l, s->ns[i]);
		if (!c) {
			ns_link_remove(l);
			return -ENOMEM;
		}
		c->kind = NS_ADD; /* it has it from the start */
		change_keep(c);
	}
	return 0;
}

void
ns_link_remove(struct ctrl_link *l)
{
	struct ns_change *c, *tmp;

	list_for_each_safe(c, tmp, &l->changes, link_node) {
		if (!c->busy) {
			change_free(c);
			continue;
		}
		/* it is before us on its way home, where it needs the link; freed when it is back */
		list_remove(&c->link_node);
		c->gone = true;
	}
}

static struct ns_round *
round_new(struct subsys_ns *ns, struct nvme_op *op)
{
	struct ns_round *r = calloc(1, sizeof(*r));

	if (r)
		*r = (struct ns_round){ .ns = ns, .op = op };
	return r;
}

/* 0 or -EINPROGRESS. */
static int
ns_remove(struct subsys_ns *ns, struct nvme_op *op)
{
	struct ns_round *r = &ns->removal;
	struct ns_change *c, *tmp;

	ns->info.removing = true;
	*r = (struct ns_round){ .ns = ns, .remove = true, .pending = 1 };
	list_for_each_safe(c, tmp, &ns->changes, node) {
		r->pending++;
		if (!c->busy) /* else it has not yet been added there */
			change_send(c, r, NS_REMOVE);
	}
	if (r->pending > 1) {
		r->op = op;
		r->pending--;
		return -EINPROGRESS;
	}
	round_put(r); /* the caller sees the 0 */
	return 0;
}

static void
ns_bdev_event(enum bdev_event ev, void *arg)
{
	struct subsys_ns *ns = arg;
	struct ns_round *r;

	if (ns->info.removing)
		return;
	if (ev == BDEV_EVENT_REMOVE) {
		ns_remove(ns, NULL);
		return;
	}
	bdev_get_info(ns->desc, &ns->info.bdev);
	r = round_new(ns, NULL);
	if (!r || broadcast(r, NS_RESIZE) != -EINPROGRESS)
		free(r);
}

static int
op_error(struct nvme_op *op, int err, const char *what, const char *name)
{
	snprintf(op->error, sizeof(op->error), what, name);
	return err;
}

/* nsid 0: the lowest free one. */
static int
ns_choose(const struct nvme_subsys *s, uint32_t *nsid, struct nvme_op *op)
{
	if (*nsid > s->cfg.max_namespaces) {
		snprintf(op->error, sizeof(op->error),
			 "nsid %u is above max_namespaces (%u) of %s", *nsid,
			 s->cfg.max_namespaces, s->cfg.nqn);
		return -EINVAL;
	}
	if (*nsid && s->ns[*nsid - 1]) {
		snprintf(op->error, sizeof(op->error),
			 "nsid %u of %s is in use", *nsid, s->cfg.nqn);
		return -EEXIST;
	}
	for (uint32_t i = 0; !*nsid && i < s->cfg.max_namespaces; i++)
		if (!s->ns[i])
			*nsid = i + 1;
	if (!*nsid)
		return op_error(op, -ENOSPC, "all namespaces of %s are in use",
				s->cfg.nqn);
	return 0;
}

static int
ns_open(struct subsys_ns *ns, struct nvme_op *op)
{
	struct bdev *b = bdev_find(ns->bdev_name);
	struct bdev_info info;
	const char *who;
	int err;

	if (!b)
		return op_error(op, -ENODEV, "no such bdev: %s", ns->bdev_name);
	bdev_info_of(b, &info);
	if ((info.block_len != 512 && info.block_len != 4096) ||
	    !info.num_blocks)
		return op_error(op, -EINVAL,
				"bdev %s: blocks must be 512 or 4096 bytes and "
				"there must be one at least",
				ns->bdev_name);
	err = bdev_open(ns->bdev_name, !info.read_only, ns_bdev_event, ns,
			&ns->desc);
	if (!err && !info.read_only) {
		err = bdev_claim(ns->desc, ns->subsys->cfg.nqn);
		if (err)
			bdev_close(ns->desc);
	}
	if (err) {
		who = err == -EPERM ? bdev_claimed_by(b) : NULL;
		snprintf(op->error, sizeof(op->error), "bdev %s: %s %s",
			 ns->bdev_name, who ? "in use by" : "cannot be opened:",
			 who ? who : strerror(-err));
		return err;
	}
	bdev_get_info(ns->desc, &ns->info.bdev);
	return 0;
}

static void
ns_identify(struct subsys_ns *ns, const struct nvme_ns_config *cfg)
{
	ns->info.cfg = *cfg;
	ns->info.cfg.bdev_name = ns->bdev_name;
	if (!cfg->has_uuid && !uuid_is_null(ns->info.bdev.uuid)) {
		ns->info.cfg.has_uuid = true;
		uuid_copy(ns->info.cfg.uuid, ns->info.bdev.uuid);
	}
}

int
nvme_subsys_add_ns(struct nvme_subsys *s, const struct nvme_ns_config *cfg,
		   struct nvme_op *op)
{
	struct subsys_ns *ns = NULL;
	struct ns_round *r = NULL;
	uint32_t nsid = cfg->nsid;
	int err;

	op->error[0] = '\0';
	err = ns_choose(s, &nsid, op);
	if (err)
		return err;
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return -ENOMEM;
	ns->subsys = s;
	list_init(&ns->changes);
	err = -ENOMEM;
	ns->bdev_name = strdup(cfg->bdev_name);
	r = round_new(ns, op);
	if (!ns->bdev_name || !r)
		goto free_ns;
	err = ns_open(ns, op);
	if (err)
		goto free_ns;
	ns_identify(ns, cfg);
	ns->info.cfg.nsid = op->nsid = nsid;
	err = broadcast(r, NS_ADD);
	if (err == -ENOMEM)
		goto close_bdev;
	s->ns[nsid - 1] = ns;
	if (!err)
		free(r);
	return err;
close_bdev:
	bdev_close(ns->desc);
free_ns:
	free(r);
	free(ns->bdev_name);
	free(ns);
	return err;
}

int
nvme_subsys_remove_ns(struct nvme_subsys *s, uint32_t nsid, struct nvme_op *op)
{
	int err;

	op->error[0] = '\0';
	op->nsid = nsid;
	if (!nsid || nsid > NVME_MAX_NS || !s->ns[nsid - 1] ||
	    s->ns[nsid - 1]->info.removing) {
		snprintf(op->error, sizeof(op->error), "no namespace %u in %s",
			 nsid, s->cfg.nqn);
		return -ENOENT;
	}
	err = ns_remove(s->ns[nsid - 1], op);
	return err;
}

uint32_t
nvme_subsys_next_ns(const struct nvme_subsys *s, uint32_t after,
		    struct nvme_ns_info *out)
{
	for (uint32_t i = after; i < NVME_MAX_NS; i++) {
		if (!s->ns[i])
			continue;
		*out = s->ns[i]->info;
		return i + 1;
	}
	return 0;
}
