/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * irq: vectors, their eventfds, masks and latches. Not for when to interrupt (lib/nvme), nor for the
 * wire (lib/vfio_user).
 *
 * The home reactor binds, others raise. A replaced fd is closed when nobody can be writing to it
 * any more (watch_quiesce); else the number could be another file's by then.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "belfry/log.h"
#include "internal.h"

/* A line each: neighbours may be raised by other cores. */
struct vector {
	int fd;		  /* -1: unbound */
	uint32_t state;	  /* MASKED | LATCHED */
	uint64_t signals; /* written; by who raises */
} cache_aligned;
#define MASKED 1u
#define LATCHED 2u

struct irq_set {
	struct vector *index[IRQ_INDEX_COUNT];
	bool dead; /* sticky; read at each raise */
	bool msix_on;
	bool intx_level;
	unsigned count[IRQ_INDEX_COUNT];
	struct reactor *home;
	struct list closings; /* under way */
	void (*closed)(void *arg);
	void *closed_arg;
};

/* fds to close on a worker. */
struct closing {
	struct work work;
	struct list node;    /* in the set's */
	struct irq_set *set; /* NULL: it has gone */
	unsigned n;
	int fd[];
};

static bool
is_eventfd(int fd)
{
	static const char want[] = "anon_inode:[eventfd]";
	char path[64], to[sizeof(want) + 1];
	ssize_t n;

	/* Files have names that begin with '/', so none can pretend. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, to, sizeof(to));
	return n == sizeof(want) - 1 && !memcmp(to, want, (size_t)n);
}

static void
close_work(struct work *w)
{
	struct closing *c = container_of(w, struct closing, work);
	unsigned i;

	watch_quiesce();
	for (i = 0; i < c->n; i++)
		close(c->fd[i]);
}

static void
close_done(struct work *w)
{
	struct closing *c = container_of(w, struct closing, work);
	struct irq_set *set = c->set;

	list_remove(&c->node);
	free(c);
	if (set && set->closed && list_empty(&set->closings))
		set->closed(set->closed_arg);
}

static struct closing *
closing_create(unsigned n)
{
	return calloc(1, sizeof(struct closing) + n * sizeof(int));
}

/* @set: NULL, when it goes. */
static void
closing_submit(struct irq_set *set, struct closing *c)
{
	if (!c->n) {
		free(c);
		return;
	}
	c->set = set;
	list_init(&c->node);
	if (set)
		list_push_back(&set->closings, &c->node);
	c->work.fn = close_work;
	c->work.done = close_done;
	work_submit(WORK_CONTROL, &c->work);
}

int
irq_set_create(struct reactor *home, unsigned msix, struct irq_set **out)
{
	unsigned count[IRQ_INDEX_COUNT] = { [IRQ_INTX] = 1,
					    [IRQ_MSI] = 0,
					    [IRQ_MSIX] = msix,
					    [IRQ_ERR] = 1,
					    [IRQ_REQ] = 1 };
	unsigned total = 0, i;
	struct irq_set *set;
	struct vector *v;

	if (!msix || msix > 2048)
		return -EINVAL;
	for (i = 0; i < IRQ_INDEX_COUNT; i++)
		total += count[i];
	set = calloc(1, sizeof(*set));
	v = aligned_alloc(CACHE_LINE, total * sizeof(*v));
	if (!set || !v) {
		free(set);
		free(v);
		return -ENOMEM;
	}
	memset(v, 0, total * sizeof(*v));
	for (i = 0; i < total; i++)
		v[i].fd = -1;
	set->home = home;
	list_init(&set->closings);
	memcpy(set->count, count, sizeof(count));
	for (i = 0; i < IRQ_INDEX_COUNT; v += count[i++])
		set->index[i] = v;
	*out = set;
	return 0;
}

void
irq_set_destroy(struct irq_set *set)
{
	struct vector *v;
	struct closing *c;
	unsigned n = 0, i;

	if (!set)
		return;
	while ((c = list_first(&set->closings, struct closing, node))) {
		list_remove(&c->node);
		c->set = NULL;
	}
	for (i = 0; i < IRQ_INDEX_COUNT; i++)
		n += set->count[i];
	v = set->index[0]; /* the first of one array */
	c = closing_create(n);
	for (i = 0; i < n; i++) {
		if (v[i].fd < 0)
			continue;
		if (c)
			c->fd[c->n++] = v[i].fd;
		else
			close(v[i].fd);
	}
	if (c)
		closing_submit(NULL, c);
	free(v);
	free(set);
}

bool
irq_closing(const struct irq_set *set)
{
	return !list_empty(&set->closings);
}

void
irq_on_closed(struct irq_set *set, void (*fn)(void *arg), void *arg)
{
	set->closed = fn;
	set->closed_arg = arg;
}

unsigned
irq_count(const struct irq_set *set, enum irq_index index)
{
	return (unsigned)index < IRQ_INDEX_COUNT ? set->count[index] : 0;
}

static bool
range_ok(const struct irq_set *set, enum irq_index index, unsigned start,
	 unsigned n)
{
	return range_inside(start, n, irq_count(set, index));
}

/* Only an eventfd that blocks is interrupted: its client has filled it up. */
static void
set_died(struct irq_set *set)
{
	if (!__atomic_exchange_n(&set->dead, true, __ATOMIC_RELAXED))
		log_guest(
			LOG_WARNING,
			"irq: a client's eventfd blocks; its interrupts are off");
}

static inline void
vector_write(struct irq_set *set, struct vector *v, int fd)
{
	static const uint64_t one = 1;

	/* A full counter (EAGAIN) wakes its reader as well as one more. */
	if (unlikely(write(fd, &one, sizeof(one)) < 0 && errno == EINTR)) {
		set_died(set);
		return;
	}
	__atomic_store_n(&v->signals,
			 __atomic_load_n(&v->signals, __ATOMIC_RELAXED) + 1,
			 __ATOMIC_RELAXED);
}

/* Write what is latched, when it may be. Both sides of a race come here; one finds the latch. */
static void
vector_flush(struct irq_set *set, struct vector *v)
{
	int fd;

	watch_enter();
	fd = __atomic_load_n(&v->fd, __ATOMIC_SEQ_CST);
	if (fd >= 0 &&
	    !(__atomic_load_n(&v->state, __ATOMIC_SEQ_CST) & MASKED) &&
	    (__atomic_fetch_and(&v->state, ~LATCHED, __ATOMIC_SEQ_CST) &
	     LATCHED))
		vector_write(set, v, fd);
	watch_leave();
}

static void
vector_raise(struct irq_set *set, struct vector *v)
{
	int fd;

	if (unlikely(__atomic_load_n(&set->dead, __ATOMIC_RELAXED)))
		return;
	watch_enter();
	fd = __atomic_load_n(&v->fd,
			     __ATOMIC_ACQUIRE); /* pairs with irq_bind */
	if (likely(fd >= 0 && !__atomic_load_n(&v->state, __ATOMIC_RELAXED))) {
		vector_write(set, v, fd);
		watch_leave();
		return;
	}
	watch_leave();
	__atomic_fetch_or(&v->state, LATCHED, __ATOMIC_SEQ_CST);
	vector_flush(set, v); /* bound or unmasked meanwhile? */
}

void
irq_raise(struct irq_set *set, unsigned iv)
{
	if (likely(iv < set->count[IRQ_MSIX]))
		vector_raise(set, &set->index[IRQ_MSIX][iv]);
}

/* INTx tells a level: its latch is the level itself. */
static void
intx_again(struct irq_set *set)
{
	struct vector *v = &set->index[IRQ_INTX][0];

	if (set->intx_level)
		__atomic_fetch_or(&v->state, LATCHED, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&v->state, ~LATCHED, __ATOMIC_SEQ_CST);
	if (!irq_dead(set))
		vector_flush(set, v);
}

void
irq_intx(struct irq_set *set, bool level)
{
	if (level == set->intx_level)
		return;
	set->intx_level = level;
	intx_again(set);
}

int
irq_bind(struct irq_set *set, enum irq_index index, unsigned start, unsigned n,
	 const int *fds)
{
	struct closing *old;
	struct vector *v;
	unsigned i;
	int fd;

	if (!n || !range_ok(set, index, start, n))
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (fds[i] != -1 && !is_eventfd(fds[i]))
			return -EINVAL;
	old = closing_create(n);
	if (!old)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		v = &set->index[index][start + i];
		fd = __atomic_exchange_n(&v->fd, fds[i], __ATOMIC_SEQ_CST);
		if (fd >= 0)
			old->fd[old->n++] = fd;
		if (fds[i] < 0)
			continue;
		if (index == IRQ_MSIX)
			__atomic_store_n(&set->msix_on, true, __ATOMIC_RELAXED);
		if (index == IRQ_INTX)
			intx_again(set);
		else if (!irq_dead(set))
			vector_flush(set, v);
	}
	closing_submit(set, old);
	return 0;
}

