/* SPDX-License-Identifier: BSD-3-Clause */
/* The subsystem: its identity. Its namespaces are in ns_table.c. Control reactor. */
#include <errno.h>
#include <stdlib.h>

#include "subsys.h"

#define NQN_MAX 223

/* "nqn.yyyy-mm.reverse.domain:name", or of a UUID (NVMe 2.0 §4.5). */
static bool
nqn_valid(const char *nqn)
{
	static const char uuid[] = "nqn.2014-08.org.nvmexpress:uuid:";
	size_t len = strnlen(nqn, NQN_MAX + 1);
	const char *domain, *colon;
	uuid_t u;

	if (len > NQN_MAX || strncmp(nqn, "nqn.", 4) != 0)
		return false;
	if (!strncmp(nqn, uuid, sizeof(uuid) - 1))
		return uuid_parse(nqn + sizeof(uuid) - 1, u) == 0;
	for (unsigned i = 0; i < 7; i++) { /* yyyy-mm */
		char c = nqn[4 + i];

		if (i == 4 ? c != '-' : c < '0' || c > '9')
			return false;
	}
	if (nqn[11] != '.')
		return false;
	domain = nqn + 12;
	colon = strchr(domain, ':');
	if (!colon || colon == domain || !colon[1])
		return false;
	for (const char *p = domain; p < colon; p++) {
		bool alnum = (*p >= 'a' && *p <= 'z') ||
			     (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9');

		if (!alnum && *p != '-' && *p != '.')
			return false;
	}
	for (const char *p = colon; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static bool
ascii_field(const char *s, size_t max)
{
	if (!s || strnlen(s, max + 1) > max)
		return false;
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

int
nvme_subsys_create(const struct nvme_subsys_config *cfg,
		   struct nvme_subsys **out)
{
	struct nvme_subsys *s;

	if (!cfg->nqn || !nqn_valid(cfg->nqn) ||
	    !ascii_field(cfg->serial, 20) || !ascii_field(cfg->model, 40) ||
	    !cfg->max_namespaces || cfg->max_namespaces > NVME_MAX_NS ||
	    !cfg->min_cntlid || cfg->min_cntlid > cfg->max_cntlid ||
	    cfg->max_cntlid > 0xffef)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	s->cfg.nqn = strdup(cfg->nqn);
	s->cfg.serial = strdup(cfg->serial);
	s->cfg.model = strdup(cfg->model);
	s->next_cntlid = cfg->min_cntlid;
	list_init(&s->links);
	if (!s->cfg.nqn || !s->cfg.serial || !s->cfg.model) {
		nvme_subsys_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void
nvme_subsys_destroy(struct nvme_subsys *s)
{
	if (!s)
		return;
	assert(list_empty(&s->links));
	free((char *)s->cfg.nqn);
	free((char *)s->cfg.serial);
	free((char *)s->cfg.model);
	free(s);
}

const struct nvme_subsys_config *
subsys_config(const struct nvme_subsys *s)
{
	return &s->cfg;
}

unsigned
nvme_subsys_ctrls(const struct nvme_subsys *s, struct nvme_ctrl_info *out,
		  unsigned max)
{
	struct ctrl_link *l;
	unsigned n = 0;

	list_for_each(l, &s->links, node) {
		struct nvme_ctrl_info *i = &out[n];

		if (n == max)
			break;
		*i = (struct nvme_ctrl_info){ .cntlid = l->cntlid,
					      .home = l->home,
					      .cc = l->seen.cc,
					      .csts = l->seen.csts,
					      .tag = l->ctrl->cfg.tag };
		for (unsigned q = 1; q <= NVME_MAX_IO_QUEUES; q++)
			i->num_io_qpairs += l->seen.depth[q] != 0;
		n++;
	}
	return n;
}

unsigned
nvme_subsys_qpairs(const struct nvme_subsys *s, struct nvme_qpair_info *out,
		   unsigned max)
{
	struct ctrl_link *l;
	unsigned n = 0;

	list_for_each(l, &s->links, node) {
		for (unsigned q = 0; q <= NVME_MAX_IO_QUEUES; q++) {
			if (!l->seen.depth[q])
				continue;
			if (n == max)
				return n;
			out[n++] = (struct nvme_qpair_info){
				.cntlid = l->cntlid,
				.qid = (uint16_t)q,
				.depth = l->seen.depth[q],
				.reactor = reactor_get(l->seen.where[q]),
				.tag = l->ctrl->cfg.tag
			};
		}
	}
	return n;
}
