/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners, seen from the control reactor: which there are, where each lives, how they start and go. Not for clients:
 * endpoint.c. Not for decoding: rpc_listener.c.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "internal.h"

struct starter {
	struct endpoint_start start;
	struct listener *listener;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct work work;
	bool no_user, no_group;
};

static unsigned load[REACTOR_MAX]; /* listeners by home */
static unsigned last_home;
static uint32_t last_tag;

static bool
same_dir(const char *a, const char *b)
{
	struct stat sa, sb;

	if (!strcmp(a, b))
		return true;
	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

struct listener *
listener_find(const struct subsystem *s, const char *traddr)
{
	struct listener *l;

	list_for_each(l, &s->listeners, node)
		if (same_dir(l->cfg.traddr, traddr))
			return l;
	return NULL;
}

static struct listener *
find_any(const char *traddr)
{
	struct subsystem *s;
	struct listener *l;

	list_for_each(s, &subsystems, node) {
		l = listener_find(s, traddr);
		if (l)
			return l;
	}
	return NULL;
}

struct listener *
listener_by_tag(uint32_t tag)
{
	struct subsystem *s;
	struct listener *l;

	list_for_each(s, &subsystems, node)
		list_for_each(l, &s->listeners, node)
			if (l->tag == tag)
				return l;
	return NULL;
}

json_t *
listener_address(const struct listener_config *cfg)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "trtype", TRTYPE, "adrfam",
			 cfg->adrfam ? cfg->adrfam : "unknown", "traddr",
			 cfg->traddr, "trsvcid",
			 cfg->trsvcid ? cfg->trsvcid : "");
}

/*
 * Of those on NUMA node @node (-1: of all) the reactor with the fewest listeners; of equals the first after the one that was
 * taken last. NULL: there is none on that node. A machine that tells nothing of nodes has node 0.
 */
static struct reactor *
choose_home(int node)
{
	unsigned i, at, n = reactor_count();
	int best = -1;

	for (i = 1; i <= n; i++) {
		at = (last_home + i) % n;
		if (node >= 0 && MAX(reactor_node(reactor_get(at)), 0) != node)
			continue;
		if (best < 0 || load[at] < load[best])
			best = (int)at;
	}
	return best < 0 ? NULL : reactor_get((unsigned)best);
}

static void
listener_free(struct listener *l)
{
	list_remove(&l->node);
	if (l->home)
		load[reactor_index(l->home)]--;
	free((char *)l->cfg.traddr);
	free((char *)l->cfg.trsvcid);
	free((char *)l->cfg.adrfam);
	free((char *)l->cfg.owner);
	free((char *)l->cfg.group);
	free(l);
}

static bool
copy_string(const char **s)
{
	return !*s || (*s = strdup(*s));
}

static struct listener *
listener_new(struct subsystem *s, const struct listener_config *cfg)
{
	struct listener *l = calloc(1, sizeof(*l));
	struct listener_config c = *cfg;

	if (!l)
		return NULL;
	list_init(&l->node);
	if (!copy_string(&c.traddr))
		c.traddr = NULL;
	l->cfg.traddr = c.traddr;
	if (!c.traddr || !copy_string(&c.trsvcid) || !copy_string(&c.adrfam) ||
	    !copy_string(&c.owner) || !copy_string(&c.group)) {
		/* out of memory for a few bytes: what was copied of the others is not worth the bookkeeping */
		listener_free(l);
		return NULL;
	}
	l->cfg = c;
	l->subsystem = s;
	l->tag = ++last_tag;
	l->state = LISTENER_STARTING;
	l->home = choose_home(cfg->numa_id);
	last_home = reactor_index(l->home);
	load[last_home]++;
	list_push_back(&s->listeners, &l->node);
	return l;
}

/* The request has its answer. */
static void
not_started(struct starter *st)
{
	struct subsystem *s = st->listener->subsystem;

	listener_free(st->listener);
	free(st);
	subsystem_step(s);
}

static void
started(struct endpoint_start *start, struct endpoint *ep, int err)
{
	struct starter *st = container_of(start, struct starter, start);
	struct listener *l = st->listener;
	struct subsystem *s = l->subsystem;
	struct rpc_req *req = l->starting;

	if (!ep) {
		bad_params(
			req, "cannot listen on %s: %s", st->path,
			err == -EADDRINUSE ? "another process does"
			: err == -EEXIST   ? "it exists and is no socket"
			: err == -EPERM && (l->cfg.owner || l->cfg.group)
				? "this process may not give it to the 'owner' or 'group'"
				: strerror(-err));
		not_started(st);
		return;
	}
	l->starting = NULL;
	l->ep = ep;
	l->state = LISTENER_UP;
	log_debug(target, "%s: listens on %s", s->nqn, st->path);
	/* hosts may have changed on the way */
	endpoint_admit(ep, subsystem_admits(s));
	rpc_result(req, json_true());
	free(st);
	subsystem_step(s);
}

/* ---- whose socket it is: users and groups may be looked up over a network, so a worker does ---- */

static bool
user_id(const char *name, char *buf, size_t len, int *id)
{
	struct passwd pw, *found = NULL;

	if (!getpwnam_r(name, &pw, buf, len, &found) && found)
		*id = (int)pw.pw_uid;
	return found != NULL;
}

