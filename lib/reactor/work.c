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
	struct list queue;
	unsigned threads, idle;
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
work_run(struct work *w)
{
	w->fn(w);
	w->msg.fn = work_done;
	reactor_send(w->origin, &w->msg);
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

		while (list_empty(&p->queue) && !p->stop) {
			p->idle++;
			pthread_cond_wait(&p->more, &p->lock);
			p->idle--;
		}
		w = list_first(&p->queue, struct work, node);
		if (!w)
			break;
		list_remove(&w->node);
		/* If it fails, the queue waits for one of us. */
		if (!p->idle && p->threads < p->max && !p->stop)
			worker_add(p);
		pthread_mutex_unlock(&p->lock);
		work_run(w);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void
work_submit(enum work_pool pool, struct work *w)
{
	struct pool *p = &pools[pool];
	bool stopped;

	w->origin = reactor_current;
	assert(w->origin);
	pthread_mutex_lock(&p->lock);
	stopped = p->stop;
	if (!stopped) {
		list_push_back(&p->queue, &w->node);
		pthread_cond_signal(&p->more);
	}
	pthread_mutex_unlock(&p->lock);
	if (stopped)
		work_run(w); /* in reactors_fini(), which may block */
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
	list_init(&p->queue);
	p->cpus = *cpus;
	p->stop = false;
	p->idle = 0;
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
