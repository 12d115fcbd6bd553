/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: the common part of stacked devices. What they do to an I/O is theirs.
 */
#include <stdlib.h>
#include <string.h>

#include "vbdev.h"

#define POOL 256 /* children a channel; more I/Os wait */

static void
base_event(enum bdev_event ev, void *arg)
{
	struct vbdev *v = arg;
	struct bdev_info info;

	if (ev == BDEV_EVENT_REMOVE) {
		/* Users are told; when they are gone, detach closes the base. */
		bdev_remove(&v->bdev, NULL);
		return;
	}
	bdev_get_info(v->base, &info);
	bdev_set_len(&v->bdev, info.num_blocks * info.block_len);
}

static int
open_base(struct vbdev *v, const char *base, const char *module,
	  struct bdev_ctl *c)
{
	const char *who;
	struct bdev *b;
	int err;

	if (!base || !*base)
		return bdev_fail(c, -EINVAL, "the base bdev's name is empty");
	err = bdev_open(base, true, base_event, v, &v->base);
	if (err == -ENODEV)
		return bdev_fail(c, err, "no bdev %s", base);
	if (!err) {
		err = bdev_claim(v->base, module);
		if (err)
			bdev_close(v->base);
	}
	b = err == -EPERM ? bdev_find(base) : NULL;
	if (b) {
		who = bdev_claimed_by(b);
		return bdev_fail(c, err, "bdev %s is in use by %s", base,
				 who ? who : "another");
	}
	return err ? bdev_fail(c, err, "bdev %s", base) : 0;
}

int
vbdev_setup(struct vbdev *v, const struct bdev_ops *ops, const char *name,
	    const char *base, const uuid_t *uuid, struct bdev_ctl *c)
{
	struct bdev_info info;
	int err = open_base(v, base, ops->module, c);

	if (err)
		return err;
	bdev_get_info(v->base, &info);
	err = bdev_setup(&v->bdev, ops, name, uuid, info.block_len,
			 info.num_blocks, info.phys_block_len, c);
	if (err)
		goto close_base;
	v->base_name = strdup(info.name);
	if (!v->base_name) {
		err = bdev_fail(c, -ENOMEM, "out of memory");
		goto cleanup;
	}
	v->bdev.caps = info.caps;
	v->bdev.read_only = info.read_only;
	v->bdev.write_cache = info.write_cache;
	v->bdev.max_discard_blocks = info.max_discard_blocks;
	v->bdev.discard_granularity = info.discard_granularity;
	return 0;
cleanup:
	bdev_cleanup(&v->bdev);
close_base:
	bdev_close(v->base);
	return err;
}

void
vbdev_detach(struct bdev *b)
{
	struct vbdev *v = vbdev_of(b);

	bdev_close(v->base);
	v->base = NULL;
}

void
vbdev_cleanup(struct vbdev *v)
{
	bdev_close(v->base);
	bdev_cleanup(&v->bdev);
	free(v->base_name);
}

/* What a parent that waits for a child keeps in priv. */
struct vbdev_wait {
	struct vbdev_req req;
	void (*done)(struct bdev_io *parent, int err);
};
_Static_assert(sizeof(struct vbdev_wait) <= sizeof(((struct bdev_io *)0)->priv),
	       "fits into an I/O");

void
vbdev_take(struct bdev_io *io)
{
	*vbdev_req_of(io) = (struct vbdev_req){ 0 };
	io->flags |= BDEV_IO_STACKED;
}

void
vbdev_complete(struct bdev_io *io, int err)
{
	io->flags &= (uint8_t)~BDEV_IO_STACKED;
	bdev_complete(io, err);
}

bool
vbdev_cancel(struct bdev_ch *ch, struct bdev_io *io)
{
	struct vbdev_ch *vch = bdev_ch_priv(ch);
	struct vbdev_req *r = vbdev_req_of(io);

	if (r->child) {
		r->cancelled = true;
		return bdev_cancel(r->child);
	}
	if (!r->cancelled) {
		r->cancelled = true;
		free(r->copy); /* cold: of injected corruption */
		list_remove(&io->node);
		list_push_back(&vch->cancelled, &io->node);
	}
	return true;
}

