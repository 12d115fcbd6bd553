/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: reading and resetting statistics, on the control reactor.
 * Not here: the counting (io.c). A reset never writes what a reactor writes:
 * sums are taken relative to those at the reset, minima and maxima carry a
 * generation that the reactor follows with its next I/O.
 */
#include <string.h>

#include "internal.h"

#define GET(var) __atomic_load_n(&(var), __ATOMIC_RELAXED)

/* Adds the channel's counters; min_ns starts as UINT64_MAX. */
static void
fold(const struct bdev_ch *ch, struct bdev_stats *out)
{
	uint32_t gen = __atomic_load_n(&ch->stats_gen, __ATOMIC_ACQUIRE);
	bool fresh = gen == (GET(ch->bdev->stats_gen) & ~BDEV_GEN_HISTOGRAM);
	uint64_t ended = 0;

	for (unsigned i = 0; i < BDEV_OPS; i++) {
		const struct bdev_op_stats *st = &ch->stats[i];

		ended += GET(st->ops) + GET(st->errors);
		out->ops[i] += GET(st->ops) - ch->base.ops[i];
		out->bytes[i] += GET(st->bytes) - ch->base.bytes[i];
		out->errors[i] += GET(st->errors) - ch->base.errors[i];
		out->latency_ns[i] +=
			GET(st->latency_ns) - ch->base.latency_ns[i];
		if (!fresh)
			continue;
		out->min_ns[i] = MIN(out->min_ns[i], GET(st->min_ns));
		out->max_ns[i] = MAX(out->max_ns[i], GET(st->max_ns));
	}
	/* read after those: it is never behind them for long */
	out->inflight += MAX((int64_t)(GET(ch->started) - ended), 0);
}

static void
start(struct bdev_stats *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < BDEV_OPS; i++)
		s->min_ns[i] = UINT64_MAX;
}

static void
finish(struct bdev_stats *s)
{
	for (unsigned i = 0; i < BDEV_OPS; i++)
		if (s->min_ns[i] == UINT64_MAX)
			s->min_ns[i] = 0;
}

/* NULL: that reactor never used it. */
static struct bdev_ch *
channel(const struct bdev *b, unsigned reactor)
{
	return __atomic_load_n(&b->ch[reactor], __ATOMIC_ACQUIRE);
}

int
bdev_get_ch_stats(const struct bdev *b, unsigned reactor,
		  struct bdev_stats *out)
{
	const struct bdev_ch *ch;

	ch = reactor < REACTOR_MAX ? channel(b, reactor) : NULL;
	if (!ch)
		return -ENOENT;
	start(out);
	fold(ch, out);
	finish(out);
	return 0;
}

void
bdev_get_stats(const struct bdev *b, struct bdev_stats *out)
{
	start(out);
	for (unsigned i = 0; i < REACTOR_MAX; i++) {
		const struct bdev_ch *ch = channel(b, i);

		if (ch)
			fold(ch, out);
	}
	finish(out);
}

void
bdev_reset_stats(struct bdev *b, enum bdev_stats_reset mode)
{
	if (mode == BDEV_RESET_ALL || mode == BDEV_RESET_MAXMIN)
		__atomic_add_fetch(&b->stats_gen, BDEV_GEN_STEP,
				   __ATOMIC_RELAXED);
	if (mode != BDEV_RESET_ALL && mode != BDEV_RESET_ERROR)
		return;
	for (unsigned i = 0; i < REACTOR_MAX; i++) {
		struct bdev_ch *ch = channel(b, i);

		for (unsigned op = 0; ch && op < BDEV_OPS; op++) {
			const struct bdev_op_stats *st = &ch->stats[op];

			ch->base.errors[op] = GET(st->errors);
			if (mode != BDEV_RESET_ALL)
				continue;
			ch->base.ops[op] = GET(st->ops);
			ch->base.bytes[op] = GET(st->bytes);
			ch->base.latency_ns[op] = GET(st->latency_ns);
		}
	}
}
