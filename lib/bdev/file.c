/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files and block devices as devices. The control side: create, free,
 * rescan. Not here: I/O (file_io.c and the others that file.h lists).
 *
 * bdev_file_params, what SPDK has and what it means here:
 *   fallocate  kept for the saved configuration. Discard and zeroing use
 *              fallocate(2) whenever the file system can punch holes.
 *   nowait     kept likewise. RWF_NOWAIT is used wherever it helps.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "belfry/log.h"

/* The name space of version 5 UUIDs made of a canonical path. */
static const uuid_t path_space = { 0x3b, 0x1c, 0x6e, 0x52, 0x0d, 0x7f,
				   0x4a, 0x39, 0x9e, 0x84, 0x61, 0xf2,
				   0x5a, 0xc0, 0x17, 0xbd };

static int
ch_init(struct bdev_ch *ch, struct file_queue *(*get)(int *err))
{
	struct file_ch *a = bdev_ch_priv(ch);
	int err;

	list_init(&a->waiting);
	list_init(&a->node);
	bounce_user_init(&a->small);
	bounce_user_init(&a->large);
	a->q = get(&err);
	return a->q ? 0 : err;
}

static int
aio_ch_init(struct bdev_ch *ch)
{
	return ch_init(ch, aio_engine_get);
}

static int
uring_ch_init(struct bdev_ch *ch)
{
	return ch_init(ch, uring_engine_get);
}

static void
file_free(struct bdev *b)
{
	struct file_bdev *a = file_of(b);

	if (a->fd >= 0)
		close(a->fd);
	bdev_cleanup(b);
	free(a->filename);
	free(a);
}

#define FILE_OPS(kind, name)                                                 \
	{                                                                    \
		.module = #kind, .product = name, .submit = file_submit,     \
		.ch_len = sizeof(struct file_ch), .ch_init = kind##_ch_init, \
		.free = file_free,                                           \
		.slow_free = true, /* close may write back */                \
	}

static const struct bdev_ops aio_ops = FILE_OPS(aio, "AIO disk");
static const struct bdev_ops uring_ops = FILE_OPS(uring, "URING disk");

/* A creation under way; what was borrowed is copied. */
struct file_create {
	struct work work;
	struct bdev_ctl *ctl;
	const struct bdev_ops *ops;
	struct bdev_file_params params;
	char *name, *filename;
	uuid_t uuid;
	bool has_uuid;
	struct file_probe probe;
	char path[PATH_MAX]; /* canonical */
	int err;
};

static void
create_free(struct file_create *k)
{
	free(k->name);
	free(k->filename);
	free(k);
}

static void
create_fn(struct work *w)
{
	struct file_create *k = container_of(w, struct file_create, work);

	k->probe.fd = -1;
	if (!realpath(k->filename, k->path)) {
		k->err = bdev_fail(k->ctl, -errno, "%s", k->filename);
		return;
	}
	if (!k->has_uuid)
		uuid_generate_sha1(k->uuid, path_space, k->path,
				   strlen(k->path));
	k->err = file_probe(k->path, k->params.read_only, k->params.block_len,
			    &k->probe, k->ctl);
}

static void
take_probe(struct file_bdev *a, const struct file_probe *p)
{
	struct bdev *b = &a->bdev;

	a->fd = p->fd;
	a->direct = p->direct;
	a->is_block = p->is_block;
	a->mem_mask = p->mem_align - 1;
	a->len_mask = p->io_align - 1;
	/* Until the kernel says otherwise. */
	a->nowait_read = a->nowait_write = a->can_zero = true;
	a->strict = b->ops == &uring_ops;
	a->kernel_fsync = !a->strict; /* io_uring would block in it */
	b->write_cache = true;
	b->discard_granularity = MAX(p->discard_granularity, b->block_mask + 1);
	b->caps = BDEV_CAP_FLUSH;
	if (!b->read_only) {
		b->caps |= BDEV_CAP_WRITE_ZEROES;
		if (p->can_discard)
			b->caps |= BDEV_CAP_DISCARD;
		if (p->discard_zeroes)
			b->caps |= BDEV_CAP_DISCARD_ZEROES;
	}
}

/* On the control reactor, the file is open. */
static int
create_bdev(struct file_create *k)
{
	const struct file_probe *p = &k->probe;
	uint32_t len = k->params.block_len ? k->params.block_len : p->logical;
	struct file_bdev *a = calloc(1, sizeof(*a));
	int err;

	if (!a)
		return bdev_fail(k->ctl, -ENOMEM, "out of memory");
	err = bdev_setup(&a->bdev, k->ops, k->name, (const uuid_t *)&k->uuid,
			 len, p->len / len, MAX(p->physical, len), k->ctl);
	if (err)
		goto free_aio;
	a->bdev.read_only = k->params.read_only;
	work_flow_init(&a->flow);
	take_probe(a, p);
	a->params = k->params;
	a->params.name = a->bdev.name;
	a->params.filename = a->filename = k->filename;
	a->params.uuid = (const uuid_t *)&a->bdev.uuid;
	k->filename = NULL;
	err = bdev_register(&a->bdev, k->ctl);
	if (!err) {
		log_info("%s: %s is %s, %s", k->ops->module, a->bdev.name,
			 k->path,
			 a->direct ? "direct" : "through the page cache");
		return 0;
	}
	a->fd = -1; /* still the caller's */
	file_free(&a->bdev);
	return err;
free_aio:
	free(a);
	return err;
}

