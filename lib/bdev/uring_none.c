/* SPDX-License-Identifier: BSD-3-Clause */
/* uring in a build without liburing: there is none. Instead of uring.c. */
#include "file.h"

int
uring_engine_room(struct bdev_ctl *c)
{
	return bdev_fail(
		c, -EOPNOTSUPP,
		"this build is without io_uring: install liburing-dev and build again, or use bdev_aio_create");
}

struct file_queue *
uring_engine_get(int *err)
{
	*err = -EOPNOTSUPP;
	return NULL;
}

void
uring_engine_destroy(struct uring_engine *eng)
{
}
