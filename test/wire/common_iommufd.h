/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine on a connection in iommufd mode, with a second address space, and the commands 19 to 26 as calls that give
 * the errno of the answer.
 */
#ifndef TEST_WIRE_COMMON_IOMMUFD_H
#define TEST_WIRE_COMMON_IOMMUFD_H

#include "common_vm.h"

#define PG(n) ((n)*PAGE)
#define BOTH (VU_IOAS_READABLE | VU_IOAS_WRITEABLE)

/* IOAS 1 is attached, with the areas of the machine. IOAS 2: 8 pages, and 4 of read-only ones, of a file of 16. */
struct iom_scene {
	struct vm v;
	uint64_t rw, ro; /* where they are */
	int memory;	 /* the file */
};
extern struct iom_scene sc;
int iom_setup(void **state);
int iom_teardown(void **state);

int iom_call(unsigned cmd, const void *payload, size_t len, struct reply *r);
uint32_t iom_alloc(void); /* an IOAS more */
int iom_by_id(unsigned cmd, uint32_t id);
int iom_attach(uint32_t id);
int iom_detach(void);
int iom_copy(uint32_t src, uint64_t iova, uint64_t len, uint32_t dst,
	     uint32_t flags, uint64_t *out);

#endif
