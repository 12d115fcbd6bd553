/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aio: one io_context a reactor, for all aio devices there. Data path.
 * Not here: what an I/O asks of the kernel and what its result means (aio_io.c).
 *
 * Sleep. Completions wake a sleeper through an eventfd, which costs the kernel
 * something for each, so an I/O is given it at submission only when the reactor
 * announced its sleep or when the last completions took so long that it
 * will. I/Os that went before the announcement signal nobody: as long as
 * there are any, the sleep is short.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio.h"
#include "belfry/log.h"

#define DEPTH_MAX 4096
#define DEPTH_MIN 64
#define REAP_MAX 256
#define DISK_BUSY 64	  /* I/Os: a disk that has so many is not idle soon */
#define UNARMED_NS 100000 /* longest sleep while some will not wake it */

#define RING_MAGIC 0xa10a10a1u

struct aio_ring {
	unsigned id;
	unsigned nr;
	unsigned head; /* ours */
	unsigned tail; /* the kernel's */
	unsigned magic;
	unsigned compat_features;
	unsigned incompat_features;
	unsigned header_length;
	struct io_event events[];
};

/*
 * May one more of @ch go to the kernel? A disk may have as many there as are
 * still free, not all of them: so it takes many disks that hang (12 of 4096) until
 * another one finds no room.
 */
static bool
has_room(const struct aio_engine *eng, const struct aio_ch *ch)
{
	return ch->used + eng->queued + eng->inflight < eng->depth;
}

static void
queue(struct aio_engine *eng, struct aio_ch *ch, struct bdev_io *io)
{
	ch->used++;
	eng->queue[eng->queued++] = &aio_req_of(io)->cb;
}

void
aio_enqueue(struct aio_engine *eng, struct bdev_io *io)
{
	struct aio_req *r = aio_req_of(io);
	struct aio_ch *ch = aio_ch_of(io);

	r->armed = eng->armed || eng->slow;
	if (r->armed)
		io_set_eventfd(&r->cb, eng->efd.fd);
	r->cb.data = io;
	if (likely(has_room(eng, ch) && list_empty(&ch->waiting))) {
		queue(eng, ch, io);
		return;
	}
	list_push_back(&ch->waiting, &io->node);
	if (list_empty(&ch->node))
		list_push_back(&eng->waiting, &ch->node);
}

/* One of each disk that has some waiting and room, in turn; false: none went. */
static bool
refill_turn(struct aio_engine *eng)
{
	struct aio_ch *ch, *tmp;
	bool any = false;

	list_for_each_safe(ch, tmp, &eng->waiting, node) {
		struct bdev_io *io =
			list_first(&ch->waiting, struct bdev_io, node);

		if (!has_room(eng, ch))
			continue;
		list_remove(&io->node);
		queue(eng, ch, io);
		any = true;
		if (list_empty(&ch->waiting))
			list_remove(&ch->node);
	}
	return any;
}

static void
refill(struct aio_engine *eng)
{
	while (refill_turn(eng))
		;
	/* Not always the same disks shall come first. */
	if (!list_empty(&eng->waiting)) {
		struct aio_ch *ch =
			list_first(&eng->waiting, struct aio_ch, node);

		list_remove(&ch->node);
		list_push_back(&eng->waiting, &ch->node);
	}
}

/* The first @n of the queue have left it. */
static void
shift_queue(struct aio_engine *eng, unsigned n)
{
	eng->queued -= n;
	if (eng->queued)
		memmove(eng->queue, eng->queue + n,
			eng->queued * sizeof(*eng->queue));
}

static bool
is_made_up(const struct bdev_io *io)
{
	return io->op == BDEV_WRITE && io->faulted && io->faulted(io);
}

/*
 * A client may have truncated its memory since the write was queued: what would
 * be written are zeros that we put there. Until the kernel has it, it can be stopped.
 * Looks at the first @count; gives how many of them are left.
 */
static unsigned
drop_made_up(struct aio_engine *eng, unsigned count)
{
	unsigned n = 0;
	struct list bad;

	list_init(&bad);
	for (unsigned i = 0; i < count; i++) {
		struct bdev_io *io = eng->queue[i]->data;

		if (unlikely(is_made_up(io))) {
			aio_ch_of(io)->used--;
			list_push_back(&bad, &io->node);
		} else {
			eng->queue[n++] = eng->queue[i];
		}
	}
	if (likely(n == count))
		return n;
	eng->queued -= count - n;
	memmove(eng->queue + n, eng->queue + count,
		(eng->queued - n) * sizeof(*eng->queue));
	while (!list_empty(&bad)) {
		struct bdev_io *io = list_first(&bad, struct bdev_io, node);

		list_remove(&io->node);
		aio_result(io, -EFAULT);
	}
	return n;
}

