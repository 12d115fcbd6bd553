/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A block device for tests: memory, with errors and delays on demand.
 *
 * It is registered like any backend (module "fake"), so what is under test
 * opens it by name. I/O completes inside bdev_submit(), or, with fake_bdev_hold(),
 * when the test says so. Single-threaded: one reactor, the test's.
 * Lifetime: bdev_delete() frees it, and bdev_fini().
 */
#ifndef BELFRY_FAKE_BDEV_H
#define BELFRY_FAKE_BDEV_H

#include "belfry/bdev.h"

struct fake_bdev;

#define FAKE_BDEV_ALL_CAPS                                             \
	(BDEV_CAP_FLUSH | BDEV_CAP_DISCARD | BDEV_CAP_DISCARD_ZEROES | \
	 BDEV_CAP_WRITE_ZEROES)

/* NULL: name taken or no memory. Has a volatile write cache. */
struct fake_bdev *fake_bdev_create(const char *name, uint32_t block_len,
				   uint64_t num_blocks, uint32_t caps);
void fake_bdev_set_read_only(struct fake_bdev *f, bool read_only);
/* As if the disk grew or shrank: RESIZE event. Data is kept as far as it goes. */
void fake_bdev_resize(struct fake_bdev *f, uint64_t num_blocks);

/* The next @n I/Os of @op (BDEV_OPS: of any) end with @err and do nothing. */
void fake_bdev_fail(struct fake_bdev *f, unsigned op, int err, unsigned n);
/* Hold I/Os (also those to come) until released; false lets new ones pass. */
void fake_bdev_hold(struct fake_bdev *f, bool hold);
unsigned fake_bdev_held(const struct fake_bdev *f);
/* The i-th that is held, oldest first; NULL: none. */
const struct bdev_io *fake_bdev_held_io(const struct fake_bdev *f, unsigned i);
/* Do the oldest @n held ones and end them, with @err if that is not 0. The count. */
unsigned fake_bdev_release(struct fake_bdev *f, unsigned n, int err);

/* What the disk holds; what was asked of it. */
uint8_t *fake_bdev_data(struct fake_bdev *f);
unsigned fake_bdev_count(const struct fake_bdev *f, unsigned op);
/* The last I/O that came: op, flags, off, len; iov and others are not valid. */
struct bdev_io fake_bdev_last(const struct fake_bdev *f);

#endif