static bool
group_id(const char *name, char *buf, size_t len, int *id)
{
	struct group gr, *found = NULL;

	if (!getgrnam_r(name, &gr, buf, len, &found) && found)
		*id = (int)gr.gr_gid;
	return found != NULL;
}

/* A name or a number to an id; -1: not given. */
static bool
resolve(const char *name, int *id,
	bool (*look_up)(const char *name, char *buf, size_t len, int *id))
{
	static const size_t len = 1 << 20; /* a group has its members named */
	uint64_t n;
	bool found;
	char *buf;

	*id = -1;
	if (!name)
		return true;
	if (!util_parse_u64(name, &n) && n < INT32_MAX) {
		*id = (int)n;
		return true;
	}
	buf = malloc(len);
	found = buf && look_up(name, buf, len, id);
	free(buf);
	return found;
}

static void
resolve_work(struct work *w)
{
	struct starter *st = container_of(w, struct starter, work);
	const struct listener_config *cfg = &st->listener->cfg;
	struct endpoint_config *ec = &st->start.cfg;

	st->no_user = !resolve(cfg->owner, &ec->uid, user_id);
	st->no_group = !resolve(cfg->group, &ec->gid, group_id);
}

static void
resolve_done(struct work *w)
{
	struct starter *st = container_of(w, struct starter, work);
	const struct listener_config *cfg = &st->listener->cfg;

	if (st->no_user)
		bad_params(st->listener->starting,
			   "'owner': there is no user '%.64s'", cfg->owner);
	else if (st->no_group)
		bad_params(st->listener->starting,
			   "'group': there is no group '%.64s'", cfg->group);
	else
		endpoint_start(&st->start);
	if (st->no_user || st->no_group)
		not_started(st);
}

static bool
check_add(struct rpc_req *req, const struct listener_config *cfg, char *path,
	  size_t len)
{
	const struct listener *there;
	struct stat st;

	if (!transport.created) {
		bad_params(
			req,
			"Unable to find %s transport: nvmf_create_transport makes it",
			TRTYPE);
		return false;
	}
	if (stat(cfg->traddr, &st)) {
		bad_params(req, "'traddr' %.256s: %s", cfg->traddr,
			   errno == ENOENT ? "the directory does not exist"
					   : strerror(errno));
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		bad_params(req, "'traddr' %.256s is no directory", cfg->traddr);
		return false;
	}
	if (snprintf(path, len, "%s/cntrl", cfg->traddr) >= (int)len) {
		bad_params(
			req,
			"'traddr' %.256s is too long: with /cntrl at most %zu bytes",
			cfg->traddr, len - 1);
		return false;
	}
	if (!choose_home(cfg->numa_id)) {
		bad_params(req, "'numa_id' %d: no reactor is on that node",
			   cfg->numa_id);
		return false;
	}
	there = find_any(cfg->traddr);
	if (there) {
		bad_params(
			req,
			"listener already exists: 'traddr' %.256s is one of %s",
			there->cfg.traddr, there->subsystem->nqn);
		return false;
	}
	return true;
}

static void
merge_ids(struct pci_ids *ids, const struct pci_ids *fallback)
{
	if (!ids->vendor)
		ids->vendor = fallback->vendor;
	if (!ids->device)
		ids->device = fallback->device;
	if (!ids->sub_vendor)
		ids->sub_vendor = fallback->sub_vendor;
	if (!ids->sub_device)
		ids->sub_device = fallback->sub_device;
}

void
listener_add(struct rpc_req *req, struct subsystem *s,
	     const struct listener_config *cfg)
{
	struct starter *st = calloc(1, sizeof(*st));
	struct endpoint_config *ec;

	if (!st) {
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	ec = &st->start.cfg;
	if (!check_add(req, cfg, st->path, sizeof(st->path))) {
		free(st);
		return;
	}
	st->listener = listener_new(s, cfg);
	if (!st->listener) {
		free(st);
		rpc_errno(req, -ENOMEM, NULL);
		return;
	}
	st->listener->starting = req;
	ec->subsys = s->core;
	ec->path = st->path;
	ec->mode = cfg->mode;
	ec->tag = st->listener->tag;
	ec->admit = subsystem_admits(s);
	ec->ids = cfg->ids;
	merge_ids(&ec->ids, &transport.ids);
	ec->transport = transport_with(&cfg->flags, &cfg->given);
	ec->arena_len = target_arena_len();
	st->start.home = st->listener->home;
	st->start.done = started;
	st->work.fn = resolve_work;
	st->work.done = resolve_done;
	work_submit(WORK_CONTROL, &st->work);
}

static void
removed(void *arg)
{
	struct listener *l = arg;
	struct subsystem *s = l->subsystem;
	struct rpc_req *req = l->removing;

	log_debug(target, "%s: no longer in %s", s->nqn, l->cfg.traddr);
	listener_free(l);
	if (req)
		rpc_result(req, json_true());
	subsystem_step(s);
}

int
listener_remove(struct rpc_req *req, struct listener *l)
{
	if (l->state != LISTENER_UP)
		return -EALREADY;
	l->state = LISTENER_GOING;
	l->removing = req;
	endpoint_stop(l->ep, removed, l);
	return 0;
}
