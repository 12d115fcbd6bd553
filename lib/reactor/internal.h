/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reactor, inside: the struct, and what its files tell each other.
 *
 *   reactor.c  init, run, stop, fini, and who is who      loop.c  one round, idling
 *   timer.c    heap of deadlines                          event.c epoll, sleeping
 *   mailbox.c  messages from any thread                   work.c  blocking calls
 *   mem.c      memory of a node
 */
#ifndef REACTOR_INTERNAL_H
#define REACTOR_INTERNAL_H

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "belfry/reactor.h"

#define REACTOR_EVENTS 64 /* descriptors served in one look */

struct reactor {
	/* What each round touches; the owner's alone. */
	uint64_t now;
	uint64_t next_timer; /* deadline of the heap's root, or never */
	uint64_t next_look;  /* at the descriptors */
	uint64_t last_work;
	struct list pollers;
	struct list *cursor; /* next of the walk under way, or NULL */
	struct reactor_poller *current; /* NULL: it removed itself */
	/* The second line. */
	struct reactor_stats stats; /* relaxed atomics: others read */
	uint64_t next_sleep;	    /* not to be tried before */
	uint64_t spin_ns;
	uint64_t crowd_looked, crowded_until; /* others want this core */
	long preempted;			      /* times, at the last look */
	unsigned ncpus;			      /* of the machine */
	unsigned nfds;
	unsigned still; /* rounds without work since the clock was set */
	bool in_round;
	bool adaptive;

	struct reactor_timer **heap;
	unsigned heap_len, heap_cap;

	struct epoll_event ev[REACTOR_EVENTS];
	int ev_next, ev_len; /* the part of ev[] not yet served */
	int epfd, wakefd;

	unsigned index, core;
	int node;
	bool pin;
	pthread_t thread;

	/* What other threads write, on a line of its own. */
	struct reactor_msg *inbox cache_aligned; /* newest first */
	uint32_t sleeping; /* 1: whoever changes it to 0 writes wakefd */
};
_Static_assert(offsetof(struct reactor, stats) == 64, "round's first line");

extern __thread struct reactor *reactor_current;

/* reactor.c */
bool reactors_stopping(void);
/*
 * A thread for us: signals that end or control the process go to others.
 * @cpus (may be NULL): where it may run. 0 or -errno.
 */
int thread_create(pthread_t *out, const char *name, const cpu_set_t *cpus,
		  void *(*fn)(void *), void *arg);

/* loop.c */
void reactor_loop(struct reactor *r); /* until reactors_stop() */

/* timer.c */
unsigned timers_run(struct reactor *r);

/* event.c */
int events_init(struct reactor *r);
void events_fini(struct reactor *r);
/* Wait up to @ns for something to be ready; then serve it. Gives its number. */
void events_wait(struct reactor *r, uint64_t ns);
unsigned events_dispatch(struct reactor *r);
unsigned events_serve(struct reactor *r); /* what is ready now */
/* Any thread, signal-safe: end a sleep that is on or about to begin. */
void reactor_kick(struct reactor *r);

/* mailbox.c */
bool mailbox_empty(const struct reactor *r);
unsigned mailbox_run(struct reactor *r);

/*
 * work.c. Workers stay off the reactors' cores: @cpus is where they may run.
 * work_fini finishes what is queued first.
 */
int work_init(const cpu_set_t *cpus);
void work_fini(void);

#endif
