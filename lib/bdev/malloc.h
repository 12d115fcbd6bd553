/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the malloc backend:
 *   malloc.c       create, delete, clearing
 *   malloc_copy.c  reads and writes
 */
#ifndef BELFRY_BDEV_MALLOC_H
#define BELFRY_BDEV_MALLOC_H

#include "internal.h"

struct malloc_bdev {
	struct bdev bdev;
	char *mem;
	unsigned users; /* reactors; with more than one, copies take locks */
	bool uncached;	/* larger than caches: writes go past them */
	struct work_flow flow;
	struct malloc_stripe *lock;
	size_t map_len; /* the mapping's; it does not shrink or grow */
	struct bdev_malloc_params params;
};

/* A reactor's part of it; what bdev_ch_priv() is. */
struct malloc_ch {
	struct bdev_engine e;
	struct list running; /* long copies, a slice of the first each round */
};

static inline struct malloc_bdev *
mb_of(const struct bdev *b)
{
	return container_of(b, struct malloc_bdev, bdev);
}

/* A READ or WRITE. */
void malloc_copy(struct bdev_ch *ch, struct bdev_io *io);
int malloc_ch_init(struct bdev_ch *ch);
void malloc_ch_fini(struct bdev_ch *ch);
struct malloc_stripe *malloc_locks(void); /* free() them; NULL: no memory */

#endif
