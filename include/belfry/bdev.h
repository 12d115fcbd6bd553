/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: block devices. A registry by name, descriptors of who uses one, a channel per reactor, and the I/O.
 *
 * lib/nvme submits; lib/target creates and deletes over RPC. Backends (null, malloc, aio, uring, delay, error) sit behind struct bdev_ops.
 *
 * Thread: registry, descriptors, resize, delete: control reactor (0). Channels and I/O: the reactor
 * that got the channel. Statistics are read from anywhere (may be a moment old).
 * Lifetime: bdev > desc > channel > I/O; each must be gone before the one before it goes.
 */
#ifndef BELFRY_BDEV_H
#define BELFRY_BDEV_H

#include <sys/uio.h>
#include <uuid/uuid.h>

#include "belfry/reactor.h"

struct bdev;
struct bdev_desc;
struct bdev_ch;

enum bdev_op {
	BDEV_READ,
	BDEV_WRITE,
	BDEV_FLUSH, /* all that was completed before is on stable storage */
	BDEV_DISCARD, /* deallocate; reads give zeros afterwards if BDEV_CAP_DISCARD_ZEROES */
	BDEV_WRITE_ZEROES,
	BDEV_OPS,
};
extern const char *const bdev_op_names[BDEV_OPS];

#define BDEV_IO_FUA 1u	 /* WRITE, WRITE_ZEROES: on stable storage when done */
#define BDEV_IO_UNMAP 2u /* WRITE_ZEROES: may deallocate */
/* The bdev layer's, for bdev_cancel(): a stacked device has it; it waits for a limit. */
#define BDEV_IO_STACKED 64u
#define BDEV_IO_WAITS 128u

/*
 * One I/O; embedded by the submitter, who fills the first part and keeps it, the iov array and the memory until @done.
 * @done runs on the submitting reactor, perhaps inside bdev_submit(). @err: 0 or -errno
 * (-EIO medium, -ENOSPC, -EFAULT: the memory went away, -EROFS, -ENODEV: the device was removed, -ERANGE: it is shorter than that, -EAGAIN never).
 */
struct bdev_io {
	void (*done)(struct bdev_io *io);
	struct bdev_ch *ch;
	uint8_t op;
	uint8_t flags;
	uint16_t iovcnt;
	int err;
	uint64_t off; /* bytes; a multiple of the block length */
	uint64_t len; /* bytes; 0 only for FLUSH */
	struct iovec
		*iov; /* READ and WRITE; sum of lengths == len; at most 1024 */
	/*
	 * Optional, NULL without. @faulted: asked after data was copied out of the submitter's memory; true: the copy
	 * is made up (SIGBUS), the I/O ends with -EFAULT. Any thread. @flush_seen: the submitter's own mark of failed flushes,
	 * see bdev_flush_seq(); touched on this reactor only.
	 */
	bool (*faulted)(const struct bdev_io *io);
	uint32_t *flush_seen;
	/* the bdev layer's and the backend's */
	uint64_t start_ns;
	struct list node;
	uint64_t priv[16]; /* for the backend: an iocb, saved fields */
	struct bdev_io *parent;
};

#define BDEV_CAP_FLUSH 1u
#define BDEV_CAP_DISCARD 2u
#define BDEV_CAP_DISCARD_ZEROES 4u
#define BDEV_CAP_WRITE_ZEROES 8u

/* What a namespace needs to know; stable but for num_blocks (resize). */
struct bdev_info {
	const char *name;    /* the bdev's; good while a desc is open */
	const char *product; /* "AIO disk", ... */
	uint32_t block_len;  /* bytes: 512 or 4096 */
	uint32_t phys_block_len;
	uint64_t num_blocks;
	uuid_t uuid;
	uint32_t caps;
	bool read_only;
	bool write_cache;	      /* volatile: flush means something */
	uint32_t max_discard_blocks;  /* 0: no limit */
	uint32_t discard_granularity; /* bytes */
};

enum bdev_event { BDEV_EVENT_REMOVE, BDEV_EVENT_RESIZE };

