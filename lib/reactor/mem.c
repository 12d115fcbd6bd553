/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory near a reactor. Not for small or short-lived things: each is a mapping.
 */
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static size_t
whole_pages(size_t len)
{
	return align_up(len, (uint64_t)sysconf(_SC_PAGESIZE));
}

void *
reactor_mem_alloc(const struct reactor *r, size_t len)
{
	int node = r ? r->node : -1;
	unsigned long mask[16] = { 0 };
	unsigned bits = 8 * sizeof(mask[0]);
	size_t whole = whole_pages(len);
	void *p;

	if (!len || whole < len)
		return NULL;
	p = mmap(NULL, whole, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* A preference: far memory is slow, none is worse. Same if this fails. */
	if (node >= 0 && (size_t)node < bits * ARRAY_SIZE(mask)) {
		mask[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
		mbind(p, whole, MPOL_PREFERRED, mask, 8 * sizeof(mask), 0);
	}
	return p;
}

void
reactor_mem_free(void *p, size_t len)
{
	if (p)
		munmap(p, whole_pages(len));
}
