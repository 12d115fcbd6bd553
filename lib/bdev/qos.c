/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: limits of a device's rate, shared by all its channels.
 *
 * Each limit has a time up to which it is spent. An I/O takes its cost, in ns
 * at that rate, from there on and may go when the clock is where its piece
 * began; so a large one goes at once and those after it pay. Only the first of
 * a queue has its piece: what waits deep in one channel takes nothing from the
 * others, and a new limit need only ask for the first ones anew.
 *
 * Costs nothing without limits: a channel's submit is the backend's then.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "internal.h"

#define SECOND 1000000000ull
/*
 * How far the spent time may stay behind the clock: what a device may do at
 * once after a rest, and how late a reactor may be without loss.
 */
#define BURST_NS 5000000ull
/* What a kick lets go of a queue: many wait when a limit is lifted, and some disks copy at once. */
#define KICK_BYTES (1u << 20)
#define KICK_IO_LEAST (KICK_BYTES / 64) /* an I/O counts as so much */

struct qos {
	/* Control writes, any reactor reads. */
	uint64_t rate[BDEV_LIMITS]; /* as set */
	/* Any reactor writes. */
	uint64_t spent[BDEV_LIMITS] cache_aligned;
};

#define GET(var) __atomic_load_n(&(var), __ATOMIC_RELAXED)
#define SET(var, to) __atomic_store_n(&(var), (to), __ATOMIC_RELAXED)

static bool
limited(const struct bdev *b)
{
	/* pairs with the release in bdev_set_limits() */
	const struct qos *q = __atomic_load_n(&b->qos, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; q && i < BDEV_LIMITS; i++)
		if (GET(q->rate[i]))
			return true;
	return false;
}

/* ---- time ---- */

/* What it costs of a limit: I/Os or bytes; 0: nothing. */
static uint64_t
cost(const struct bdev_io *io, enum bdev_limit limit)
{
	switch (limit) {
	case BDEV_RW_IOS:
		return io->op != BDEV_FLUSH;
	case BDEV_RW_MBYTES:
		return io->op <= BDEV_WRITE ? io->len : 0;
	case BDEV_R_MBYTES:
		return io->op == BDEV_READ ? io->len : 0;
	default:
		return io->op == BDEV_WRITE ? io->len : 0;
	}
}

static uint64_t
cost_ns(uint64_t n, enum bdev_limit limit, uint64_t rate)
{
	unsigned __int128 ns = (unsigned __int128)n * SECOND;
	uint64_t a_second = limit == BDEV_RW_IOS ? rate : rate << 20;

	return (uint64_t)((ns + a_second - 1) / a_second);
}