/*
 * Open by name. @event runs on the control reactor; on REMOVE the user must stop, put its channels and close the desc
 * (soon; the delete waits for it). New I/O fails with -ENODEV from then on; what is with the backend ends as usual.
 * @name may also be the UUID. -ENODEV unknown or being removed; -EPERM @write, and claimed by another; -ENOMEM.
 * @write says what the user intends, for claims; I/O is not checked against it, since the channel is shared.
 */
int bdev_open(const char *name, bool write,
	      void (*event)(enum bdev_event ev, void *arg), void *arg,
	      struct bdev_desc **out);
void bdev_close(struct bdev_desc *desc);
/*
 * Exclusive writer: at most one claim a bdev (vbdevs take one on their base). -EPERM: taken, or another desc is open
 * for writing. Released by close. @who is copied.
 */
int bdev_claim(struct bdev_desc *desc, const char *who);
void bdev_get_info(const struct bdev_desc *desc, struct bdev_info *out);
/*
 * Failed flushes so far. A flush that fails (or a FUA write, with a medium error) may have lost data that any sharer
 * of the device wrote, and the kernel tells it once. So each sharer keeps a mark, starts it with this value and points its
 * I/Os' flush_seen at it: its next flush or FUA write after anybody's failure fails too, once. Without a mark
 * all later ones fail until the last desc was closed. Any thread.
 */
uint32_t bdev_flush_seq(const struct bdev_desc *desc);

/* The channel of this reactor; counted: the same pointer for the same bdev and reactor. NULL: no memory, or -errno logged. */
struct bdev_ch *bdev_get_ch(struct bdev_desc *desc);
/* No I/O of the caller may be in flight. */
void bdev_put_ch(struct bdev_ch *ch);

/* Submit; bounds (-ERANGE) and block alignment (-EINVAL) are checked. Never blocks; may queue until bdev_kick. */
void bdev_submit(struct bdev_io *io);
/*
 * If @io, submitted here or never, waits for a limit's time (bdev_set_limits()) or is held by a delay or error device,
 * of a stack in any depth, it ends with -ECANCELED, but not before bdev_kick() or bdev_reap(). False: it does not, and what
 * the device has goes on; above it nobody holds it any more.
 */
bool bdev_cancel(struct bdev_io *io);

/*
 * Once per round of this reactor, by whoever polls (nvme/poll.c): kick sends all that was queued (one io_submit),
 * reap completes what finished. Each gives the number of I/Os. Cheap when nothing is queued or in flight.
 */
int bdev_kick(void);
int bdev_reap(void);
/* The reactor is about to sleep / woke: completions shall (no longer) wake it. sleep gives the longest ns, 0: completions wait. */
uint64_t bdev_sleep(void);
void bdev_wake(void);
/* I/Os of this reactor that are with a backend. */
unsigned bdev_inflight(void);

/* ---- control: create, delete, list. Answers may come later, through @done on the control reactor. ---- */
struct bdev_ctl {
	void (*done)(struct bdev_ctl *c, int err);
	char error[256]; /* on failure: a sentence that names the value and the fix */
	struct bdev *bdev; /* create: the new device */
};

struct bdev_null_params {
	const char *name;
	uint32_t block_len;
	uint64_t num_blocks;
	const uuid_t *uuid;
	uint32_t phys_block_len;
};
struct bdev_malloc_params {
	const char *name;
	uint32_t block_len;
	uint64_t num_blocks;
	const uuid_t *uuid;
	uint32_t phys_block_len;
	int numa;
};
struct bdev_file_params {
	const char *name, *filename;
	uint32_t block_len; /* 0: the device's, or 512 */
	bool read_only, fallocate, nowait;
	const uuid_t *uuid;
};
struct bdev_delay_params {
	const char *name, *base;
	uint64_t avg_read_us, p99_read_us, avg_write_us, p99_write_us;
	const uuid_t *uuid;
};
struct bdev_error_params {
	const char *base;
	const uuid_t *uuid;
}; /* named EE_<base>, as SPDK does */
struct bdev_error_inject {
	bool read, write, flush, unmap;
	enum {
		BDEV_INJECT_FAILURE,
		BDEV_INJECT_PENDING,
		BDEV_INJECT_CORRUPT,
		BDEV_INJECT_NOMEM,
		BDEV_INJECT_CLEAR
	} type;
	uint32_t num;
	uint64_t corrupt_offset;
	uint8_t corrupt_value;
};

