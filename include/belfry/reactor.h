/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reactor: one pinned thread per core that runs pollers, timers, descriptors and messages to completion.
 *
 * Every other module runs on it. Reactor 0 is also the control reactor: RPC, the registries of bdevs and
 * subsystems, and signals live there; it runs on the thread that calls reactors_run().
 * Nothing here blocks but an idle reactor's sleep. What blocks goes to a worker (struct work).
 *
 * Thread: unless a function says "any thread", call it on the reactor that it names, or before
 * reactors_run(). Lifetime: reactors exist from reactors_init() to reactors_fini().
 */
#ifndef BELFRY_REACTOR_H
#define BELFRY_REACTOR_H

#include "belfry/list.h"

struct reactor;

enum reactor_idle {
	REACTOR_IDLE_POLL, /* never sleeps */
	REACTOR_IDLE_ADAPTIVE, /* spins for spin_us after the last work, then sleeps */
};

struct reactor_config {
	const unsigned *cores; /* CPU numbers; borrowed during the call */
	unsigned ncores;       /* 1..REACTOR_MAX */
	enum reactor_idle idle;
	uint32_t spin_us; /* 0: the default, 1000 */
	bool no_pin;	  /* for unit tests */
};

#define REACTOR_MAX 64

/* -EINVAL: a core twice or offline (logged with its number); -ENOMEM, -errno of pthread. Starts nothing yet. */
int reactors_init(const struct reactor_config *cfg);
/*
 * The calling thread counts as reactor 0's from reactors_init() on (reactor_self() says so), but for
 * the time that reactor_step() lends it to another.
 */
/* Start the others, run reactor 0 on this thread until reactors_stop(); join all. Gives the code of reactors_stop(). */
int reactors_run(void);
/* Any thread, signal-safe: every reactor leaves its loop. The first caller's @code counts. */
void reactors_stop(int code);
/* Finishes the work that is queued (so a hung disk hangs it), runs the messages that are left, frees all. */
void reactors_fini(void);

unsigned reactor_count(void);
struct reactor *reactor_get(unsigned index); /* NULL: no such */
struct reactor *reactor_self(void);	     /* NULL: not a reactor's thread */
unsigned reactor_index(const struct reactor *r);
unsigned reactor_core(const struct reactor *r);
int reactor_node(const struct reactor *r); /* NUMA node, -1 unknown */

/* Run one round of reactor @r's loop on this thread (unit tests, without reactors_run). Gives the work done. */
int reactor_step(struct reactor *r);

/* The loop's clock: CLOCK_MONOTONIC in ns as of this round; no system call. Elsewhere, the time. */
uint64_t reactor_now(void);
/*
 * Where that clock of @r is kept, for the data path of @r: a load instead of a
 * call. Good while the reactor is; only the reactor itself may read it.
 */
const uint64_t *reactor_clock(const struct reactor *r);

/*
 * Pollers: called in every round, in the order of their phase, then of their adding.
 * @poll gives the amount of work it did (0: idle). @sleep (may be NULL: forever) is asked before
 * the reactor sleeps: arm your wake-ups, then give the longest sleep in ns; 0 forbids it (arm nothing then).
 * @look (may be NULL) is asked when the sleep has passed and brought nothing: how long the next one may be, 0: there is work.
 * Without it a poller that gave a limit is polled after each. It only looks: what is armed stays so.
 * @wake (may be NULL) follows each @sleep that did not give 0, whether the reactor slept or another forbade it.
 * A poller may remove itself or any other while it runs.
 */
struct reactor_poller {
	int (*poll)(struct reactor_poller *p);
	uint64_t (*sleep)(struct reactor_poller *p);
	uint64_t (*look)(struct reactor_poller *p);
	void (*wake)(struct reactor_poller *p);
	const char *name; /* borrowed; shown by thread_get_stats */
	unsigned phase;	  /* lower ones first in a round; 0 is fine for most */
	uint32_t nap_ns; /* the poller's: its clients go on for so long without it; an idle, adaptive reactor may nap */
	bool armed;   /* the reactor's: sleep() gave its word, wake() is due */
	bool limited; /* likewise: it was not REACTOR_SLEEP_FOREVER */
	struct list node;
	uint64_t busy_count; /* rounds that did work */
	uint64_t first_round; /* the reactor's count of rounds when it was added */
};
#define REACTOR_SLEEP_FOREVER UINT64_MAX
void reactor_poller_add(struct reactor *r, struct reactor_poller *p);
void reactor_poller_del(struct reactor *r, struct reactor_poller *p);

