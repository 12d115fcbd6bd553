/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: how long I/Os took, as a histogram. Not here: when one is counted (io.c).
 *
 * Each reactor counts in memory of its own, which the control reactor makes
 * and sums up. A device says that it has a histogram with a bit of stats_gen:
 * no channel has that bit, so an I/O that looks at the generation finds out,
 * and one of a device without a histogram looks at nothing more than before.
 */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

struct bdev_histogram {
	struct bdev_histogram_params params;
	struct bdev_histogram_shape shape;
	uint64_t *counts[REACTOR_MAX];
};

/* The range that @ns lies in: 0 for the first 2^granularity values, then one for each power of two. */
static unsigned
range_of(uint64_t ns, unsigned granularity)
{
	unsigned bits = ns ? ilog2(ns) + 1 : 0; /* that it takes */

	return bits > granularity ? bits - granularity : 0;
}

static size_t
bucket_of(const struct bdev_histogram_shape *s, uint64_t ns)
{
	unsigned range = range_of(ns, s->granularity);
	uint64_t mask = (1ull << s->granularity) - 1;

	if (range < s->min_range)
		return 0;
	if (range > s->max_range)
		return s->buckets - 1;
	return ((size_t)(range - s->min_range) << s->granularity) +
	       (ns >> (range ? range - 1 : 0) & mask);
}

void
bdev_histogram_count(const struct bdev *b, unsigned reactor, unsigned op,
		     uint64_t ns)
{
	/* pairs with the release of bdev_histogram_swap() */
	struct bdev_histogram *h =
		__atomic_load_n(&b->histogram, __ATOMIC_ACQUIRE);
	uint64_t *count;

	if (!h || !(h->params.ops >> op & 1))
		return;
	count = &h->counts[reactor][bucket_of(&h->shape, ns)];
	__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
}

/* ---- control reactor ---- */

void
bdev_histogram_free(struct bdev_histogram *h)
{
	for (unsigned i = 0; h && i < REACTOR_MAX; i++)
		reactor_mem_free(h->counts[i],
				 h->shape.buckets * sizeof(uint64_t));
	free(h);
}

int
bdev_histogram_create(const struct bdev_histogram_params *p,
		      struct bdev_histogram **out)
{
	struct bdev_histogram *h;
	unsigned min, max;

	if (p->granularity > BDEV_HISTOGRAM_GRANULARITY_MAX ||
	    p->min_ns >= p->max_ns)
		return -EINVAL;
	min = range_of(p->min_ns, p->granularity);
	max = range_of(p->max_ns - 1, p->granularity);
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->params = *p;
	h->shape = (struct bdev_histogram_shape){
		.granularity = p->granularity,
		.min_range = min,
		.max_range = max,
		.buckets = (size_t)(max - min + 1) << p->granularity,
	};
	for (unsigned i = 0; i < reactor_count(); i++) {
		h->counts[i] = reactor_mem_alloc(
			reactor_get(i), h->shape.buckets * sizeof(uint64_t));
		if (h->counts[i])
			continue;
		bdev_histogram_free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

struct bdev_histogram *
bdev_histogram_swap(struct bdev *b, struct bdev_histogram *h)
{
	struct bdev_histogram *old = b->histogram;

	__atomic_store_n(&b->histogram, h, __ATOMIC_RELEASE);
	if (h)
		__atomic_or_fetch(&b->stats_gen, BDEV_GEN_HISTOGRAM,
				  __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&b->stats_gen, ~BDEV_GEN_HISTOGRAM,
				   __ATOMIC_RELAXED);
	return old;
}

const struct bdev_histogram_shape *
bdev_histogram_shape(const struct bdev *b)
{
	return b->histogram ? &b->histogram->shape : NULL;
}

uint64_t
bdev_histogram_read(const struct bdev *b, size_t bucket)
{
	const struct bdev_histogram *h = b->histogram;
	uint64_t sum = 0;

	assert(h && bucket < h->shape.buckets);
	for (unsigned i = 0; i < reactor_count(); i++)
		sum += __atomic_load_n(&h->counts[i][bucket], __ATOMIC_RELAXED);
	return sum;
}
