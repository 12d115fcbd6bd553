/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram of latencies: 64 buckets for each power of two, so within 1 %. No
 * allocation, no loop. Not for several threads at once.
 */
#ifndef HIST_H
#define HIST_H

#include <stdint.h>

#define HIST_SUB 6
#define HIST_LEN ((58 << HIST_SUB) + (1 << HIST_SUB))

struct hist {
	uint64_t n, sum, max;
	uint64_t bucket[HIST_LEN];
};

static inline unsigned
hist_index(uint64_t v)
{
	unsigned shift;

	if (v < 2u << HIST_SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - HIST_SUB;
	return (shift << HIST_SUB) + (unsigned)(v >> shift);
}

/* The middle of a bucket. */
static inline uint64_t
hist_value(unsigned i)
{
	unsigned shift;

	if (i < 2u << HIST_SUB)
		return i;
	shift = (i >> HIST_SUB) - 1;
	return ((uint64_t)((i & ((1u << HIST_SUB) - 1)) + (1u << HIST_SUB))
		<< shift) +
	       ((1ull << shift) >> 1);
}

static inline void
hist_add(struct hist *h, uint64_t v)
{
	h->n++;
	h->sum += v;
	if (v > h->max)
		h->max = v;
	h->bucket[hist_index(v)]++;
}

static inline void
hist_merge(struct hist *to, const struct hist *from)
{
	to->n += from->n;
	to->sum += from->sum;
	if (from->max > to->max)
		to->max = from->max;
	for (unsigned i = 0; i < HIST_LEN; i++)
		to->bucket[i] += from->bucket[i];
}

/* The value that @share (0 to 1) of all are at or below. */
static inline uint64_t
hist_percentile(const struct hist *h, double share)
{
	uint64_t want = (uint64_t)(share * (double)h->n), seen = 0;

	if (want >= h->n)
		return h->max;
	for (unsigned i = 0; i < HIST_LEN; i++) {
		seen += h->bucket[i];
		if (seen > want)
			return hist_value(i) < h->max ? hist_value(i) : h->max;
	}
	return h->max;
}

#endif
