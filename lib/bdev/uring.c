/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring: one io_uring a reactor, for all uring devices there. Data path.
 * Not here: what an I/O asks of the kernel and what its result means (file_io.c).
 *
 * Completions. A disk's interrupt leaves its completion as work to do for our
 * thread, and a bit in the ring that says so (DEFER_TASKRUN). One call does all that has come
 * up, and it is the one that submits, if there is something to submit. Older
 * kernels do the work at any system call (COOP_TASKRUN), or interrupt the thread for it.
 *
 * Sleep. The ring has an eventfd, and a bit by which we say whether to signal it: all
 * I/Os wake a sleeper, whenever they were submitted, and none costs anything else.
 */
#include <liburing.h>
#include <string.h>

#include "belfry/log.h"
#include "file.h"

#define DEPTH 4096 /* completions have room for as many */
#define SQ_LEN 256 /* go with one call */
#define REAP_MAX 256
#define NEEDED (IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_NATIVE_WORKERS)

struct uring_engine {
	struct file_queue q;
	struct io_uring ring;
	bool has_ring;
	bool complained;
};

static struct uring_engine *
engine_of(struct bdev_engine *e)
{
	return container_of(e, struct uring_engine, q.e);
}

/* A READ or WRITE; a flush blocks and goes to a worker: file_bdev.strict. */
static void
fill(struct io_uring_sqe *sqe, const struct iocb *cb)
{
	const struct iovec *iov = cb->u.c.buf;
	unsigned cnt = (unsigned)cb->u.c.nbytes;
	uint64_t off = (uint64_t)cb->u.c.offset;
	int fd = cb->aio_fildes;

	/* One piece goes without a copy of the vector. */
	if (cb->aio_lio_opcode == IO_CMD_PREADV && cnt == 1)
		io_uring_prep_read(sqe, fd, iov->iov_base,
				   (unsigned)iov->iov_len, off);
	else if (cb->aio_lio_opcode == IO_CMD_PREADV)
		io_uring_prep_readv(sqe, fd, iov, cnt, off);
	else if (cnt == 1)
		io_uring_prep_write(sqe, fd, iov->iov_base,
				    (unsigned)iov->iov_len, off);
	else
		io_uring_prep_writev(sqe, fd, iov, cnt, off);
	sqe->rw_flags = cb->aio_rw_flags;
	io_uring_sqe_set_data(sqe, cb->data);
}

/*
 * Gives how many of the @n entries the kernel took, or -errno: none. What it did
 * not take is drawn back out of the ring, for before the next try the client may
 * have cut off the memory, and file_queue_next() looks for that.
 */
static int
submit(struct uring_engine *eng, unsigned n)
{
	struct io_uring_sq *sq = &eng->ring.sq;
	int err = io_uring_submit(&eng->ring);
	unsigned head = *sq->khead; /* moves in that call only: no SQPOLL */

	n -= sq->sqe_tail - head;
	sq->sqe_head = sq->sqe_tail = *sq->ktail = head;
	return n || err >= 0 ? (int)n : err;
}

/* The ring is of no use, or there is no memory: a worker does it by itself. */
static void
do_without(struct uring_engine *eng, int err)
{
	if (!eng->complained)
		log_error(
			"uring: io_uring_enter on core %u: %s: worker threads do what it does not take",
			reactor_core(eng->q.br->reactor),
			strerrordesc_np(-err));
	eng->complained = true;
	file_queue_refused(&eng->q, -EAGAIN);
}

/* At most one call that takes something. */
static int
uring_kick(struct bdev_engine *e)
{
	struct uring_engine *eng = engine_of(e);
	unsigned count;

	while ((count = file_queue_next(&eng->q))) {
		struct io_uring_sqe *sqe;
		unsigned n = 0;
		int err;

		while (n < count && (sqe = io_uring_get_sqe(&eng->ring)))
			fill(sqe, eng->q.list[n++]);
		err = submit(eng, n);
		if (err > 0) {
			file_queue_sent(&eng->q, (unsigned)err);
			return err;
		}
		if (err == 0 || err == -EAGAIN || err == -EBUSY ||
		    err == -EINTR)
			break; /* kept: the next round tries again */
		do_without(eng, err);
	}
	return 0;
}

static int
reap_ring(struct uring_engine *eng)
{
	struct io_uring_cq *cq = &eng->ring.cq;
	unsigned head = *cq->khead;
	/* pairs with the kernel's release after it has written the entries */
	unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
	int n;

	for (n = 0; head != tail && n < REAP_MAX; n++) {
		struct io_uring_cqe *cqe = &cq->cqes[head++ & cq->ring_mask];

		file_queue_done(&eng->q, io_uring_cqe_get_data(cqe), cqe->res);
	}
	if (n) /* the entries are read: the kernel may use their room */
		__atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
	return n;
}

