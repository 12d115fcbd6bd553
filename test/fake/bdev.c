/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A block device for tests; see bdev.h. Not for measuring.
 */
#include "bdev.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/bdev/internal.h"

struct fake_bdev {
	struct bdev bdev;
	uint8_t *data;
	struct {
		int err;
		unsigned left;
	} fail[BDEV_OPS + 1];
	unsigned count[BDEV_OPS];
	struct bdev_io last;
	struct list held;
	unsigned nheld;
	bool hold;
};

static struct fake_bdev *
fake_of(const struct bdev *b)
{
	return container_of(b, struct fake_bdev, bdev);
}

static int
injected(struct fake_bdev *f, unsigned op)
{
	if (f->fail[op].left && f->fail[op].left--)
		return f->fail[op].err;
	if (f->fail[BDEV_OPS].left && f->fail[BDEV_OPS].left--)
		return f->fail[BDEV_OPS].err;
	return 0;
}

static int
perform(struct fake_bdev *f, struct bdev_io *io)
{
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };
	int err = injected(f, io->op);

	if (err)
		return err;
	switch (io->op) {
	case BDEV_READ:
		return bdev_copy_in(&cur, f->data + io->off, io->len) == io->len
			       ? 0
			       : -EINVAL;
	case BDEV_WRITE:
		return bdev_copy_out(&cur, f->data + io->off, io->len) ==
				       io->len
			       ? 0
			       : -EINVAL;
	case BDEV_DISCARD:
	case BDEV_WRITE_ZEROES:
		memset(f->data + io->off, 0, io->len);
		return 0;
	}
	return 0;
}

static void
fake_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	struct fake_bdev *f = fake_of(ch->bdev);

	f->count[io->op]++;
	f->last = *io;
	if (f->hold) {
		list_push_back(&f->held, &io->node);
		f->nheld++;
		return;
	}
	bdev_complete(io, perform(f, io));
}

static void
fake_free(struct bdev *b)
{
	struct fake_bdev *f = fake_of(b);

	free(f->data);
	bdev_cleanup(b);
	free(f);
}

static const struct bdev_ops fake_ops = {
	.module = "fake",
	.product = "Fake disk",
	.submit = fake_submit,
	.free = fake_free,
};

struct fake_bdev *
fake_bdev_create(const char *name, uint32_t block_len, uint64_t num_blocks,
		 uint32_t caps)
{
	struct fake_bdev *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	if (bdev_setup(&f->bdev, &fake_ops, name, NULL, block_len, num_blocks,
		       0, NULL))
		goto free_fake;
	f->data = calloc(num_blocks, block_len);
	list_init(&f->held);
	f->bdev.caps = caps;
	f->bdev.write_cache = true;
	if (f->data && !bdev_register(&f->bdev, NULL))
		return f;
	free(f->data);
	bdev_cleanup(&f->bdev);
free_fake:
	free(f);
	return NULL;
}

void
fake_bdev_set_read_only(struct fake_bdev *f, bool read_only)
{
	f->bdev.read_only = read_only;
	bdev_accept(&f->bdev);
}

void
fake_bdev_resize(struct fake_bdev *f, uint64_t num_blocks)
{
	uint64_t len = num_blocks << f->bdev.block_shift;
	uint8_t *data = calloc(1, len);

	if (!data)
		abort();
	memcpy(data, f->data, MIN(len, f->bdev.len));
	free(f->data);
	f->data = data;
	bdev_set_len(&f->bdev, len);
}

void
fake_bdev_fail(struct fake_bdev *f, unsigned op, int err, unsigned n)
{
	f->fail[op].err = err;
	f->fail[op].left = n;
}

void
fake_bdev_hold(struct fake_bdev *f, bool hold)
{
	f->hold = hold;
}

unsigned
fake_bdev_held(const struct fake_bdev *f)
{
	return f->nheld;
}

const struct bdev_io *
fake_bdev_held_io(const struct fake_bdev *f, unsigned i)
{
	struct bdev_io *io;

	list_for_each(io, &f->held, node) {
		if (!i--)
			return io;
	}
	return NULL;
}

/* The last one's end may be the end of @f too: @f is read before it only. */
unsigned
fake_bdev_release(struct fake_bdev *f, unsigned n, int err)
{
	unsigned todo = MIN(n, f->nheld);

	for (unsigned i = 0; i < todo; i++) {
		struct bdev_io *io = list_first(&f->held, struct bdev_io, node);
		int res;

		list_remove(&io->node);
		f->nheld--;
		res = err ? err : perform(f, io);
		bdev_complete(io, res);
	}
	return todo;
}

uint8_t *
fake_bdev_data(struct fake_bdev *f)
{
	return f->data;
}

unsigned
fake_bdev_count(const struct fake_bdev *f, unsigned op)
{
	return f->count[op];
}

struct bdev_io
fake_bdev_last(const struct fake_bdev *f)
{
	return f->last;
}
