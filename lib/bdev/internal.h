/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of lib/bdev: what a backend fills and calls.
 *
 * A backend embeds struct bdev in its own, has one struct bdev_ops, and ends
 * each I/O with bdev_complete(). What it must poll hangs on the reactor as a
 * struct bdev_engine. Not for users of block devices: belfry/bdev.h.
 */
#ifndef BELFRY_BDEV_INTERNAL_H
#define BELFRY_BDEV_INTERNAL_H

#include <errno.h>
#include <sys/types.h>

#include "belfry/bdev.h"
#include "belfry/log.h"

/* Flushes go to the backend, others are checked first; see bdev_submit(). */
struct bdev_ops {
	const char *module;  /* "aio" */
	const char *product; /* "AIO disk" */
	/* On the channel's reactor. Ends with bdev_complete(), here or later. */
	void (*submit)(struct bdev_ch *ch, struct bdev_io *io);
	/* Stacked devices: of an I/O with BDEV_IO_STACKED, as bdev_cancel(). */
	bool (*cancel)(struct bdev_ch *ch, struct bdev_io *io);
	size_t ch_len; /* bytes of the backend's state, bdev_ch_priv(), zeroed */
	/* Optional; on the channel's reactor: first get, last put. */
	int (*ch_init)(struct bdev_ch *ch);
	void (*ch_fini)(struct bdev_ch *ch);
	/* Optional; control reactor: the deletion starts, held I/O must end. */
	void (*removing)(struct bdev *b);
	/* Optional; control reactor, no users any more: leave the base. */
	void (*detach)(struct bdev *b);
	/*
	 * Then free all, with bdev_cleanup(), and @b itself. May block if
	 * slow_free is set: it then runs on a worker thread.
	 */
	void (*free)(struct bdev *b);
	bool slow_free;
};

/* In stats_gen: I/Os are to be counted by their latency, too. */
#define BDEV_GEN_HISTOGRAM 1u
#define BDEV_GEN_STEP 2u

struct bdev {
	/* Read by each I/O; the control reactor alone writes it, seldom. */
	const struct bdev_ops *ops;
	uint64_t len; /* bytes */
	uint32_t block_mask;
	uint32_t caps;
	/* Minima and maxima are of this generation; and BDEV_GEN_HISTOGRAM. */
	uint32_t stats_gen;
	uint32_t flush_seq; /* failed flushes; any reactor adds to it */
	uint8_t block_shift;
	uint8_t accepts; /* a bit for each operation: bdev_accept() */
	bool read_only;
	bool is_removing;
	bool write_cache;

	uint32_t phys_block_len;
	uint32_t max_discard_blocks;
	uint32_t discard_granularity;
	uuid_t uuid;
	char *name;
	struct list node;  /* registry */
	struct list descs; /* struct bdev_desc */
	unsigned ndescs;
	unsigned event_seq;
	bool notifying;
	bool registered;
	struct bdev_histogram *histogram; /* NULL: off */
	struct bdev_desc *claim;
	char *claimed_by;
	struct bdev_ctl *ctl; /* who waits for the deletion */
	struct qos *qos;      /* NULL: never had a limit; qos.c */
	struct log_ratelimit complaints;
	/*
	 * By reactor. Made by the first get there, kept until the device goes,
	 * so that statistics can be read at any time.
	 */
	struct bdev_ch *ch[REACTOR_MAX];
};
_Static_assert(offsetof(struct bdev, phys_block_len) <= CACHE_LINE,
	       "what an I/O reads of its device is one cache line");

/* One cache line an operation. Written by its reactor, read by control. */
struct bdev_op_stats {
	uint64_t ops, bytes, latency_ns, min_ns, max_ns, errors;
} cache_aligned;

struct bdev_reactor;

/* Something that a reactor must kick and reap; members may be NULL. */
struct bdev_engine {
	int (*kick)(struct bdev_engine *e);
	int (*reap)(struct bdev_engine *e);
	uint64_t (*sleep)(struct bdev_engine *e);
	void (*wake)(struct bdev_engine *e);
	struct list node;
};

/* I/Os that a limit keeps back; the first has its time, the others none yet. */
struct qos_queue {
	struct list waiting;
	uint64_t due; /* 0: to be asked for */
};

/* A channel's part of the limits. */
struct qos_ch {
	struct bdev_engine engine;
	struct qos_queue reads, writes;
	struct list cancelled;
	bool active; /* submit and engine are in place */
};