/* Does the kernel wait for a call of ours to complete something? */
static bool
wants_call(const struct uring_engine *eng)
{
	return __atomic_load_n(eng->ring.sq.kflags, __ATOMIC_RELAXED) &
	       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static int
uring_reap(struct bdev_engine *e)
{
	struct uring_engine *eng = engine_of(e);
	int n;

	if (!eng->q.inflight)
		return 0;
	n = reap_ring(eng);
	if (n || !wants_call(eng))
		return n;
	io_uring_get_events(&eng->ring);
	return reap_ring(eng);
}

static uint64_t
uring_sleep(struct bdev_engine *e)
{
	struct uring_engine *eng = engine_of(e);

	if (eng->q.queued || !list_empty(&eng->q.waiting))
		return 0;
	if (!eng->q.inflight)
		return REACTOR_SLEEP_FOREVER;
	io_uring_cq_eventfd_toggle(&eng->ring, true);
	/* The bit, then the look: the kernel does both the other way round. */
	__sync_synchronize(); /* -Wtsan knows no other */
	return wants_call(eng) || io_uring_cq_ready(&eng->ring)
		       ? 0
		       : REACTOR_SLEEP_FOREVER;
}

static void
uring_wake(struct bdev_engine *e)
{
	io_uring_cq_eventfd_toggle(&engine_of(e)->ring, false);
}

/* ---- making one ---- */

static int
why_not(struct bdev_ctl *c, int err)
{
	static const char *const other = "use bdev_aio_create instead";

	if (err == -EPERM || err == -EACCES)
		return bdev_fail(
			c, err,
			"io_uring is not allowed (sysctl kernel.io_uring_disabled, or the seccomp filter of a container): allow it, or %s",
			other);
	if (err == -ENOSYS)
		return bdev_fail(c, err, "this kernel has no io_uring: %s",
				 other);
	if (err == -EOPNOTSUPP)
		return bdev_fail(c, err,
				 "io_uring needs Linux 5.12 or later here: %s",
				 other);
	return bdev_fail(c, err, "io_uring: %s", other);
}

/* The best that the kernel has; an older one answers -EINVAL to the others. */
static int
setup_ring(struct io_uring *ring, unsigned sq_len, unsigned cq_len)
{
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG, /* 6.1 */
		IORING_SETUP_COOP_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG, /* 5.19 */
		0,
	};
	int err = -EINVAL;

	for (unsigned i = 0; i < ARRAY_SIZE(modes) && err == -EINVAL; i++) {
		struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE |
						      modes[i],
					     .cq_entries = cq_len };

		err = io_uring_queue_init_params(sq_len, ring, &p);
	}
	if (err || (ring->features & NEEDED) == NEEDED)
		return err;
	io_uring_queue_exit(ring);
	return -EOPNOTSUPP;
}

int
uring_engine_room(struct bdev_ctl *c)
{
	struct bdev_reactor *br = bdev_reactor_self();
	struct io_uring ring;
	int err;

	if (br && br->uring)
		return 0;
	err = setup_ring(&ring, 1, 2);
	if (err)
		return why_not(c, err);
	io_uring_queue_exit(&ring);
	return 0;
}

static int
engine_setup(struct uring_engine *eng, struct bdev_reactor *br)
{
	int err;

	eng->q.e = (struct bdev_engine){ .kick = uring_kick,
					 .reap = uring_reap,
					 .sleep = uring_sleep,
					 .wake = uring_wake };
	err = file_queue_init(&eng->q, br, DEPTH);
	if (err)
		return err;
	err = setup_ring(&eng->ring, SQ_LEN, DEPTH);
	if (err)
		return err;
	eng->has_ring = true;
	err = io_uring_register_eventfd(&eng->ring, eng->q.efd.fd);
	if (!err)
		err = io_uring_cq_eventfd_toggle(&eng->ring, false);
	return err;
}

struct file_queue *
uring_engine_get(int *err)
{
	struct bdev_reactor *br = bdev_reactor_self();
	struct uring_engine *eng;

	*err = -ENOMEM;
	if (!br || br->uring)
		return br ? &br->uring->q : NULL;
	eng = reactor_mem_alloc(br->reactor, sizeof(*eng));
	if (!eng)
		return NULL;
	*err = engine_setup(eng, br);
	if (*err) {
		uring_engine_destroy(eng);
		return NULL;
	}
	bdev_engine_add(br, &eng->q.e);
	br->uring = eng;
	return &eng->q;
}

/* Kept until the end, as that of aio is. */
void
uring_engine_destroy(struct uring_engine *eng)
{
	if (!eng)
		return;
	if (eng->has_ring)
		io_uring_queue_exit(&eng->ring);
	file_queue_fini(&eng->q);
	reactor_mem_free(eng, sizeof(*eng));
}
