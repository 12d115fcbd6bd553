/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the aio backend:
 *   aio.c         create, delete, rescan: the control side
 *   aio_probe.c   opens a file and finds out what it can do
 *   aio_io.c      one I/O: decisions, short transfers, errors
 *   aio_engine.c  a reactor's io_context: queue, io_submit, ring, eventfd
 *   aio_block.c   what blocks, on worker threads
 *   bounce.c      aligned buffers for misaligned ones
 */
#ifndef BELFRY_BDEV_AIO_H
#define BELFRY_BDEV_AIO_H

#include <libaio.h>

#include "internal.h"

#define BOUNCE_LARGE (1u << 20) /* a controller's largest transfer */
#define BOUNCE_SMALL (16u << 10)

struct aio_bdev {
	struct bdev bdev;
	/* Read by each I/O. */
	int fd;
	uint32_t mem_mask; /* addresses of O_DIRECT: alignment - 1 */
	uint32_t len_mask; /* pieces of O_DIRECT: alignment - 1 */
	bool direct;
	bool is_block;
	/* Cleared by any reactor that learns otherwise. */
	bool nowait_read;
	bool nowait_write;
	bool aio_fsync;
	/* Cleared by worker threads. */
	bool can_zero;	       /* ZERO_RANGE or BLKZEROOUT */
	struct work_flow flow; /* on worker threads */
	/* What made it. */
	char *filename; /* as the operator wrote it */
	struct bdev_aio_params params;
};

/* In bdev_io.priv. With the kernel as an iocb, or with a worker. */
struct aio_req {
	union {
		struct iocb cb;
		struct work work;
	};
	char *bounce;
	uint64_t done_len; /* bytes that are through */
	int result;
	bool armed;	  /* its completion signals the eventfd */
	bool misaligned;  /* O_DIRECT needs another buffer */
	struct iovec iov; /* the bounce buffer */
};
_Static_assert(sizeof(struct aio_req) <= sizeof(((struct bdev_io *)0)->priv),
	       "fits into an I/O");

static inline struct aio_req *
aio_req_of(struct bdev_io *io)
{
	return (struct aio_req *)io->priv;
}

static inline struct bdev_io *
aio_io_of(struct aio_req *r)
{
	return container_of(
		(uint64_t(*)[ARRAY_SIZE(((struct bdev_io *)0)->priv)])r,
		struct bdev_io, priv);
}

static inline struct aio_bdev *
aio_of(const struct bdev *b)
{
	return container_of(b, struct aio_bdev, bdev);
}

/* ---- bounce.c ---- */

struct bounce_class {
	char *mem;
	char *free; /* the first bytes of a free buffer name the next */
	struct list waiting; /* I/Os */
	unsigned count;
	uint32_t buf_len;
};
struct bounce_pool {
	struct reactor *reactor;
	struct bounce_class small, large;
};
void bounce_init(struct bounce_pool *p, struct reactor *r);
void bounce_fini(struct bounce_pool *p);
/*
 * A buffer for @io, which is at most BOUNCE_LARGE long. NULL: @io waits, and a
 * bounce_put() will give it. *err set: no memory at all, @io does not wait.
 */
char *bounce_get(struct bounce_pool *p, struct bdev_io *io, int *err);
/* Gives back the buffer of @len bytes; an I/O that waited gets *buf. */
struct bdev_io *bounce_put(struct bounce_pool *p, uint64_t len, char *buf);

/* ---- aio_engine.c ---- */

/* Contents of a completion ring, as mapped by io_setup(); see io_setup(2). */
struct aio_ring;

struct aio_engine {
	struct bdev_engine e;
	io_context_t ctx;
	struct aio_ring *ring; /* NULL: not of the layout we know */
	struct iocb **queue;
	unsigned queued;
	unsigned depth;
	unsigned inflight;
	unsigned unarmed;    /* of those, which will not signal the eventfd */
	bool armed;	     /* the reactor may be asleep */
	bool slow;	     /* completions take longer than it spins */
	uint64_t slow_ns;    /* half of what the reactor spins */
	struct list waiting; /* channels with I/Os for which there is no room */
	struct bounce_pool bounce;
	struct bdev_reactor *br;
	struct reactor_fd efd;
};

/* A disk's part of it; what bdev_ch_priv() is. */
struct aio_ch {
	struct aio_engine *eng;
	unsigned used;	     /* I/Os queued and with the kernel */
	struct list waiting; /* I/Os beyond what one disk may have there */
	struct list node;    /* eng->waiting */
};

static inline struct aio_ch *
aio_ch_of(const struct bdev_io *io)
{
	return bdev_ch_priv(io->ch);
}

/* The reactor's, made on first use and kept. NULL and *err. */
struct aio_engine *aio_engine_get(int *err);
/* Is there room for a context? Any thread. -EAGAIN: no, and the sentence. */
int aio_engine_room(struct bdev_ctl *c);
/* The iocb is filled; it goes with the next kick. */
void aio_enqueue(struct aio_engine *eng, struct bdev_io *io);

/* ---- aio_io.c ---- */

void aio_submit(struct bdev_ch *ch, struct bdev_io *io);
/* The kernel, or io_submit, or a worker says so: bytes, or -errno. */
void aio_result(struct bdev_io *io, int64_t res);

/* ---- aio_block.c ---- */

/* Do, or end, @io on a worker; aio_result() or bdev_complete() follows. */
void aio_to_worker(struct bdev_io *io);

/* ---- aio_probe.c ---- */

struct aio_probe {
	int fd;
	bool is_block, direct, can_discard, discard_zeroes;
	uint32_t logical, physical, mem_align, io_align;
	uint32_t discard_granularity;
	uint64_t len;
};
/* May block. @block_len 0: takes what fits. Takes nothing; gives out->fd. */
int aio_probe(const char *path, bool read_only, uint32_t block_len,
	      struct aio_probe *out, struct bdev_ctl *c);
/* Of an open file. May block. */
int aio_file_len(int fd, bool is_block, uint64_t *len);

#endif
