/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the devices that are files:
 *   file.c        create, delete, rescan: the control side
 *   file_probe.c  opens a file and finds out what it can do
 *   file_io.c     one I/O: decisions, short transfers, errors
 *   file_queue.c  what waits for the kernel on a reactor
 *   aio.c         an io_context takes it: io_submit, ring, eventfd
 *   uring.c       an io_uring takes it (uring_none.c: built without liburing)
 *   file_block.c  what blocks, on worker threads
 *   bounce.c      aligned buffers for misaligned ones
 */
#ifndef BELFRY_BDEV_FILE_H
#define BELFRY_BDEV_FILE_H

#include <libaio.h>

#include "internal.h"

#define BOUNCE_LARGE (1u << 20) /* a controller's largest transfer */
#define BOUNCE_SMALL (16u << 10)

struct file_bdev {
	struct bdev bdev;
	/* Read by each I/O. */
	int fd;
	uint32_t mem_mask; /* addresses of O_DIRECT: alignment - 1 */
	uint32_t len_mask; /* pieces of O_DIRECT: alignment - 1 */
	bool direct;
	bool is_block;
	bool strict; /* what RWF_NOWAIT cannot do is for a worker */
	/* Cleared by any reactor that learns otherwise. */
	bool nowait_read;
	bool nowait_write;
	bool kernel_fsync;
	/* Cleared by worker threads. */
	bool can_zero;	       /* ZERO_RANGE or BLKZEROOUT */
	struct work_flow flow; /* on worker threads */
	/* What made it. */
	char *filename; /* as the operator wrote it */
	struct bdev_file_params params;
};

/* In bdev_io.priv. With the kernel as an iocb, or with a worker. */
struct file_req {
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
_Static_assert(sizeof(struct file_req) <= sizeof(((struct bdev_io *)0)->priv),
	       "fits into an I/O");

static inline struct file_req *
file_req_of(struct bdev_io *io)
{
	return (struct file_req *)io->priv;
}

static inline struct bdev_io *
file_io_of(struct file_req *r)
{
	return container_of(
		(uint64_t(*)[ARRAY_SIZE(((struct bdev_io *)0)->priv)])r,
		struct bdev_io, priv);
}

static inline struct file_bdev *
file_of(const struct bdev *b)
{
	return container_of(b, struct file_bdev, bdev);
}

/* ---- bounce.c ---- */

struct bounce_class {
	char *mem;
	char *free; /* the first bytes of a free buffer name the next */
	unsigned nfree;
	struct list users; /* bounce_user with I/Os that wait, in turn */
	unsigned count;
	uint32_t buf_len;
};
struct bounce_pool {
	struct reactor *reactor;
	struct bounce_class small, large;
};
/* A disk's part of a class. */
struct bounce_user {
	unsigned used;	     /* buffers */
	struct list waiting; /* I/Os */
	struct list node;    /* bounce_class.users */
};
void bounce_init(struct bounce_pool *p, struct reactor *r);
void bounce_fini(struct bounce_pool *p);
void bounce_user_init(struct bounce_user *u);
/*
 * A buffer for @io, which is at most BOUNCE_LARGE long. NULL: @io waits, and a
 * bounce_next() will give it. *err set: no memory at all, @io does not wait.
 */
char *bounce_get(struct bounce_pool *p, struct bdev_io *io, int *err);
/* Gives back the buffer of @io. bounce_next() is due. */
void bounce_put(struct bounce_pool *p, struct bdev_io *io, char *buf);
/* An I/O that waited and has *buf now; of the size of those of @len. NULL: none. */
struct bdev_io *bounce_next(struct bounce_pool *p, uint64_t len, char **buf);

/* ---- file_queue.c ---- */

/*
 * What waits for the kernel on a reactor: I/Os of all disks of an interface, in
 * order. The part that is common to the engines, which send them and reap.
 */
struct file_queue {
	struct bdev_engine e;
	struct iocb **list;
	unsigned queued;
	unsigned depth; /* of these and those with the kernel, at most */
	unsigned inflight;
	struct list waiting; /* channels with I/Os for which there is no room */
	struct bounce_pool bounce;
	struct bdev_reactor *br;
	struct reactor_fd efd; /* a completion wakes a sleeper by it */
};

/* A disk's part of it; what bdev_ch_priv() is. */
struct file_ch {
	struct file_queue *q;
	unsigned used;	     /* I/Os queued and with the kernel */
	struct list waiting; /* I/Os beyond what one disk may have there */
	struct list node;    /* q->waiting */
	struct bounce_user small, large;
};

static inline struct file_ch *
file_ch_of(const struct bdev_io *io)
{
	return bdev_ch_priv(io->ch);
}

/* The iocb is filled; it goes with the next kick. */
void file_enqueue(struct file_queue *q, struct bdev_io *io);
/* How many of the list are to go now; 0: none. */
unsigned file_queue_next(struct file_queue *q);
/* The kernel has the first @n. */
void file_queue_sent(struct file_queue *q, unsigned n);
/* It does not take the first one. */
void file_queue_refused(struct file_queue *q, int err);
/* One came back: file_result() follows. */
void file_queue_done(struct file_queue *q, struct bdev_io *io, int64_t res);
/* -ENOMEM, -errno: fini is due, too. Harmless if there was no init. */
int file_queue_init(struct file_queue *q, struct bdev_reactor *br,
		    unsigned depth);
void file_queue_fini(struct file_queue *q);

/* ---- aio.c ---- */

/* Contents of a completion ring, as mapped by io_setup(); see io_setup(2). */
struct aio_ring;

struct aio_engine {
	struct file_queue q;
	io_context_t ctx;
	struct aio_ring *ring; /* NULL: not of the layout we know */
	unsigned unarmed; /* in flight, which will not signal the eventfd */
	bool armed;	  /* the reactor may be asleep */
	bool slow;	  /* completions take longer than it spins */
	uint64_t slow_ns; /* half of what the reactor spins */
};

/* The reactor's, made on first use and kept. NULL and *err. */
struct file_queue *aio_engine_get(int *err);
/* Is there room for a context? Any thread. -EAGAIN: no, and the sentence. */
int aio_engine_room(struct bdev_ctl *c);

/* ---- uring.c ---- */

struct file_queue *uring_engine_get(int *err);
/*
 * May we have a ring? -EPERM: not allowed, -ENOSYS, -EOPNOTSUPP: none or an old
 * one in this kernel, or built without; and the sentence.
 */
int uring_engine_room(struct bdev_ctl *c);

/* ---- file_io.c ---- */

void file_submit(struct bdev_ch *ch, struct bdev_io *io);
/* The kernel, or io_submit, or a worker says so: bytes, or -errno. */
void file_result(struct bdev_io *io, int64_t res);

/* ---- file_block.c ---- */

/* Do, or end, @io on a worker; file_result() or bdev_complete() follows. */
void file_to_worker(struct bdev_io *io);

struct file_probe {
	int fd;
	bool is_block, direct, can_discard, discard_zeroes;
	uint32_t logical, physical, mem_align, io_align;
	uint32_t discard_granularity;
	uint64_t len;
};
/* May block. @block_len 0: takes what fits. Takes nothing; gives out->fd. */
int file_probe(const char *path, bool read_only, uint32_t block_len,
	       struct file_probe *out, struct bdev_ctl *c);
/* Of an open file. May block. */
int file_len_of(int fd, bool is_block, uint64_t *len);

#endif
