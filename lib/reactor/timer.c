/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Timers: a binary heap of pointers, the earliest deadline at the root. Not for
 * timeouts per I/O.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define HEAP_MIN 16

static void
heap_put(struct reactor *r, unsigned i, struct reactor_timer *t)
{
	r->heap[i] = t;
	t->slot = i + 1;
}

static void
sift_up(struct reactor *r, unsigned i)
{
	struct reactor_timer *t = r->heap[i];

	while (i) {
		unsigned up = (i - 1) / 2;

		if (r->heap[up]->deadline <= t->deadline)
			break;
		heap_put(r, i, r->heap[up]);
		i = up;
	}
	heap_put(r, i, t);
}

static void
sift_down(struct reactor *r, unsigned i)
{
	struct reactor_timer *t = r->heap[i];

	for (;;) {
		unsigned kid = 2 * i + 1;

		if (kid >= r->heap_len)
			break;
		if (kid + 1 < r->heap_len &&
		    r->heap[kid + 1]->deadline < r->heap[kid]->deadline)
			kid++;
		if (t->deadline <= r->heap[kid]->deadline)
			break;
		heap_put(r, i, r->heap[kid]);
		i = kid;
	}
	heap_put(r, i, t);
}

/* One of the two moves it, the other finds it in its place. */
static void
sift(struct reactor *r, unsigned i)
{
	sift_up(r, i);
	sift_down(r, i);
}

static void
note_next(struct reactor *r)
{
	r->next_timer = r->heap_len ? r->heap[0]->deadline : UINT64_MAX;
}

static int
heap_grow(struct reactor *r)
{
	unsigned cap = MAX(r->heap_cap * 2, HEAP_MIN);
	struct reactor_timer **heap;

	heap = reallocarray(r->heap, cap, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	r->heap = heap;
	r->heap_cap = cap;
	return 0;
}

int
reactor_timer_start(struct reactor *r, struct reactor_timer *t, uint64_t ns)
{
	uint64_t now = r->in_round ? r->now : util_now_ns();

	if (t->slot) {
		assert(t->reactor == r);
		t->deadline = ns < UINT64_MAX - now ? now + ns : UINT64_MAX;
		sift(r, t->slot - 1);
	} else {
		if (r->heap_len == r->heap_cap && heap_grow(r))
			return -ENOMEM;
		t->deadline = ns < UINT64_MAX - now ? now + ns : UINT64_MAX;
		t->reactor = r;
		heap_put(r, r->heap_len++, t);
		sift_up(r, t->slot - 1);
	}
	note_next(r);
	return 0;
}

void
reactor_timer_stop(struct reactor_timer *t)
{
	struct reactor *r = t->reactor;
	struct reactor_timer *last;
	unsigned i;

	if (!t->slot)
		return;
	i = t->slot - 1;
	t->slot = 0;
	last = r->heap[--r->heap_len];
	if (last != t) {
		heap_put(r, i, last);
		sift(r, i);
	}
	note_next(r);
}

/*
 * Fire what is due. Not more than were armed at the start: a timer that starts
 * itself again with 0 ns must not keep us here.
 */
unsigned
timers_run(struct reactor *r)
{
	unsigned most = r->heap_len, n = 0;

	while (n < most && r->next_timer <= r->now) {
		struct reactor_timer *t = r->heap[0];

		reactor_timer_stop(t);
		t->fire(t);
		n++;
	}
	return n;
}
