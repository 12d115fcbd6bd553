/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * malloc: a disk in anonymous memory; gone with the daemon. Create, free,
 * discard and zeroing: long ones go to a worker, since a gigabyte of page freeing is
 * milliseconds that belong to others. Not here: reads and writes (malloc_copy.c).
 */
#include <inttypes.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "malloc.h"

#define INLINE_MAX (128u << 10) /* bytes cleared on the reactor */
#define HUGE_MIN (2u << 20)
#define CACHED_MAX (64u << 20) /* a disk that may live in a cache */

/* In bdev_io.priv, of an I/O that a worker does. */
struct malloc_req {
	struct work work;
	struct bdev_io *io;
};
_Static_assert(sizeof(struct malloc_req) <= sizeof(((struct bdev_io *)0)->priv),
	       "fits into an I/O");

/* Whole pages go back to the system, the edges are overwritten. */
static int
clear(char *mem, uint64_t off, uint64_t len, bool unmap)
{
	uint64_t end = off + len; /* bounds are checked: cannot wrap */
	uint64_t first = align_up(off, 4096), last = align_down(end, 4096);

	if (!unmap || first >= last ||
	    madvise(mem + first, last - first, MADV_DONTNEED)) {
		memset(mem + off, 0, len);
		return 0;
	}
	memset(mem + off, 0, first - off);
	memset(mem + last, 0, end - last);
	return 0;
}

static bool
may_unmap(const struct bdev_io *io)
{
	return io->op == BDEV_DISCARD || (io->flags & BDEV_IO_UNMAP);
}

static void
clear_fn(struct work *w)
{
	struct malloc_req *r = container_of(w, struct malloc_req, work);
	struct bdev_io *io = r->io;

	clear(mb_of(io->ch->bdev)->mem, io->off, io->len, may_unmap(io));
}

static void
clear_done(struct work *w)
{
	bdev_complete(container_of(w, struct malloc_req, work)->io, 0);
}

int
malloc_clear(struct bdev_io *io)
{
	return clear(mb_of(io->ch->bdev)->mem, io->off, io->len, may_unmap(io));
}

/* A command may have 256 ranges to discard, one after the other: one each round. */
static void
clear_submit(struct malloc_bdev *m, struct bdev_io *io)
{
	struct malloc_req *r = (struct malloc_req *)io->priv;

	if (io->op == BDEV_WRITE_ZEROES && io->len <= MALLOC_SLICE) {
		bdev_complete(io, malloc_clear(io));
		return;
	}
	if (io->len <= INLINE_MAX) {
		malloc_later(io);
		return;
	}
	r->io = io;
	r->work = (struct work){ .fn = clear_fn, .done = clear_done };
	work_submit_flow(WORK_IO, &m->flow, &r->work);
}

static void
malloc_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	if (likely(io->op <= BDEV_WRITE))
		malloc_copy(ch, io);
	else if (io->op == BDEV_FLUSH)
		bdev_complete(io, 0);
	else
		clear_submit(mb_of(ch->bdev), io);
}

static void
malloc_free(struct bdev *b)
{
	struct malloc_bdev *m = mb_of(b);

	munmap(m->mem, m->map_len);
	bdev_cleanup(b);
	free(m->lock);
	free(m);
}

static const struct bdev_ops malloc_ops = {
	.module = "malloc",
	.product = "Malloc disk",
	.submit = malloc_submit,
	.ch_len = sizeof(struct malloc_ch),
	.ch_init = malloc_ch_init,
	.ch_fini = malloc_ch_fini,
	.free = malloc_free,
	.slow_free = true, /* munmap of many pages */
};

static int
map_memory(struct malloc_bdev *m, int node, struct bdev_ctl *c)
{
	bool numa = numa_available() >= 0;

	if (node >= 0 && (!numa || node > numa_max_node() ||
			  !numa_bitmask_isbitset(numa_all_nodes_ptr, node)))
		return bdev_fail(c, -EINVAL, "numa_id %d: no such node", node);
	m->map_len = align_up(m->bdev.len, HUGE_MIN);
	m->mem = mmap(NULL, m->map_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->mem == MAP_FAILED)
		return bdev_fail(c, -ENOMEM,
				 "no memory for %" PRIu64
				 " MiB: take fewer num_blocks",
				 m->bdev.len >> 20);
	/* Hints: that one of them fails harms nobody. */
	madvise(m->mem, m->map_len, MADV_DONTDUMP);
	madvise(m->mem, m->map_len, MADV_DONTFORK);
	if (m->map_len > HUGE_MIN)
		madvise(m->mem, m->map_len, MADV_HUGEPAGE);
	if (node >= 0)
		numa_tonode_memory(m->mem, m->map_len, node);
	return 0;
}

/* The first free "Malloc<N>". */
static void
pick_name(char *buf, size_t len)
{
	for (unsigned n = 0;; n++) {
		snprintf(buf, len, "Malloc%u", n);
		if (!bdev_name_taken(buf))
			return;
	}
}

int
bdev_malloc_create(const struct bdev_malloc_params *p, struct bdev_ctl *c)
{
	struct malloc_bdev *m = calloc(1, sizeof(*m));
	char name[32];
	int err;

	if (!m)
		return bdev_fail(c, -ENOMEM, "out of memory");
	if (!p->name)
		pick_name(name, sizeof(name));
	err = bdev_setup(&m->bdev, &malloc_ops, p->name ? p->name : name,
			 p->uuid, p->block_len, p->num_blocks,
			 p->phys_block_len, c);
	if (err)
		goto free_malloc;
	m->lock = malloc_locks();
	if (!m->lock) {
		err = bdev_fail(c, -ENOMEM, "out of memory");
		goto cleanup;
	}
	err = map_memory(m, p->numa, c);
	if (err)
		goto cleanup;
	m->bdev.caps = BDEV_CAP_FLUSH | BDEV_CAP_DISCARD |
		       BDEV_CAP_DISCARD_ZEROES | BDEV_CAP_WRITE_ZEROES;
	m->bdev.discard_granularity = 4096;
	m->uncached = m->bdev.len > CACHED_MAX;
	work_flow_init(&m->flow);
	m->params = *p;
	m->params.name = m->bdev.name;
	m->params.uuid = (const uuid_t *)&m->bdev.uuid;
	err = bdev_register(&m->bdev, c);
	if (!err)
		return 0;
	munmap(m->mem, m->map_len);
cleanup:
	bdev_cleanup(&m->bdev);
free_malloc:
	free(m->lock);
	free(m);
	return err;
}

const struct bdev_malloc_params *
bdev_malloc_params_of(const struct bdev *b)
{
	return bdev_is(b, &malloc_ops) ? &mb_of(b)->params : NULL;
}