/*
 * How many go with this round. The kernel holds a list back until it has gone
 * through all of it, about 3 us for each. A disk with less to do than that
 * runs dry, finishes what it gets in one go, and the next list is as long again: 32
 * writes went to and fro in two halves, at 0.74 of the rate. Then they go one a round,
 * and the disk works on the first while we prepare the second.
 */
static unsigned
batch(const struct aio_engine *eng)
{
	bool busy = eng->inflight >= DISK_BUSY ||
		    eng->queued <= eng->inflight / 4;

	return busy ? eng->queued : 1;
}

static void
sent(struct aio_engine *eng, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct bdev_io *io = eng->queue[i]->data;

		eng->unarmed += !aio_req_of(io)->armed;
	}
	eng->inflight += n;
	shift_queue(eng, n);
}

/* The kernel did not take the first one. */
static void
refused(struct aio_engine *eng, int err)
{
	struct bdev_io *io = eng->queue[0]->data;

	aio_ch_of(io)->used--;
	shift_queue(eng, 1);
	aio_result(io, err);
}

/* At most one io_submit that takes something. */
static int
aio_kick(struct bdev_engine *e)
{
	struct aio_engine *eng = container_of(e, struct aio_engine, e);

	if (unlikely(!list_empty(&eng->waiting)))
		refill(eng);
	while (eng->queued) {
		unsigned count = drop_made_up(eng, batch(eng));
		int n;

		if (unlikely(!count))
			continue;
		n = io_submit(eng->ctx, count, eng->queue);
		if (n > 0) {
			sent(eng, (unsigned)n);
			return n;
		}
		if (n == -EAGAIN || n == -EINTR || n == 0)
			break; /* kept: the next round tries again */
		refused(eng, n);
	}
	return 0;
}

static void
event(struct aio_engine *eng, struct bdev_io *io, int64_t res)
{
	eng->inflight--;
	eng->unarmed -= !aio_req_of(io)->armed;
	aio_ch_of(io)->used--;
	aio_result(io, res);
}

static int
reap_call(struct aio_engine *eng)
{
	struct timespec zero = { 0 };
	struct io_event ev[64];
	int n = io_getevents(eng->ctx, 0, ARRAY_SIZE(ev), ev, &zero);

	for (int i = 0; i < n; i++)
		event(eng, ev[i].data, (int64_t)ev[i].res);
	return MAX(n, 0);
}

static int
aio_reap(struct bdev_engine *e)
{
	struct aio_engine *eng = container_of(e, struct aio_engine, e);
	struct aio_ring *ring = eng->ring;
	unsigned head, tail;
	uint64_t start = 0;
	int n = 0;

	if (!eng->inflight)
		return 0;
	if (unlikely(!ring))
		return reap_call(eng);
	head = ring->head;
	/* pairs with the kernel's barrier after it has written the events */
	tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	while (head != tail && n < REAP_MAX) {
		struct io_event *ev = &ring->events[head];
		struct bdev_io *io = ev->data;

		start = io->start_ns;
		if (++head == ring->nr)
			head = 0;
		event(eng, io, (int64_t)ev->res);
		n++;
	}
	if (n) {
		/* the events are read: the kernel may use their room */
		__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
		eng->slow = reactor_now() - start > eng->slow_ns;
	}
	return n;
}

