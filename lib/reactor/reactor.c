/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The set of reactors: made, run, stopped, freed. Not for what one does in its
 * round: loop.c.
 */
#include <assert.h>
#include <errno.h>
#include <numa.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"
#include "internal.h"

#define SPIN_US_DEFAULT 1000

__thread struct reactor *reactor_current;

static struct {
	struct reactor *r[REACTOR_MAX];
	unsigned n;
	enum reactor_idle idle;
	uint64_t stop; /* 0, or STOP and the code below: one word, one CAS */
} all;

#define STOP (1ull << 32)

static const int process_signals[] = { SIGTERM, SIGINT,	 SIGHUP,  SIGQUIT,
				       SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD,
				       SIGPIPE, SIGTSTP, SIGWINCH };

bool
reactors_stopping(void)
{
	return __atomic_load_n(&all.stop, __ATOMIC_SEQ_CST) != 0;
}

int
thread_create(pthread_t *out, const char *name, const cpu_set_t *cpus,
	      void *(*fn)(void *), void *arg)
{
	sigset_t block, before;
	pthread_attr_t attr;
	int err;

	sigemptyset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(process_signals); i++)
		sigaddset(&block, process_signals[i]);
	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	if (cpus)
		err = pthread_attr_setaffinity_np(&attr, sizeof(*cpus), cpus);
	if (err)
		goto destroy_attr;
	pthread_sigmask(SIG_BLOCK, &block, &before); /* the child inherits it */
	err = pthread_create(out, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		pthread_setname_np(*out, name);
destroy_attr:
	pthread_attr_destroy(&attr);
	return -err;
}

static int
check_cores(const struct reactor_config *cfg, const cpu_set_t *allowed)
{
	if (!cfg->ncores || cfg->ncores > REACTOR_MAX) {
		log_error("reactor: %u cores; it takes 1 to %d", cfg->ncores,
			  REACTOR_MAX);
		return -EINVAL;
	}
	for (unsigned i = 0; i < cfg->ncores; i++) {
		unsigned core = cfg->cores[i];

		for (unsigned j = 0; j < i; j++) {
			if (cfg->cores[j] == core) {
				log_error("reactor: core %u is given twice",
					  core);
				return -EINVAL;
			}
		}
		if (!cfg->no_pin &&
		    (core >= CPU_SETSIZE || !CPU_ISSET(core, allowed))) {
			log_error("reactor: core %u is offline, or this "
				  "process may not run there",
				  core);
			return -EINVAL;
		}
	}
	return 0;
}

static int
reactor_create(const struct reactor_config *cfg, unsigned index,
	       struct reactor **out)
{
	struct reactor here = { .node = -1 }, *r;
	int err;

	if (numa_available() >= 0)
		here.node = numa_node_of_cpu((int)cfg->cores[index]);
	r = reactor_mem_alloc(&here, sizeof(*r));
	if (!r)
		return -ENOMEM;
	err = events_init(r);
	if (err) {
		reactor_mem_free(r, sizeof(*r));
		return err;
	}
	r->index = index;
	r->core = cfg->cores[index];
	r->node = here.node;
	r->pin = !cfg->no_pin;
	r->adaptive = cfg->idle == REACTOR_IDLE_ADAPTIVE;
	r->spin_ns = (cfg->spin_us ? cfg->spin_us : SPIN_US_DEFAULT) * 1000ull;
	r->next_timer = UINT64_MAX;
	r->now = util_now_ns();
	list_init(&r->pollers);
	*out = r;
	return 0;
}

static void
free_all(void)
{
	unsigned n = all.n;

	all.n = 0;
	reactor_current = NULL;
	for (unsigned i = 0; i < n; i++) {
		struct reactor *r = all.r[i];

		all.r[i] = NULL;
		events_fini(r);
		free(r->heap);
		reactor_mem_free(r, sizeof(*r));
	}
}

