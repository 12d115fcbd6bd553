/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: what is kept for each reactor: channels, and engines to kick and reap.
 * Not here: what goes through a channel (io.c).
 */
#include <string.h>

#include "belfry/log.h"
#include "internal.h"

static struct bdev_reactor *reactors[REACTOR_MAX];

/* Set-up code may run on the main thread before the reactors do: that is 0. */
static struct reactor *
self(void)
{
	struct reactor *r = reactor_self();

	return r ? r : reactor_get(0);
}

static struct bdev_reactor *
lookup(void)
{
	struct reactor *r = self();

	return r ? reactors[reactor_index(r)] : NULL;
}

struct bdev_reactor *
bdev_reactor_self(void)
{
	struct reactor *r = self();
	struct bdev_reactor *br = r ? reactors[reactor_index(r)] : NULL;

	if (br || !r)
		return br;
	br = reactor_mem_alloc(r, sizeof(*br));
	if (!br)
		return NULL;
	br->reactor = r;
	list_init(&br->engines);
	reactors[reactor_index(r)] = br;
	return br;
}

void
bdev_reactors_free(void)
{
	for (unsigned i = 0; i < REACTOR_MAX; i++) {
		struct bdev_reactor *br = reactors[i];

		if (!br)
			continue;
		if (br->hung) { /* the next bdev_fini() looks again */
			br->hung = false;
			continue;
		}
		aio_engine_destroy(br->aio);
		uring_engine_destroy(br->uring);
		reactor_mem_free(br, sizeof(*br));
		reactors[i] = NULL;
	}
}

void
bdev_engine_add(struct bdev_reactor *br, struct bdev_engine *e)
{
	list_push_back(&br->engines, &e->node);
}

void
bdev_engine_del(struct bdev_reactor *br, struct bdev_engine *e)
{
	if (br->next == &e->node)
		br->next = e->node.next;
	list_remove(&e->node);
}

/* A walk during which engines may come and go. */
#define for_each_engine(e, br)                                        \
	for ((br)->next = (br)->engines.next;                         \
	     (br)->next != &(br)->engines &&                          \
	     ((e) = list_entry((br)->next, struct bdev_engine, node), \
	     (br)->next = (br)->next->next, true);)

int
bdev_kick(void)
{
	struct bdev_reactor *br = lookup();
	struct bdev_engine *e;
	int n = 0;

	if (!br)
		return 0;
	for_each_engine(e, br) if (e->kick) n += e->kick(e);
	return n;
}

int
bdev_reap(void)
{
	struct bdev_reactor *br = lookup();
	struct bdev_engine *e;
	int n = 0;

	if (!br)
		return 0;
	for_each_engine(e, br) if (e->reap) n += e->reap(e);
	return n;
}

uint64_t
bdev_sleep(void)
{
	struct bdev_reactor *br = lookup();
	uint64_t ns = REACTOR_SLEEP_FOREVER;
	struct bdev_engine *e;

	if (!br)
		return ns;
	for_each_engine(e, br)
	{
		uint64_t max = e->sleep ? e->sleep(e) : REACTOR_SLEEP_FOREVER;

		ns = MIN(ns, max);
	}
	return ns;
}

void
bdev_wake(void)
{
	struct bdev_reactor *br = lookup();
	struct bdev_engine *e;

	if (!br)
		return;
	for_each_engine(e, br) if (e->wake) e->wake(e);
}

unsigned
bdev_inflight(void)
{
	struct reactor *r = self();
	struct bdev_stats s;
	uint64_t sum = 0;

	for (struct bdev *b = bdev_first(); r && b; b = bdev_next(b))
		if (!bdev_get_ch_stats(b, reactor_index(r), &s))
			sum += s.inflight;
	return (unsigned)sum;
}

static size_t
ch_bytes(const struct bdev *b)
{
	return sizeof(struct bdev_ch) + b->ops->ch_len;
}

static struct bdev_ch *
ch_create(struct bdev *b, struct bdev_reactor *br)
{
	struct bdev_ch *ch = reactor_mem_alloc(br->reactor, ch_bytes(b));

	if (!ch) {
		log_error("bdev %s: no memory for a channel on core %u",
			  b->name, reactor_core(br->reactor));
		return NULL;
	}
	ch->bdev = b;
	ch->submit = b->ops->submit;
	ch->br = br;
	ch->clock = reactor_clock(br->reactor);
	ch->stats_gen = __atomic_load_n(&b->stats_gen, __ATOMIC_RELAXED) &
			~BDEV_GEN_HISTOGRAM;
	for (unsigned i = 0; i < BDEV_OPS; i++)
		ch->stats[i].min_ns = UINT64_MAX;
	return ch;
}

struct bdev_ch *
bdev_get_ch(struct bdev_desc *desc)
{
	struct bdev *b = bdev_of(desc);
	struct bdev_reactor *br = bdev_reactor_self();
	struct bdev_ch *ch;
	unsigned i;
	int err;

	if (!br)
		return NULL;
	i = reactor_index(br->reactor);
	ch = b->ch[i];
	if (!ch) {
		ch = ch_create(b, br);
		if (!ch)
			return NULL;
		/* pairs with the acquire of who reads statistics */
		__atomic_store_n(&b->ch[i], ch, __ATOMIC_RELEASE);
	}
	if (ch->refs++)
		return ch;
	err = b->ops->ch_init ? b->ops->ch_init(ch) : 0;
	if (!err) {
		qos_ch_init(ch);
		return ch;
	}
	ch->refs = 0;
	log_error("bdev %s: no channel on core %u: %s", b->name,
		  reactor_core(br->reactor), strerrordesc_np(-err));
	return NULL;
}

void
bdev_put_ch(struct bdev_ch *ch)
{
	if (--ch->refs)
		return;
	qos_ch_fini(ch);
	if (ch->bdev->ops->ch_fini)
		ch->bdev->ops->ch_fini(ch);
}

void
bdev_channels_hung(struct bdev *b)
{
	struct bdev_stats s;

	for (unsigned i = 0; i < REACTOR_MAX; i++)
		if (!bdev_get_ch_stats(b, i, &s) && s.inflight)
			b->ch[i]->br->hung = true;
}

void
bdev_channels_free(struct bdev *b)
{
	for (unsigned i = 0; i < REACTOR_MAX; i++) {
		if (b->ch[i])
			reactor_mem_free(b->ch[i], ch_bytes(b));
		b->ch[i] = NULL;
	}
}