static void
create_done(struct work *w)
{
	struct file_create *k = container_of(w, struct file_create, work);
	struct bdev_ctl *c = k->ctl;
	int err = k->err;

	/* in use: by a bdev that can be named? */
	if (err == -EBUSY && bdev_unique(k->name, k->uuid, c))
		err = -EEXIST;
	if (!err) {
		err = create_bdev(k);
		if (err)
			close(k->probe.fd);
	}
	create_free(k);
	c->done(c, err);
}

static int
check_params(const struct bdev_file_params *p, struct bdev_ctl *c)
{
	if (!p->name || !*p->name)
		return bdev_fail(c, -EINVAL, "name must not be empty");
	if (!p->filename || !*p->filename)
		return bdev_fail(c, -EINVAL, "filename must not be empty");
	if (p->block_len && p->block_len != 512 && p->block_len != 4096)
		return bdev_fail(c, -EINVAL,
				 "block_size %" PRIu32
				 " is not supported: use 512 or 4096",
				 p->block_len);
	if (bdev_find(p->name))
		return bdev_fail(c, -EEXIST, "bdev %s already exists", p->name);
	return 0;
}

static int
create(const struct bdev_ops *ops, const struct bdev_file_params *p,
       struct bdev_ctl *c)
{
	struct file_create *k;
	int err = check_params(p, c);

	if (!err)
		err = ops == &aio_ops ? aio_engine_room(c)
				      : uring_engine_room(c);
	if (err)
		return err;
	k = calloc(1, sizeof(*k));
	if (!k)
		return bdev_fail(c, -ENOMEM, "out of memory");
	k->ctl = c;
	k->ops = ops;
	k->params = *p;
	k->name = strdup(p->name);
	k->filename = strdup(p->filename);
	if (!k->name || !k->filename) {
		create_free(k);
		return bdev_fail(c, -ENOMEM, "out of memory");
	}
	k->has_uuid = p->uuid != NULL;
	if (p->uuid)
		uuid_copy(k->uuid, *p->uuid);
	k->work = (struct work){ .fn = create_fn, .done = create_done };
	work_submit(WORK_CONTROL, &k->work);
	return -EINPROGRESS;
}

int
bdev_aio_create(const struct bdev_file_params *p, struct bdev_ctl *c)
{
	return create(&aio_ops, p, c);
}

int
bdev_uring_create(const struct bdev_file_params *p, struct bdev_ctl *c)
{
	return create(&uring_ops, p, c);
}

/* ---- rescan: the file has grown or shrunk ---- */

struct file_rescan {
	struct work work;
	struct bdev_ctl *ctl;
	struct bdev_desc *desc; /* keeps the device */
	uint64_t len;
	int err;
};

static void
rescan_fn(struct work *w)
{
	struct file_rescan *k = container_of(w, struct file_rescan, work);
	struct file_bdev *a = file_of(bdev_of(k->desc));

	k->err = file_len_of(a->fd, a->is_block, &k->len);
}

static int
rescan_take(struct file_rescan *k)
{
	struct bdev *b = bdev_of(k->desc);
	const char *file = file_of(b)->filename;

	if (k->err)
		return bdev_fail(k->ctl, k->err, "%s", file);
	if (b->is_removing)
		return bdev_fail(k->ctl, -ENODEV, "bdev %s is being deleted",
				 b->name);
	if (!k->len)
		return bdev_fail(k->ctl, -EINVAL, "%s is empty now", file);
	if (k->len & b->block_mask)
		return bdev_fail(k->ctl, -EINVAL,
				 "the size of %s, %" PRIu64
				 ", is no multiple of block_size %" PRIu32,
				 file, k->len, b->block_mask + 1);
	if (k->len != b->len)
		log_notice("bdev %s: resized from %" PRIu64 " to %" PRIu64
			   " bytes",
			   b->name, b->len, k->len);
	bdev_set_len(b, k->len);
	return 0;
}

static void
rescan_done(struct work *w)
{
	struct file_rescan *k = container_of(w, struct file_rescan, work);
	struct bdev_ctl *c = k->ctl;
	int err = rescan_take(k);

	bdev_close(k->desc);
	free(k);
	c->done(c, err);
}

static int
rescan(const struct bdev_ops *ops, const char *name, struct bdev_ctl *c)
{
	struct bdev *b = bdev_find_of(name, ops, c);
	struct file_rescan *k;
	int err;

	if (!b)
		return -ENODEV;
	k = calloc(1, sizeof(*k));
	if (!k)
		return bdev_fail(c, -ENOMEM, "out of memory");
	err = bdev_open(b->name, false, NULL, NULL, &k->desc);
	if (err) {
		free(k);
		return bdev_fail(c, err, "bdev %s", name);
	}
	k->ctl = c;
	k->work = (struct work){ .fn = rescan_fn, .done = rescan_done };
	work_submit(WORK_CONTROL, &k->work);
	return -EINPROGRESS;
}

int
bdev_aio_rescan(const char *name, struct bdev_ctl *c)
{
	return rescan(&aio_ops, name, c);
}

int
bdev_uring_rescan(const char *name, struct bdev_ctl *c)
{
	return rescan(&uring_ops, name, c);
}

const struct bdev_file_params *
bdev_aio_params_of(const struct bdev *b)
{
	return bdev_is(b, &aio_ops) ? &file_of(b)->params : NULL;
}

const struct bdev_file_params *
bdev_uring_params_of(const struct bdev *b)
{
	return bdev_is(b, &uring_ops) ? &file_of(b)->params : NULL;
}
