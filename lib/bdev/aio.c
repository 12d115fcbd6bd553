/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aio: one io_context a reactor, for all aio devices there. Data path.
 * Not here: what an I/O asks of the kernel and what its result means (file_io.c).
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

#include "file.h"
#include "belfry/log.h"

#define DEPTH_MAX 4096
#define DEPTH_MIN 64
#define REAP_MAX 256
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

static struct aio_engine *
engine_of(struct bdev_engine *e)
{
	return container_of(e, struct aio_engine, q.e);
}

/* These will signal the eventfd. */
static void
arm(struct aio_engine *eng, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct iocb *cb = eng->q.list[i];

		io_set_eventfd(cb, eng->q.efd.fd);
		file_req_of(cb->data)->armed = true;
	}
}

static void
sent(struct aio_engine *eng, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		eng->unarmed += !file_req_of(eng->q.list[i]->data)->armed;
	file_queue_sent(&eng->q, n);
}

/* At most one io_submit that takes something. */
static int
aio_kick(struct bdev_engine *e)
{
	struct aio_engine *eng = engine_of(e);
	unsigned count;

	while ((count = file_queue_next(&eng->q))) {
		int n;

		if (eng->armed || eng->slow)
			arm(eng, count);
		n = io_submit(eng->ctx, count, eng->q.list);
		if (n > 0) {
			sent(eng, (unsigned)n);
			return n;
		}
		if (n == -EAGAIN || n == -EINTR || n == 0)
			break; /* kept: the next round tries again */
		/* a worker needs no memory of the kernel for it */
		file_queue_refused(&eng->q, n == -ENOMEM ? -EAGAIN : n);
	}
	return 0;
}

static void
event(struct aio_engine *eng, struct bdev_io *io, int64_t res)
{
	eng->unarmed -= !file_req_of(io)->armed;
	file_queue_done(&eng->q, io, res);
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
	struct aio_engine *eng = engine_of(e);
	struct aio_ring *ring = eng->ring;
	unsigned head, tail;
	uint64_t start = 0;
	int n = 0;

	if (!eng->q.inflight)
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
	struct aio_engine *eng = engine_of(e);
	struct aio_ring *ring = eng->ring;

	eng->armed = true;
	if (eng->q.queued || !list_empty(&eng->q.waiting))
		return 0;
	if (!eng->q.inflight)
		return REACTOR_SLEEP_FOREVER;
	if (ring &&
	    ring->head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
		return 0;
	return eng->unarmed || !ring ? UNARMED_NS : REACTOR_SLEEP_FOREVER;
}

static void
aio_wake(struct bdev_engine *e)
{
	engine_of(e)->armed = false;
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
	struct bdev_reactor *br = bdev_reactor_self();
	uint64_t max, left = room(&max);

	if ((br && br->aio) || left >= DEPTH_MIN)
		return 0;
	return bdev_fail(
		c, -EAGAIN,
		"fs.aio-max-nr is %" PRIu64 " and %" PRIu64
		" are left: raise it, e.g. sysctl fs.aio-max-nr=1048576",
		max, left);
}

/* Half of what is left, shared by all reactors: others want some too. */
static int
setup_context(struct aio_engine *eng, const struct bdev_reactor *br,
	      unsigned *out)
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
			depth, reactor_core(br->reactor), max, left);
	else if (err)
		log_error("aio: io_setup of %u: %s", depth,
			  strerrordesc_np(-err));
	*out = depth;
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
	unsigned depth;
	int err;

	eng->q.e = (struct bdev_engine){ .kick = aio_kick,
					 .reap = aio_reap,
					 .sleep = aio_sleep,
					 .wake = aio_wake };
	eng->slow_ns = reactor_spin() / 2;
	err = setup_context(eng, br, &depth);
	if (err)
		return err;
	find_ring(eng);
	return file_queue_init(&eng->q, br, depth);
}

struct file_queue *
aio_engine_get(int *err)
{
	struct bdev_reactor *br = bdev_reactor_self();
	struct aio_engine *eng;

	*err = -ENOMEM;
	if (!br || br->aio)
		return br ? &br->aio->q : NULL;
	eng = reactor_mem_alloc(br->reactor, sizeof(*eng));
	if (!eng)
		return NULL;
	*err = engine_setup(eng, br);
	if (*err) {
		aio_engine_destroy(eng);
		return NULL;
	}
	bdev_engine_add(br, &eng->q.e);
	br->aio = eng;
	return &eng->q;
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
	if (eng->ctx)
		io_destroy(eng->ctx);
	file_queue_fini(&eng->q);
	reactor_mem_free(eng, sizeof(*eng));
}
