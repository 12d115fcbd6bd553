/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What stacked devices (delay, error) have in common: they open and claim a
 * base, look like it, follow its size and its removal, and pass I/O on as
 * children from a pool of the channel. For lib/bdev only.
 */
#ifndef BELFRY_BDEV_VBDEV_H
#define BELFRY_BDEV_VBDEV_H

#include "internal.h"

struct vbdev {
	struct bdev bdev;
	struct bdev_desc *base;
	char *base_name;
};

/* A child; its parent member is the I/O that came. */
struct vbdev_io {
	struct bdev_io io;
	struct vbdev_ch *vch;
	void (*done)(struct bdev_io *parent, int err);
	void *copy; /* of written data, freed when done */
	struct iovec iov;
};

/* What a parent's priv begins with, as long as it has BDEV_IO_STACKED. */
struct vbdev_req {
	struct bdev_io *child; /* with the base; NULL: node is in a list */
	void *copy;	       /* it waits for a child with that; or NULL */
	bool cancelled;
};

/* Starts the channel state of a stacked backend. */
struct vbdev_ch {
	struct bdev_ch *base_ch;
	struct vbdev_io *pool;
	struct list free;    /* vbdev_io.io.node */
	struct list waiting; /* parents, when the pool is empty */
	struct list
		cancelled; /* those that nobody holds now; the device's reap ends them */
	uint32_t flush_seen;
	bool draining;
};

static inline struct vbdev *
vbdev_of(const struct bdev *b)
{
	return container_of(b, struct vbdev, bdev);
}

/*
 * Open and claim @base, and set up v->bdev after it; not registered yet.
 * On error nothing is left to free but @v.
 */
int vbdev_setup(struct vbdev *v, const struct bdev_ops *ops, const char *name,
		const char *base, const uuid_t *uuid, struct bdev_ctl *c);
/* bdev_ops.detach; vbdev_cleanup() is for bdev_ops.free. */
void vbdev_detach(struct bdev *b);
void vbdev_cleanup(struct vbdev *v);
int vbdev_ch_init(struct bdev_ch *ch);
void vbdev_ch_fini(struct bdev_ch *ch);

/* The device has it, until vbdev_complete(): may be cancelled. */
void vbdev_take(struct bdev_io *io);
void vbdev_complete(struct bdev_io *io, int err);
/* bdev_ops.cancel */
bool vbdev_cancel(struct bdev_ch *ch, struct bdev_io *io);

static inline struct vbdev_req *
vbdev_req_of(struct bdev_io *io)
{
	return (struct vbdev_req *)io->priv;
}

/*
 * Send @parent, which was taken, to the base. @done runs with the base's result and ends, or
 * keeps, the parent; if it was cancelled, it ends it. The parent's node and its priv are in use until then, the
 * beginning of priv and, while it is kept in a list, the node afterwards, too. @copy (malloc'ed, taken; or NULL) is written in place
 * of the parent's data.
 */
void vbdev_forward(struct vbdev_ch *vch, struct bdev_io *parent,
		   void (*done)(struct bdev_io *parent, int err), void *copy);

#endif
