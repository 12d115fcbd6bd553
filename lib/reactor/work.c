/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Worker threads for what blocks. Not for what only takes long: that is a poller
 * in steps.
 *
 * A worker that takes work and leaves no idle one behind makes another, up to a
 * limit. So a hung call does not hold up the next one, and no reactor waits for
 * pthread_create().
 */
#include <assert.h>
#include <errno.h>

#include "belfry/log.h"
#include "internal.h"

#define WORKERS_MAX 64

static struct pool {
	const char *name;
	unsigned max;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list flows;     /* those with works to do */
	struct work_flow rest; /* works without a flow */
	unsigned threads, idle, running;
	bool stop;
	cpu_set_t cpus;
	pthread_t thread[WORKERS_MAX];
} pools[] = {
	[WORK_CONTROL] = { .name = "work_control", .max = 4 },
	[WORK_IO] = { .name = "work_io", .max = 32 },
	[WORK_CLOSE] = { .name = "work_close", .max = WORKERS_MAX },
};

static void
work_done(struct reactor_msg *m)
{
	struct work *w = container_of(m, struct work, msg);

	w->done(w);
}

static void
answer(struct work *w)
{
	w->msg.fn = work_done;
	reactor_send(w->origin, &w->msg);
}

/* A quarter of the threads that are free: one for another flow, even if ten hang. */
static bool
may_run(const struct pool *p, const struct work_flow *f)
{
	return f == &p->rest || f->running < (p->max - p->running + 3) / 4;
}

static struct work_flow *
next_flow(const struct pool *p)
{
	struct work_flow *f;

	list_for_each(f, &p->flows, node)
		if (may_run(p, f))
			return f;
	return NULL;
}

/* NULL: nothing to do, or nothing that may run now. */
static struct work *
take(struct pool *p)
{
	struct work_flow *f = next_flow(p);
	struct work *w;

	if (!f)
		return NULL;
	w = list_first(&f->queue, struct work, node);
	list_remove(&w->node);
	list_remove(&f->node);
	if (!list_empty(&f->queue))
		list_push_back(&p->flows, &f->node); /* its turn is over */
	f->running++;
	p->running++;
	return w;
}

static void *worker(void *arg);

/* Called with the lock held. */
static int
worker_add(struct pool *p)
{
	int err = thread_create(&p->thread[p->threads], p->name, &p->cpus,
				worker, p);

	if (!err)
		p->threads++;
	return err;
}

static void *
worker(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct work *w;

		while (!(w = take(p)) && !p->stop) {
			p->idle++;
			pthread_cond_wait(&p->more, &p->lock);
			p->idle--;
		}
		if (!w)
			break; /* what may not run now is for those that run */
		/* If it fails, the queue waits for one of us. */
		if (!p->idle && p->threads < p->max && !p->stop)
			worker_add(p);
		else if (p->idle && next_flow(p))
			pthread_cond_signal(&p->more);
		pthread_mutex_unlock(&p->lock);
		w->fn(w);
		pthread_mutex_lock(&p->lock);
		w->flow->running--; /* it may be gone after the answer */
		p->running--;
		pthread_mutex_unlock(&p->lock);
		answer(w);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void
work_flow_init(struct work_flow *f)
{
	*f = (struct work_flow){ .running = 0 };
	list_init(&f->node);
	list_init(&f->queue);
}

void
work_submit_flow(enum work_pool pool, struct work_flow *f, struct work *w)
{
	struct pool *p = &pools[pool];
	bool stopped;

	w->origin = reactor_current;
	assert(w->origin);
	w->flow = f;
	pthread_mutex_lock(&p->lock);
	stopped = p->stop;
	if (!stopped) {
		list_push_back(&f->queue, &w->node);
		if (list_empty(&f->node))
			list_push_back(&p->flows, &f->node);
		pthread_cond_signal(&p->more);
	}
	pthread_mutex_unlock(&p->lock);
	if (stopped) { /* in reactors_fini(), which may block */
		w->fn(w);
		answer(w);
	}
}

void
work_submit(enum work_pool pool, struct work *w)
{
	work_submit_flow(pool, &pools[pool].rest, w);
}

static void
pool_fini(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true; /* so ->threads does not change any more */
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	p->threads = 0;
}

static int
pool_init(struct pool *p, const cpu_set_t *cpus)
{
	int err;

	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	list_init(&p->flows);
	work_flow_init(&p->rest);
	p->cpus = *cpus;
	p->stop = false;
	p->idle = p->running = 0;
	pthread_mutex_lock(&p->lock);
	err = worker_add(p);
	pthread_mutex_unlock(&p->lock);
	return err;
}

int
work_init(const cpu_set_t *cpus)
{
	unsigned i;
	int err;

	for (i = 0; i < ARRAY_SIZE(pools); i++) {
		err = pool_init(&pools[i], cpus);
		if (err)
			goto fini;
	}
	return 0;
fini:
	while (i--)
		pool_fini(&pools[i]);
	return err;
}

void
work_fini(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(pools); i++)
		pool_fini(&pools[i]);
}