static uint64_t
aio_sleep(struct bdev_engine *e)
{
	struct aio_engine *eng = container_of(e, struct aio_engine, e);
	struct aio_ring *ring = eng->ring;

	eng->armed = true;
	if (eng->queued || !list_empty(&eng->waiting))
		return 0;
	if (!eng->inflight)
		return REACTOR_SLEEP_FOREVER;
	if (ring &&
	    ring->head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
		return 0;
	return eng->unarmed || !ring ? UNARMED_NS : REACTOR_SLEEP_FOREVER;
}

static void
aio_wake(struct bdev_engine *e)
{
	container_of(e, struct aio_engine, e)->armed = false;
}

/* Only to wake the reactor: the poller reaps. */
static void
efd_ready(struct reactor_fd *f, uint32_t events)
{
	uint64_t n;

	if (read(f->fd, &n, sizeof(n)) != sizeof(n) && errno != EAGAIN)
		log_error("aio: reading an eventfd: %s",
			  strerrordesc_np(errno));
}

/* ---- making one ---- */

static uint64_t
proc_number(const char *path)
{
	FILE *f = fopen(path, "re");
	uint64_t n = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%" SCNu64, &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

static uint64_t
room(uint64_t *max)
{
	uint64_t used = proc_number("/proc/sys/fs/aio-nr");

	*max = proc_number("/proc/sys/fs/aio-max-nr");
	return *max > used ? *max - used : 0;
}

int
aio_engine_room(struct bdev_ctl *c)
{
	uint64_t max, left = room(&max);

	if (left >= DEPTH_MIN)
		return 0;
	return bdev_fail(
		c, -EAGAIN,
		"fs.aio-max-nr is %" PRIu64 " and %" PRIu64
		" are left: raise it, e.g. sysctl fs.aio-max-nr=1048576",
		max, left);
}

/* Half of what is left, shared by all reactors: others want some too. */
static int
setup_context(struct aio_engine *eng)
{
	uint64_t max, left = room(&max);
	uint64_t share = left / 2 / reactor_count();
	unsigned depth = DEPTH_MAX;
	int err;

	while (depth > DEPTH_MIN && depth > share)
		depth /= 2;
	while ((err = io_setup((int)depth, &eng->ctx)) == -EAGAIN &&
	       depth > DEPTH_MIN)
		depth /= 2;
	if (err == -EAGAIN)
		log_error(
			"aio: no room for %u I/Os on core %u: fs.aio-max-nr is %" PRIu64
			", %" PRIu64 " are left: raise it",
			depth, reactor_core(eng->br->reactor), max, left);
	else if (err)
		log_error("aio: io_setup of %u: %s", depth,
			  strerrordesc_np(-err));
	eng->depth = depth;
	return err;
}

static void
find_ring(struct aio_engine *eng)
{
	struct aio_ring *ring = (struct aio_ring *)eng->ctx;

	if (ring->magic == RING_MAGIC && !ring->incompat_features &&
	    ring->header_length == sizeof(*ring))
		eng->ring = ring;
	else
		log_notice("aio: unknown completion ring, using io_getevents");
}

static int
engine_setup(struct aio_engine *eng, struct bdev_reactor *br)
{
	int err;

	eng->br = br;
	eng->efd = (struct reactor_fd){ .fd = -1,
					.events = EPOLLIN,
					.ready = efd_ready };
	eng->e = (struct bdev_engine){ .kick = aio_kick,
				       .reap = aio_reap,
				       .sleep = aio_sleep,
				       .wake = aio_wake };
	list_init(&eng->waiting);
	eng->slow_ns = reactor_spin() / 2;
	bounce_init(&eng->bounce, br->reactor);
	err = setup_context(eng);
	if (err)
		return err;
	find_ring(eng);
	eng->queue = reactor_mem_alloc(br->reactor,
				       eng->depth * sizeof(*eng->queue));
	if (!eng->queue)
		return -ENOMEM;
	eng->efd.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (eng->efd.fd < 0)
		return -errno;
	return reactor_fd_add(br->reactor, &eng->efd);
}

struct aio_engine *
aio_engine_get(int *err)
{
	struct bdev_reactor *br = bdev_reactor_self();
	struct aio_engine *eng;

	*err = -ENOMEM;
	if (!br || br->aio)
		return br ? br->aio : NULL;
	eng = reactor_mem_alloc(br->reactor, sizeof(*eng));
	if (!eng)
		return NULL;
	*err = engine_setup(eng, br);
	if (*err) {
		aio_engine_destroy(eng);
		return NULL;
	}
	bdev_engine_add(br, &eng->e);
	br->aio = eng;
	return eng;
}

/*
 * Kept until the end, since io_destroy waits for a grace period of the
 * kernel, and that would be tens of milliseconds of other devices' I/O.
 */
void
aio_engine_destroy(struct aio_engine *eng)
{
	if (!eng)
		return;
	if (eng->efd.reactor)
		reactor_fd_del(&eng->efd);
	if (eng->efd.fd >= 0)
		close(eng->efd.fd);
	if (eng->ctx)
		io_destroy(eng->ctx);
	if (eng->queue)
		reactor_mem_free(eng->queue, eng->depth * sizeof(*eng->queue));
	bounce_fini(&eng->bounce);
	reactor_mem_free(eng, sizeof(*eng));
}