static bool
parent_faulted(const struct bdev_io *io)
{
	return io->parent->faulted(io->parent);
}

static void
start(struct vbdev_io *k, struct bdev_io *parent,
      void (*done)(struct bdev_io *parent, int err), void *copy)
{
	struct vbdev_ch *vch = k->vch;
	struct bdev_io *io = &k->io;

	k->done = done;
	k->copy = copy;
	io->parent = parent;
	io->ch = vch->base_ch;
	io->op = parent->op;
	io->flags = parent->flags & (BDEV_IO_FUA | BDEV_IO_UNMAP);
	io->off = parent->off;
	io->len = parent->len;
	io->iov = parent->iov;
	io->iovcnt = parent->iovcnt;
	io->faulted = parent->faulted ? parent_faulted : NULL;
	io->flush_seen = &vch->flush_seen;
	if (copy) {
		k->iov = (struct iovec){ copy, parent->len };
		io->iov = &k->iov;
		io->iovcnt = 1;
		io->faulted = NULL;
	}
	vbdev_req_of(parent)->child = io;
	bdev_submit(io);
}

void
vbdev_forward(struct vbdev_ch *vch, struct bdev_io *parent,
	      void (*done)(struct bdev_io *parent, int err), void *copy)
{
	struct list *n = vch->free.next;
	struct vbdev_io *k;

	if (n == &vch->free) {
		struct vbdev_wait *w = (struct vbdev_wait *)parent->priv;

		w->req.copy = copy;
		w->done = done;
		list_push_back(&vch->waiting, &parent->node);
		return;
	}
	vbdev_req_of(parent)->copy = NULL;
	list_remove(n);
	k = container_of(n, struct vbdev_io, io.node);
	start(k, parent, done, copy);
}

/* Parents that waited, as long as there are children. Not nested. */
static void
drain(struct vbdev_ch *vch)
{
	if (vch->draining)
		return;
	vch->draining = true;
	while (!list_empty(&vch->waiting) && !list_empty(&vch->free)) {
		struct bdev_io *io =
			list_first(&vch->waiting, struct bdev_io, node);
		struct vbdev_wait *w = (struct vbdev_wait *)io->priv;

		list_remove(&io->node);
		vbdev_forward(vch, io, w->done, w->req.copy);
	}
	vch->draining = false;
}

static void
child_done(struct bdev_io *io)
{
	struct vbdev_io *k = container_of(io, struct vbdev_io, io);
	void (*done)(struct bdev_io *, int) = k->done;
	struct bdev_io *parent = io->parent;
	int err = io->err;

	free(k->copy); /* cold: only of injected corruption; else NULL */
	k->copy = NULL;
	vbdev_req_of(parent)->child = NULL;
	list_push_front(&k->vch->free, &io->node);
	drain(k->vch);
	done(parent, err); /* last: it may end the channel */
}

int
vbdev_ch_init(struct bdev_ch *ch)
{
	struct vbdev_ch *vch = bdev_ch_priv(ch);
	struct vbdev *v = vbdev_of(ch->bdev);

	list_init(&vch->free);
	list_init(&vch->waiting);
	list_init(&vch->cancelled);
	vch->pool =
		reactor_mem_alloc(ch->br->reactor, POOL * sizeof(*vch->pool));
	if (!vch->pool)
		return -ENOMEM;
	vch->base_ch = bdev_get_ch(v->base);
	if (!vch->base_ch) {
		reactor_mem_free(vch->pool, POOL * sizeof(*vch->pool));
		return -ENOMEM;
	}
	vch->flush_seen = bdev_flush_seq(v->base);
	for (unsigned i = 0; i < POOL; i++) {
		vch->pool[i].vch = vch;
		vch->pool[i].io.done = child_done;
		list_push_back(&vch->free, &vch->pool[i].io.node);
	}
	return 0;
}

void
vbdev_ch_fini(struct bdev_ch *ch)
{
	struct vbdev_ch *vch = bdev_ch_priv(ch);

	bdev_put_ch(vch->base_ch);
	reactor_mem_free(vch->pool, POOL * sizeof(*vch->pool));
}
