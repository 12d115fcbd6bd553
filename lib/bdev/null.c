/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * null: discards what is written, and leaves the memory of a read as it is.
 *
 * For measuring everything but the disk. A read does not write the reader's
 * memory at all: whatever it held before is what the guest sees, so nothing of
 * ours leaks, and verify of fio and the like fails as it should.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "internal.h"

struct null_bdev {
	struct bdev bdev;
	struct bdev_null_params params;
};

static void
null_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	bdev_complete(io, 0);
}

static void
null_free(struct bdev *b)
{
	bdev_cleanup(b);
	free(container_of(b, struct null_bdev, bdev));
}

static const struct bdev_ops null_ops = {
	.module = "null",
	.product = "Null disk",
	.submit = null_submit,
	.free = null_free,
};

int
bdev_null_create(const struct bdev_null_params *p, struct bdev_ctl *c)
{
	struct null_bdev *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return bdev_fail(c, -ENOMEM, "out of memory");
	err = bdev_setup(&n->bdev, &null_ops, p->name, p->uuid, p->block_len,
			 p->num_blocks, p->phys_block_len, c);
	if (err)
		goto free_null;
	/* What is thrown away need not be flushed, and never reads back. */
	n->bdev.caps = BDEV_CAP_FLUSH | BDEV_CAP_DISCARD |
		       BDEV_CAP_WRITE_ZEROES;
	n->params = *p;
	n->params.name = n->bdev.name;
	n->params.uuid = (const uuid_t *)&n->bdev.uuid;
	err = bdev_register(&n->bdev, c);
	if (!err)
		return 0;
	bdev_cleanup(&n->bdev);
free_null:
	free(n);
	return err;
}

int
bdev_null_resize(const char *name, uint64_t new_mib, struct bdev_ctl *c)
{
	struct bdev *b = bdev_find_of(name, &null_ops, c);
	struct null_bdev *n;

	if (!b)
		return -ENODEV;
	if (!new_mib || new_mib > INT64_MAX >> 20)
		return bdev_fail(c, -EINVAL,
				 "new_size %" PRIu64 " must be 1 to %" PRIu64
				 " MiB",
				 new_mib, (uint64_t)INT64_MAX >> 20);
	n = container_of(b, struct null_bdev, bdev);
	n->params.num_blocks = new_mib << 20 >> b->block_shift;
	bdev_set_len(b, new_mib << 20);
	return 0;
}

const struct bdev_null_params *
bdev_null_params_of(const struct bdev *b)
{
	return bdev_is(b, &null_ops)
		       ? &container_of(b, struct null_bdev, bdev)->params
		       : NULL;
}
