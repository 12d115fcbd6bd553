/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme, inside: the glance at mapped doorbells in a sleep (glance.c). Part of internal.h. */
#ifndef BELFRY_NVME_GLANCE_H
#define BELFRY_NVME_GLANCE_H

struct nvme_core;
struct nvme_page;

/* A core's. */
struct nvme_glance {
	struct nvme_page *pages; /* of mapped doorbells */
	uint64_t *copy;		 /* of them all, in that order */
	uint32_t npages, page_cap, line_cap;
	bool blind; /* no memory for it */
};

/* What is stored after the copy was made is a difference, whatever it may mean. */
void glance_copy(struct nvme_core *core);
bool glance(const struct nvme_core *core);
void glance_fini(struct nvme_core *core);

#endif