/* All: 0 done at once, -EINPROGRESS, or -errno with ctl->error: -EEXIST name taken, -ENODEV no base, -EINVAL, -ENOMEM, -errno of open. A NULL name of malloc: "Malloc<N>".
 * Strings and uuids are borrowed during the call. numa: -1 any node. Null, malloc, delay and error answer at once; aio and uring open their file on a worker.
 * Call them on the control reactor (or before reactors_run(), on its thread).
 * null: writes are discarded and reads leave the reader's memory as it is, so nothing of the host leaks; who reads into memory of its own must clear it first.
 * uring: -EPERM, -ENOSYS or -EOPNOTSUPP where there is no io_uring for us.
 * aio: fallocate and nowait are kept for the saved configuration; hole punching and RWF_NOWAIT are used wherever they work. */
int bdev_null_create(const struct bdev_null_params *p, struct bdev_ctl *c);
int bdev_malloc_create(const struct bdev_malloc_params *p, struct bdev_ctl *c);
int bdev_aio_create(const struct bdev_file_params *p, struct bdev_ctl *c);
int bdev_uring_create(const struct bdev_file_params *p, struct bdev_ctl *c);
int bdev_delay_create(const struct bdev_delay_params *p, struct bdev_ctl *c);
int bdev_error_create(const struct bdev_error_params *p, struct bdev_ctl *c);
int bdev_error_inject(const char *name, const struct bdev_error_inject *inj,
		      struct bdev_ctl *c);
int bdev_aio_rescan(const char *name, struct bdev_ctl *c);
int bdev_uring_rescan(const char *name, struct bdev_ctl *c);
int bdev_null_resize(const char *name, uint64_t new_mib, struct bdev_ctl *c);
/*
 * Limits of a device, over all its channels together; 0: none. They hold over any second to within half a percent and an I/O. Reads
 * and writes count as an I/O and with their bytes, discard and zeroing as an I/O and no bytes, a flush as nothing. What must wait does so in
 * its channel, reads and writes apart, in order; it is in flight. Takes effect on all reactors before the answer; what need not
 * wait any more goes at once. -ENODEV, -EINVAL: above BDEV_LIMIT_MAX, -ENOMEM, or -EINPROGRESS as above.
 */
enum bdev_limit {
	BDEV_RW_IOS,
	BDEV_RW_MBYTES, /* MiB/s, as the next */
	BDEV_R_MBYTES,
	BDEV_W_MBYTES,
	BDEV_LIMITS
};
#define BDEV_LIMIT_MAX 1000000000ull
extern const char *const bdev_limit_names[BDEV_LIMITS]; /* as SPDK has them */
int bdev_set_limits(const char *name, const uint64_t limits[BDEV_LIMITS],
		    struct bdev_ctl *c);
void bdev_get_limits(const struct bdev *b, uint64_t out[BDEV_LIMITS]);
/* Hot-removes it from its users (REMOVE event), waits for them, frees. @module: "aio", "null", ... must match, NULL any. -ENODEV. */
int bdev_delete(const char *name, const char *module, struct bdev_ctl *c);