int
reactors_init(const struct reactor_config *cfg)
{
	cpu_set_t allowed, others;
	int err;

	assert(!all.n);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -errno;
	err = check_cores(cfg, &allowed);
	if (err)
		return err;
	others = allowed;
	for (unsigned i = 0; i < cfg->ncores && !cfg->no_pin; i++)
		CPU_CLR(cfg->cores[i], &others);
	all.idle = cfg->idle;
	all.stop = 0;
	for (unsigned i = 0; i < cfg->ncores; i++, all.n++) {
		err = reactor_create(cfg, i, &all.r[i]);
		if (err)
			goto free_reactors;
	}
	err = work_init(CPU_COUNT(&others) ? &others : &allowed);
	if (err)
		goto free_reactors;
	reactor_current = all.r[0];
	return 0;
free_reactors:
	free_all();
	return err;
}

static void *
reactor_thread(void *arg)
{
	reactor_loop(arg);
	return NULL;
}

static int
start(struct reactor *r)
{
	char name[16];
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	if (r->pin)
		CPU_SET(r->core, &cpu);
	snprintf(name, sizeof(name), "reactor_%u", r->index);
	return thread_create(&r->thread, name, r->pin ? &cpu : NULL,
			     reactor_thread, r);
}

static void
run_here(struct reactor *r)
{
	cpu_set_t before, cpu;
	bool pinned = false;

	CPU_ZERO(&cpu);
	if (r->pin && !sched_getaffinity(0, sizeof(before), &before)) {
		CPU_SET(r->core, &cpu);
		pinned = !sched_setaffinity(0, sizeof(cpu), &cpu);
		if (!pinned)
			log_warn("reactor: cannot pin to core %u: %m", r->core);
	}
	reactor_loop(r);
	reactor_current = r; /* still: reactors_fini() follows */
	if (pinned)
		sched_setaffinity(0, sizeof(before), &before);
}

int
reactors_run(void)
{
	unsigned started = 1;
	int err = 0;

	assert(all.n);
	for (; started < all.n; started++) {
		err = start(all.r[started]);
		if (err) {
			log_error("reactor: no thread for core %u: %s",
				  all.r[started]->core, strerror(-err));
			reactors_stop(err);
			break;
		}
	}
	if (!err)
		run_here(all.r[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(all.r[i]->thread, NULL);
	return err ? err
		   : (int)(uint32_t)__atomic_load_n(&all.stop,
						    __ATOMIC_RELAXED);
}

void
reactors_stop(int code)
{
	uint64_t running = 0;

	/* Pairs with reactors_stopping(); as for ->sleeping, see mailbox.c. */
	__atomic_compare_exchange_n(&all.stop, &running, STOP | (uint32_t)code,
				    false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < all.n; i++)
		reactor_kick(all.r[i]);
}

/* Messages that run now may send others; those that never end are cut off. */
static void
run_leftovers(void)
{
	for (int rounds = 0; rounds < 1000; rounds++) {
		unsigned work = 0;

		for (unsigned i = 0; i < all.n; i++) {
			reactor_current = all.r[i];
			work += mailbox_run(all.r[i]);
		}
		if (!work)
			return;
	}
	log_warn("reactor: messages without end were dropped");
}

void
reactors_fini(void)
{
	if (!all.n)
		return;
	work_fini();
	run_leftovers();
	free_all();
}

unsigned
reactor_count(void)
{
	return all.n;
}

struct reactor *
reactor_get(unsigned index)
{
	return index < all.n ? all.r[index] : NULL;
}

struct reactor *
reactor_self(void)
{
	return reactor_current;
}

unsigned
reactor_index(const struct reactor *r)
{
	return r->index;
}

unsigned
reactor_core(const struct reactor *r)
{
	return r->core;
}

int
reactor_node(const struct reactor *r)
{
	return r->node;
}

uint64_t
reactor_now(void)
{
	const struct reactor *r = reactor_current;

	return likely(r && r->in_round) ? r->now : util_now_ns();
}

const uint64_t *
reactor_clock(const struct reactor *r)
{
	return &r->now;
}

enum reactor_idle
reactor_idle_policy(void)
{
	return all.idle;
}

uint64_t
reactor_spin(void)
{
	return all.idle == REACTOR_IDLE_ADAPTIVE ? all.r[0]->spin_ns
						 : UINT64_MAX;
}
