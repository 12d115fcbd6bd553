/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of subsystems by NQN, and their end. Not for decoding RPC: rpc_nvme.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define RETRY_NS 10000000

struct list subsystems = LIST_INIT(subsystems);

struct subsystem *
subsystem_find(const char *nqn)
{
	struct subsystem *s;

	list_for_each(s, &subsystems, node)
		if (!strcmp(s->nqn, nqn))
			return s;
	return NULL;
}

struct subsystem *
subsystem_for(struct rpc_req *req, const char *nqn, const char *tgt_name)
{
	struct subsystem *s;

	if (!target_name_ok(req, tgt_name))
		return NULL;
	s = subsystem_find(nqn);
	if (!s) {
		bad_params(req, "Subsystem with NQN '%.223s' not found", nqn);
		return NULL;
	}
	if (s->deleting) {
		rpc_errno(req, -EBUSY, "Subsystem '%.223s' is being deleted",
			  nqn);
		return NULL;
	}
	return s;
}

bool
subsystem_admits(const struct subsystem *s)
{
	return s->allow_any_host || !list_empty(&s->hosts);
}

void
subsystem_admit(struct subsystem *s)
{
	struct listener *l;

	list_for_each(l, &s->listeners, node)
		if (l->ep && l->state == LISTENER_UP)
			endpoint_admit(l->ep, subsystem_admits(s));
}

static void
subsystem_free(struct subsystem *s)
{
	struct host *h, *next;

	list_for_each_safe(h, next, &s->hosts, node) {
		list_remove(&h->node);
		free(h);
	}
	list_remove(&s->node);
	reactor_timer_stop(&s->retry);
	nvme_subsys_destroy(s->core);
	free(s->nqn);
	free(s->serial);
	free(s->model);
	free(s->admin_label);
	free(s);
}

static void
ns_gone(struct nvme_op *op, int err)
{
	struct subsystem *s = container_of(op, struct subsystem, op);

	s->ns_going = false;
	subsystem_step(s);
}

static void
retry_fires(struct reactor_timer *t)
{
	subsystem_step(container_of(t, struct subsystem, retry));
}

/* Start the removal of the namespaces that are left, one at a time; true: none is. */
static bool
namespaces_gone(struct subsystem *s)
{
	struct nvme_ns_info info;
	uint32_t nsid = 0;
	int err;

	while (!s->ns_going &&
	       (nsid = nvme_subsys_next_ns(s->core, nsid, &info))) {
		s->op = (struct nvme_op){ .done = ns_gone };
		s->ns_going = true;
		err = nvme_subsys_remove_ns(s->core, nsid, &s->op);
		if (err != -EINPROGRESS)
			s->ns_going = false;
	}
	if (s->ns_going)
		return false;
	if (!nvme_subsys_next_ns(s->core, 0, &info))
		return true;
	/* its bdev is being deleted, which nobody tells us the end of */
	s->retry.fire = retry_fires;
	if (reactor_timer_start(reactor_get(0), &s->retry, RETRY_NS))
		log_error("nvmf: %s waits for namespace %u, without a timer",
			  s->nqn, info.cfg.nsid);
	return false;
}

/* Listeners first (nobody sees the namespaces vanish), then namespaces, then the rest. */
void
subsystem_step(struct subsystem *s)
{
	void (*gone)(void *arg) = s->gone;
	void *arg = s->arg;
	struct listener *l, *next;

	if (!s->deleting || s->stepping)
		return;
	s->stepping = true;
	list_for_each_safe(l, next, &s->listeners, node)
		if (l->state == LISTENER_UP)
			listener_remove(NULL, l);
	s->stepping = false;
	if (!list_empty(&s->listeners) || s->ops || !namespaces_gone(s))
		return;
	subsystem_free(s);
	if (gone)
		gone(arg);
	target_subsystem_gone();
}

void
subsystem_delete(struct subsystem *s, void (*gone)(void *arg), void *arg)
{
	s->deleting = true;
	s->gone = gone;
	s->arg = arg;
	subsystem_step(s);
}