/* When an I/O that costs @n may go. */
static uint64_t
spend(struct qos *q, enum bdev_limit limit, uint64_t n, uint64_t now)
{
	/* Acquire: a rate is not older than the time that came after it. */
	uint64_t spent = __atomic_load_n(&q->spent[limit], __ATOMIC_ACQUIRE);
	uint64_t start, rate;

	do {
		rate = GET(q->rate[limit]);
		if (!rate)
			return 0;
		start = MAX(spent, now - MIN(now, BURST_NS));
	} while (!__atomic_compare_exchange_n(
		&q->spent[limit], &spent, start + cost_ns(n, limit, rate),
		false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return start;
}

static uint64_t
due_of(const struct bdev_io *io, uint64_t now)
{
	struct qos *q = io->ch->bdev->qos;
	uint64_t due = 1, n, start; /* 0 means: not asked */

	for (unsigned i = 0; i < BDEV_LIMITS; i++) {
		n = cost(io, i);
		start = n ? spend(q, i, n, now) : 0;
		due = MAX(due, start);
	}
	return due;
}

/* ---- a channel ---- */

static void
qos_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	struct qos_queue *w = io->op == BDEV_READ ? &ch->qos.reads
						  : &ch->qos.writes;
	uint64_t due;

	if (io->op == BDEV_FLUSH) {
		ch->bdev->ops->submit(ch, io);
		return;
	}
	if (list_empty(&w->waiting)) {
		due = due_of(io, *ch->clock);
		if (due <= *ch->clock) {
			ch->bdev->ops->submit(ch, io);
			return;
		}
		w->due = due;
	}
	io->flags |= BDEV_IO_WAITS;
	list_push_back(&w->waiting, &io->node);
}

/* What it took of a limit stays taken, or cancelling would be a way around it. */
bool
bdev_cancel(struct bdev_io *io)
{
	struct qos_ch *q;
	struct qos_queue *w;

	if (io->flags & BDEV_IO_STACKED)
		return io->ch->bdev->ops->cancel(io->ch, io);
	if (!(io->flags & BDEV_IO_WAITS))
		return false;
	q = &io->ch->qos;
	w = io->op == BDEV_READ ? &q->reads : &q->writes;
	if (list_first(&w->waiting, struct bdev_io, node) == io)
		w->due = 0;
	io->flags &= (uint8_t)~BDEV_IO_WAITS;
	list_remove(&io->node);
	list_push_back(&q->cancelled, &io->node);
	return true;
}

/* Moves those whose time has come to @ready; whichever, if @any. */
static void
take_ready(struct qos_queue *w, struct list *ready, uint64_t now, bool any)
{
	int64_t left = KICK_BYTES;
	struct bdev_io *io;

	while (left > 0 &&
	       (io = list_first(&w->waiting, struct bdev_io, node))) {
		if (!any && !w->due)
			w->due = due_of(io, now);
		if (!any && w->due > now)
			return;
		w->due = 0;
		left -= (int64_t)MAX(MIN(io->len, KICK_BYTES), KICK_IO_LEAST);
		io->flags &= (uint8_t)~BDEV_IO_WAITS;
		list_remove(&io->node);
		list_push_back(ready, &io->node);
	}
}

static void
deactivate(struct bdev_ch *ch)
{
	if (!ch->qos.active)
		return;
	ch->qos.active = false;
	ch->submit = ch->bdev->ops->submit;
	bdev_engine_del(ch->br, &ch->qos.engine);
}

static int
qos_kick(struct bdev_engine *e)
{
	struct bdev_ch *ch = container_of(e, struct bdev_ch, qos.engine);
	bool any = !limited(ch->bdev);
	struct list ready = LIST_INIT(ready), ended = LIST_INIT(ended);
	struct bdev_io *io;
	int n = 0, err;

	list_splice(&ended, &ch->qos.cancelled);
	take_ready(&ch->qos.reads, &ready, *ch->clock, any);
	take_ready(&ch->qos.writes, &ready, *ch->clock, any);
	if (any && list_empty(&ch->qos.reads.waiting) &&
	    list_empty(&ch->qos.writes.waiting))
		deactivate(ch);
	/* The last one may end the channel: only the local lists from here. */
	while ((io = list_first(&ended, struct bdev_io, node))) {
		list_remove(&io->node);
		bdev_complete(io, -ECANCELED);
		n++;
	}
	while ((io = list_first(&ready, struct bdev_io, node))) {
		list_remove(&io->node);
		/* The device may have gone or shrunk in the meantime. */
		err = bdev_check(io);
		if (err)
			bdev_complete(io, err);
		else
			io->ch->bdev->ops->submit(io->ch, io);
		n++;
	}
	return n;
}

static uint64_t
qos_sleep(struct bdev_engine *e)
{
	struct bdev_ch *ch = container_of(e, struct bdev_ch, qos.engine);
	const struct qos_queue *queues[] = { &ch->qos.reads, &ch->qos.writes };
	uint64_t now = *ch->clock, ns = REACTOR_SLEEP_FOREVER;

	if (!list_empty(&ch->qos.cancelled))
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(queues); i++) {
		uint64_t due = queues[i]->due;

		if (!list_empty(&queues[i]->waiting))
			ns = MIN(ns, due > now ? due - now : 0);
	}
	return ns;
}

static void
activate(struct bdev_ch *ch)
{
	if (ch->qos.active)
		return;
	list_init(&ch->qos.reads.waiting);
	list_init(&ch->qos.writes.waiting);
	list_init(&ch->qos.cancelled);
	ch->qos.engine =
		(struct bdev_engine){ .kick = qos_kick, .sleep = qos_sleep };
	ch->qos.active = true;
	ch->submit = qos_submit;
	bdev_engine_add(ch->br, &ch->qos.engine);
}

void
qos_ch_init(struct bdev_ch *ch)
{
	if (limited(ch->bdev))
		activate(ch);
}

void
qos_ch_fini(struct bdev_ch *ch)
{
	deactivate(ch);
}

/* ---- a change ---- */