int
irq_unbind(struct irq_set *set, enum irq_index index, unsigned start,
	   unsigned n)
{
	bool all = !n && !start;
	struct closing *old;
	unsigned i;
	int fd;

	if ((unsigned)index >= IRQ_INDEX_COUNT)
		return -EINVAL;
	if (all)
		n = set->count[index];
	else if (!n || !range_ok(set, index, start, n))
		return -EINVAL;
	old = closing_create(n);
	if (!old)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		struct vector *v = &set->index[index][start + i];

		fd = __atomic_exchange_n(&v->fd, -1, __ATOMIC_SEQ_CST);
		if (fd >= 0)
			old->fd[old->n++] = fd;
		if (all) /* what was for the last driver is not for the next */
			__atomic_store_n(&v->state, 0, __ATOMIC_SEQ_CST);
	}
	if (all && index == IRQ_MSIX)
		__atomic_store_n(&set->msix_on, false, __ATOMIC_RELAXED);
	closing_submit(set, old);
	return 0;
}

int
irq_mask(struct irq_set *set, enum irq_index index, unsigned start, unsigned n,
	 bool mask)
{
	unsigned i;

	if (!range_ok(set, index, start, n))
		return -EINVAL;
	for (i = 0; i < n; i++) {
		struct vector *v = &set->index[index][start + i];

		if (mask) {
			__atomic_fetch_or(&v->state, MASKED, __ATOMIC_SEQ_CST);
			continue;
		}
		__atomic_fetch_and(&v->state, ~MASKED, __ATOMIC_SEQ_CST);
		if (index == IRQ_INTX)
			intx_again(set);
		else if (!irq_dead(set))
			vector_flush(set, v);
	}
	return 0;
}

int
irq_trigger(struct irq_set *set, enum irq_index index, unsigned vector)
{
	if (!range_ok(set, index, vector, 1))
		return -EINVAL;
	vector_raise(set, &set->index[index][vector]);
	return 0;
}

void
irq_reset(struct irq_set *set)
{
	unsigned i, j;

	set->intx_level = false;
	for (i = 0; i < IRQ_INDEX_COUNT; i++)
		for (j = 0; j < set->count[i]; j++)
			__atomic_store_n(&set->index[i][j].state, 0,
					 __ATOMIC_SEQ_CST);
}

bool
irq_msix_active(const struct irq_set *set)
{
	return __atomic_load_n(&set->msix_on, __ATOMIC_RELAXED);
}

bool
irq_dead(const struct irq_set *set)
{
	return __atomic_load_n(&set->dead, __ATOMIC_RELAXED);
}

uint64_t
irq_signals(const struct irq_set *set)
{
	uint64_t sum = 0;
	unsigned i, j;

	for (i = 0; i < IRQ_INDEX_COUNT; i++)
		for (j = 0; j < set->count[i]; j++)
			sum += __atomic_load_n(&set->index[i][j].signals,
					       __ATOMIC_RELAXED);
	return sum;
}
