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
	struct list
		running; /* discards and long copies: of the first one, a slice each round */
};
#define MALLOC_SLICE \
	(64u << 10) /* bytes of one round: 6 us, or 20 of slow memory */

static inline struct malloc_bdev *
mb_of(const struct bdev *b)
{
	return container_of(b, struct malloc_bdev, bdev);
}

/* A READ or WRITE. */
void malloc_copy(struct bdev_ch *ch, struct bdev_io *io);
/* Another one takes its turn. */
void malloc_later(struct bdev_io *io);
int malloc_clear(struct bdev_io *io); /* of a DISCARD or WRITE_ZEROES, all */
int malloc_ch_init(struct bdev_ch *ch);
void malloc_ch_fini(struct bdev_ch *ch);
struct malloc_stripe *malloc_locks(void); /* free() them; NULL: no memory */

#endif