struct bdev_ch {
	struct bdev *bdev;
	void (*submit)(struct bdev_ch *ch, struct bdev_io *io);
	struct bdev_reactor *br;
	const uint64_t *clock; /* the reactor's: reactor_clock() */
	uint64_t started;      /* I/Os; those that ended are in stats */
	uint32_t stats_gen;    /* as the bdev's, without the bit */
	uint32_t refs;
	struct bdev_op_stats stats[BDEV_OPS];
	/* As it was at the last reset; the control reactor's. */
	struct bdev_stats base cache_aligned;
	struct qos_ch qos cache_aligned;
};

static inline void *
bdev_ch_priv(struct bdev_ch *ch)
{
	return ch + 1;
}

/* What the module keeps for each reactor. */
struct bdev_reactor {
	struct list engines;
	struct list *next; /* where a walk over engines goes on */
	struct reactor *reactor;
	struct aio_engine *aio;
	struct uring_engine *uring;
	bool hung; /* bdev_fini() found I/O in flight: not to be freed */
} cache_aligned;

struct bdev_reactor *bdev_reactor_self(void); /* NULL: no memory */
void bdev_engine_add(struct bdev_reactor *br, struct bdev_engine *e);
void bdev_engine_del(struct bdev_reactor *br, struct bdev_engine *e);
void bdev_channels_free(struct bdev *b);
/* At the end: I/O that did not come back keeps its reactor's part. */
void bdev_channels_hung(struct bdev *b);
void bdev_reactors_free(void);
void aio_engine_destroy(struct aio_engine *e);
void uring_engine_destroy(struct uring_engine *e);

/* After a change of caps, read_only or is_removing: which operations go on. */
void bdev_accept(struct bdev *b);
/* Why it cannot go to the backend now: -errno, or 0. */
int bdev_check(const struct bdev_io *io);
/* Ends an I/O: on its reactor, exactly once. @err: 0 or -errno. */
void bdev_complete(struct bdev_io *io, int err);

/* qos.c. First get and last put of a channel, on its reactor. */
void qos_ch_init(struct bdev_ch *ch);
void qos_ch_fini(struct bdev_ch *ch);
/* Before the device is marked: what waits must end. Control reactor. */
void qos_removing(struct bdev *b);

/* Writes the sentence, gives @err. @c may be NULL. */
int bdev_fail(struct bdev_ctl *c, int err, const char *fmt, ...)
	printf_like(3, 4);

/*
 * Fill the common part of a zeroed bdev: checks the name, the block length and
 * the count. @uuid NULL: a random one; @phys 0: the block length. caps and the
 * rest are the backend's to set. On error nothing is left to free.
 */
int bdev_setup(struct bdev *b, const struct bdev_ops *ops, const char *name,
	       const uuid_t *uuid, uint32_t block_len, uint64_t num_blocks,
	       uint32_t phys, struct bdev_ctl *c);
/* Frees what bdev_setup and the registry made, not @b. */
void bdev_cleanup(struct bdev *b);
/* Control reactor. -EEXIST: name or UUID taken. Sets c->bdev. */
int bdev_register(struct bdev *b, struct bdev_ctl *c);
/* Is there no device of this name, and none of this UUID? -EEXIST. */
int bdev_unique(const char *name, const uuid_t uuid, struct bdev_ctl *c);
/* An I/O that succeeded, on its reactor: histogram.c. */
void bdev_histogram_count(const struct bdev *b, unsigned reactor, unsigned op,
			  uint64_t ns);
/* It is registered, or is about to be freed: notice.c. */
void bdev_notice_add(const struct bdev *b, bool gone);
void bdev_notices_free(void);
/* Also by one that is still being deleted. */
bool bdev_name_taken(const char *name);
/* Control reactor: a new length in bytes; tells the users. */
void bdev_set_len(struct bdev *b, uint64_t len);
/* As bdev_delete, of a device that is at hand. */
int bdev_remove(struct bdev *b, struct bdev_ctl *c);
struct bdev *bdev_of(const struct bdev_desc *desc);
/* Is it of this backend? */
static inline bool
bdev_is(const struct bdev *b, const struct bdev_ops *ops)
{
	return b && b->ops == ops;
}
/* The listed bdev of that name, made by @ops; else NULL and the sentence. */
struct bdev *bdev_find_of(const char *name, const struct bdev_ops *ops,
			  struct bdev_ctl *c);
/* A caller's walk over an iovec array, for who copies. */
struct bdev_cursor {
	const struct iovec *iov;
	unsigned left;
	size_t pos;
};
/* The next piece, of at most @max bytes, and its length; NULL: the end. */
void *bdev_cursor_take(struct bdev_cursor *c, size_t max, size_t *len);
/* Copies up to @len bytes at the cursor from / to @buf; gives the count. */
size_t bdev_copy_out(struct bdev_cursor *c, void *buf, size_t len);
size_t bdev_copy_in(struct bdev_cursor *c, const void *buf, size_t len);

#endif