/* A device that is being deleted is not listed and not found. */
struct bdev *bdev_first(void); /* in order of creation; control reactor */
struct bdev *bdev_next(struct bdev *b);
struct bdev *bdev_find(const char *name); /* or its UUID */
void bdev_info_of(const struct bdev *b, struct bdev_info *out);
const char *bdev_module(const struct bdev *b);	   /* "aio", ... */
const char *bdev_claimed_by(const struct bdev *b); /* NULL: not claimed */
unsigned bdev_open_count(const struct bdev *b);
/* What made it, for save_config and driver_specific: NULL unless of that module. Good while the bdev is. */
const struct bdev_file_params *bdev_aio_params_of(const struct bdev *b);
const struct bdev_file_params *bdev_uring_params_of(const struct bdev *b);
const struct bdev_null_params *bdev_null_params_of(const struct bdev *b);
const struct bdev_malloc_params *bdev_malloc_params_of(const struct bdev *b);
const struct bdev_delay_params *bdev_delay_params_of(const struct bdev *b);
const struct bdev_error_params *bdev_error_params_of(const struct bdev *b);

struct bdev_stats {
	uint64_t ops[BDEV_OPS], bytes[BDEV_OPS], errors[BDEV_OPS];
	uint64_t latency_ns[BDEV_OPS], min_ns[BDEV_OPS], max_ns[BDEV_OPS];
	uint64_t inflight;
};
/* Of one reactor's channel. -ENOENT: it never had one. Control reactor. */
int bdev_get_ch_stats(const struct bdev *b, unsigned reactor,
		      struct bdev_stats *out);
/* Counts of ops, bytes and latency are of I/Os that succeeded; min_ns is 0 when there was none. */
/* Sum over all channels since creation or reset. Control reactor. */
void bdev_get_stats(const struct bdev *b, struct bdev_stats *out);
enum bdev_stats_reset {
	BDEV_RESET_ALL,
	BDEV_RESET_MAXMIN,
	BDEV_RESET_ERROR,
	BDEV_RESET_NONE
};
void bdev_reset_stats(struct bdev *b, enum bdev_stats_reset mode);

/*
 * A histogram of how long the I/Os took that succeeded, in nanoseconds of their reactor's clock. Range 0 has the values below
 * 2^granularity, one to a bucket; range r the next power of two, from 2^(granularity + r - 1) on, 2^granularity buckets of
 * 2^(r - 1) values each. There are the ranges of min_ns to max_ns - 1; what is below counts in the first bucket, what is
 * above in the last. Control reactor.
 */
#define BDEV_HISTOGRAM_GRANULARITY_MAX 10
struct bdev_histogram_params {
	uint8_t granularity;
	uint8_t ops; /* a bit for each enum bdev_op to count */
	uint64_t min_ns, max_ns;
};
struct bdev_histogram_shape {
	unsigned granularity, min_range, max_range;
	size_t buckets;
};
struct bdev_histogram;
/* -EINVAL: granularity above the maximum, or min_ns not below max_ns; -ENOMEM. */
int bdev_histogram_create(const struct bdev_histogram_params *p,
			  struct bdev_histogram **out);
/* Once no reactor can be counting in it: after swap, and then a message through each of them. */
void bdev_histogram_free(struct bdev_histogram *h);
/* Give @b this one (its owner now), NULL: none. Gives the one it had, for the caller to free. */
struct bdev_histogram *bdev_histogram_swap(struct bdev *b,
					   struct bdev_histogram *h);
/* NULL: it has none. */
const struct bdev_histogram_shape *bdev_histogram_shape(const struct bdev *b);
/* The count of a bucket, over all reactors. It has one. */
uint64_t bdev_histogram_read(const struct bdev *b, size_t bucket);

/*
 * Devices that came and went, numbered from 0; the last BDEV_NOTICES are kept. The first one from @id on; false: there is
 * none yet. The name is good until the control reactor returns to its loop; "" if there was no memory for it.
 */
#define BDEV_NOTICES 1024
struct bdev_notice {
	uint64_t id;
	bool gone; /* it came otherwise */
	const char *name;
};
bool bdev_notice_from(uint64_t id, struct bdev_notice *out);

/*
 * Start-up and shutdown, control reactor. fini: after the reactors have stopped; frees all devices, newest first; one
 * that still has I/O in flight or users is named in the log and left alone (the kernel may still write to its memory).
 */
int bdev_init(void);
void bdev_fini(void);

#endif