/* Visits all reactors, one after the other; the desc keeps the device. */
struct change {
	struct reactor_msg msg;
	struct bdev_desc *desc;
	struct bdev_ctl *ctl;
	unsigned next;
};

static void
change_end(struct reactor_msg *m)
{
	struct change *c = container_of(m, struct change, msg);
	struct bdev_ctl *ctl = c->ctl;

	bdev_close(c->desc);
	free(c);
	if (ctl)
		ctl->done(ctl, 0);
}

/* The next kick asks for the first ones anew, or begins to let all go. */
static void
change_visit(struct reactor_msg *m)
{
	struct change *c = container_of(m, struct change, msg);
	struct bdev *b = bdev_of(c->desc);
	struct bdev_ch *ch = b->ch[c->next];
	struct reactor *next = reactor_get(++c->next);

	if (ch && ch->refs) {
		ch->qos.reads.due = ch->qos.writes.due = 0;
		if (limited(b))
			activate(ch);
	}
	if (!next)
		m->fn = change_end;
	reactor_send(next ? next : reactor_get(0), m);
}

/* NULL: no memory. */
static struct change *
change_new(struct bdev *b, struct bdev_ctl *ctl)
{
	struct change *c = calloc(1, sizeof(*c));

	if (!c || bdev_open(b->name, false, NULL, NULL, &c->desc)) {
		free(c);
		return NULL;
	}
	c->ctl = ctl;
	c->msg.fn = change_visit;
	return c;
}

static struct qos *
qos_new(void)
{
	struct qos *q = aligned_alloc(CACHE_LINE, sizeof(*q));

	if (q)
		*q = (struct qos){ 0 };
	return q;
}

/* Rates first: whoever finds the new time finds them. Old debts are forgiven. */
static void
set_rates(struct qos *q, const uint64_t *limits)
{
	uint64_t now = reactor_now();

	for (unsigned i = 0; i < BDEV_LIMITS; i++) {
		SET(q->rate[i], limits[i]);
		__atomic_store_n(&q->spent[i], now, __ATOMIC_RELEASE);
	}
}

const char *const bdev_limit_names[BDEV_LIMITS] = {
	[BDEV_RW_IOS] = "rw_ios_per_sec",
	[BDEV_RW_MBYTES] = "rw_mbytes_per_sec",
	[BDEV_R_MBYTES] = "r_mbytes_per_sec",
	[BDEV_W_MBYTES] = "w_mbytes_per_sec",
};

int
bdev_set_limits(const char *name, const uint64_t limits[BDEV_LIMITS],
		struct bdev_ctl *ctl)
{
	struct bdev *b = name ? bdev_find(name) : NULL;
	uint64_t old[BDEV_LIMITS];
	bool same = true;
	struct change *c;

	if (!b)
		return bdev_fail(ctl, -ENODEV, "no bdev %s", name ? name : "");
	bdev_get_limits(b, old);
	for (unsigned i = 0; i < BDEV_LIMITS; i++) {
		if (limits[i] > BDEV_LIMIT_MAX)
			return bdev_fail(
				ctl, -EINVAL,
				"%s %" PRIu64
				" is too high: at most %llu, or 0 for none",
				bdev_limit_names[i], limits[i], BDEV_LIMIT_MAX);
		same = same && limits[i] == old[i];
	}
	if (same)
		return 0;
	if (!b->qos)
		__atomic_store_n(&b->qos, qos_new(), __ATOMIC_RELEASE);
	c = b->qos ? change_new(b, ctl) : NULL;
	if (!c)
		return bdev_fail(ctl, -ENOMEM, "out of memory");
	set_rates(b->qos, limits);
	reactor_send(reactor_get(0), &c->msg);
	return -EINPROGRESS;
}

void
bdev_get_limits(const struct bdev *b, uint64_t out[BDEV_LIMITS])
{
	for (unsigned i = 0; i < BDEV_LIMITS; i++)
		out[i] = b->qos ? GET(b->qos->rate[i]) : 0;
}

void
qos_removing(struct bdev *b)
{
	static const uint64_t none[BDEV_LIMITS];
	struct change *c;

	if (!limited(b))
		return;
	/* Without it, a reactor that sleeps finds out when the next is due. */
	c = change_new(b, NULL);
	set_rates(b->qos, none);
	if (c)
		reactor_send(reactor_get(0), &c->msg);
}