/*
 * Timers: one shot; @fire may start it again. Stop of a stopped timer is harmless. One that fires is no work to spin
 * for: what it sets off is for a poller to say.
 */
struct reactor_timer {
	void (*fire)(struct reactor_timer *t);
	uint64_t deadline; /* reactor_now() */
	unsigned slot;	   /* place in the heap + 1; 0: not armed */
	struct reactor *reactor;
};
/* -ENOMEM: the heap could not grow. Starting an armed timer moves it. */
int reactor_timer_start(struct reactor *r, struct reactor_timer *t,
			uint64_t ns);
void reactor_timer_stop(struct reactor_timer *t);

/*
 * Descriptors: level-triggered epoll, looked at once in a while as the reactor spins (every ~20 us) and in its sleep.
 * The owner removes it before it closes the fd; removing inside @ready, also of another, is allowed.
 */
struct reactor_fd {
	int fd;
	uint32_t events; /* EPOLLIN | ... */
	void (*ready)(struct reactor_fd *f, uint32_t events);
	struct reactor *reactor; /* NULL: not added; del is harmless */
	struct list node; /* the owner's, to keep its descriptors in a list */
};
int reactor_fd_add(struct reactor *r, struct reactor_fd *f);
int reactor_fd_mod(struct reactor_fd *f, uint32_t events);
void reactor_fd_del(struct reactor_fd *f);

/*
 * Messages: run @fn on another reactor (or later on this one). Any thread. The sender
 * embeds the message and must not reuse it before @fn runs; @fn owns it. Intrusive
 * MPSC queue: sending cannot fail. Order from one sender to one reactor is kept.
 */
struct reactor_msg {
	struct reactor_msg *next;
	void (*fn)(struct reactor_msg *m);
};
void reactor_send(struct reactor *to, struct reactor_msg *m);

/*
 * Work that may block: @fn on a worker thread, then @done on the reactor that submitted it.
 * The submitter embeds it and keeps it alive until @done. Cannot fail: waits in the pool's queue.
 * Three pools exist: control (mmap, munmap, open), io (blocking disk calls), and close: for descriptors of clients that are not known
 * to be harmless, whose close may hang for as long as the client likes. Threads are bounded in each; work beyond them waits.
 * So whoever uses WORK_CLOSE has one work at a time per client, and lets that client wait for it.
 */
enum work_pool { WORK_CONTROL, WORK_IO, WORK_CLOSE };
/*
 * Works that may hang together, such as those of one disk. The pool takes flows in turn, and one may have a quarter of the
 * threads that are still free. It must outlive its works; no fini. Work without one is a flow of its own, without that limit.
 */
struct work_flow {
	struct list node, queue; /* the pool's, while there are works to do */
	unsigned running;
};
void work_flow_init(struct work_flow *f);
struct work {
	void (*fn)(struct work *w);
	void (*done)(struct work *w);
	struct reactor *origin; /* set by work_submit */
	struct reactor_msg msg;
	struct list node;
	struct work_flow *flow; /* likewise */
};
void work_submit(enum work_pool pool, struct work *w);
void work_submit_flow(enum work_pool pool, struct work_flow *f, struct work *w);

/* NUMA-local, zeroed, page-aligned memory of a reactor's node (libnuma where there is one). NULL: no memory. */
void *reactor_mem_alloc(const struct reactor *r, size_t len);
void reactor_mem_free(void *p, size_t len);

/* Counters for RPC: any thread, values may be a round old. Nanoseconds. */
struct reactor_stats {
	uint64_t busy_ns, idle_ns, sleeps, rounds;
};
void reactor_get_stats(const struct reactor *r, struct reactor_stats *out);
/* Call @fn for each poller of @r; control plane, on that reactor. */
void reactor_for_each_poller(struct reactor *r,
			     void (*fn)(const struct reactor_poller *p,
					void *arg),
			     void *arg);
enum reactor_idle reactor_idle_policy(void);
/* How long one spins after the last work, ns. UINT64_MAX: it never sleeps. */
uint64_t reactor_spin(void);

#endif
