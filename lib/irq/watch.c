/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch: nobody hangs in an eventfd's write, and no fd is closed under one.
 * Not for what a failed write means (irq.c).
 *
 * A client can clear O_NONBLOCK on the eventfd that it gave us and fill its counter: our write then
 * sleeps. The watchdog looks at all raising threads each millisecond; who is in the same
 * write twice gets a signal whose handler does nothing, but ends the write with EINTR.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "belfry/log.h"
#include "internal.h"

#define TICK_NS 1000000
#define QUIET_TICKS 20 /* then the watchdog parks */
#define PARKED_NS \
	20000000 /* without membarrier; with it, until somebody raises */
#define WATCH_SIGNAL (SIGRTMIN + 5)

struct member {
	struct list node;
	struct watch_slot *slot;
	pthread_t thread;
	uint64_t seen; /* the watchdog's */
};

__thread struct watch_slot watch_self;
uint32_t watch_parked;
static __thread struct member self;

static struct list members = LIST_INIT(members);
static pthread_mutex_t members_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t leave_key;
static bool membarrier_ok;

static pthread_t watchdog;
static bool watchdog_runs, watchdog_stop;

static void
nap(uint64_t ns)
{
	struct timespec ts = { .tv_nsec = (long)ns };

	nanosleep(&ts, NULL);
}

/* At the end of a thread that has raised. */
static void
member_leave(void *arg)
{
	struct member *m = arg;

	pthread_mutex_lock(&members_lock);
	list_remove(&m->node);
	m->slot->known = false;
	pthread_mutex_unlock(&members_lock);
}

static void
on_signal(int sig)
{
	(void)sig; /* to interrupt is all */
}

static void
watch_setup(void)
{
	struct sigaction sa = { .sa_handler = on_signal }; /* no SA_RESTART */

	sigemptyset(&sa.sa_mask);
	sigaction(WATCH_SIGNAL, &sa, NULL);
	pthread_key_create(&leave_key, member_leave);
	membarrier_ok = !syscall(SYS_membarrier,
				 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
				 0);
}

void
watch_join(void)
{
	sigset_t set;

	pthread_once(&once, watch_setup);
	sigemptyset(&set);
	sigaddset(&set, WATCH_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	self.slot = &watch_self;
	self.thread = pthread_self();
	self.seen = 0;
	pthread_setspecific(leave_key, &self);
	pthread_mutex_lock(&members_lock);
	list_push_back(&members, &self.node);
	watch_self.known = true;
	pthread_mutex_unlock(&members_lock);
}

void
watch_wake(void)
{
	if (__atomic_exchange_n(&watch_parked, 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &watch_parked, FUTEX_WAKE_PRIVATE, INT_MAX,
			NULL, NULL, 0);
}

/* Its end stores first and looks whether it is parked then; we, the other way round. */
static bool
watch_ends(void)
{
	return __atomic_load_n(&watchdog_stop, __ATOMIC_SEQ_CST);
}

/* Gives whether anybody raised since the last look. */
static bool
watch_look(void)
{
	bool active = false;
	struct member *m;
	uint64_t seq;

	pthread_mutex_lock(&members_lock);
	list_for_each(m, &members, node) {
		seq = __atomic_load_n(&m->slot->seq, __ATOMIC_RELAXED);
		if (seq == m->seen && (seq & 1))
			pthread_kill(m->thread,
				     WATCH_SIGNAL); /* again each tick */
		active |= seq != m->seen || (seq & 1);
		m->seen = seq;
	}
	pthread_mutex_unlock(&members_lock);
	return active;
}

/* Behind this, what other threads did before is seen here, and what we did by them. */
static bool
watch_barrier(void)
{
	return membarrier_ok &&
	       !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* Who raises after the barrier sees us parked, who did before is seen by the look. */
static void
watch_park(void)
{
	struct timespec ts = { .tv_nsec = PARKED_NS };
	bool exact;

	__atomic_store_n(&watch_parked, 1, __ATOMIC_SEQ_CST);
	exact = watch_barrier();
	if (!watch_look() && !watch_ends())
		syscall(SYS_futex, &watch_parked, FUTEX_WAIT_PRIVATE, 1,
			exact ? NULL : &ts, NULL, 0);
	__atomic_store_n(&watch_parked, 0, __ATOMIC_SEQ_CST);
}

static void *
watch_run(void *arg)
{
	unsigned quiet = 0;

	(void)arg;
	while (!watch_ends()) {
		if (watch_look())
			quiet = 0;
		else if (quiet < QUIET_TICKS)
			quiet++;
		if (quiet < QUIET_TICKS)
			nap(TICK_NS);
		else
			watch_park();
	}
	return NULL;
}

int
irq_watchdog_init(void)
{
	sigset_t all, before;
	int err;

	if (watchdog_runs)
		return 0;
	pthread_once(&once, watch_setup);
	watchdog_stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&watchdog, NULL, watch_run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		return -err;
	pthread_setname_np(watchdog, "irq_watchdog");
	watchdog_runs = true;
	return 0;
}

void
irq_watchdog_fini(void)
{
	if (!watchdog_runs)
		return;
	__atomic_store_n(&watchdog_stop, true, __ATOMIC_SEQ_CST);
	watch_wake();
	pthread_join(watchdog, NULL);
	watchdog_runs = false;
}

/* Is a member still where @m was at @seq? By the slot's address; it may have left. */
static bool
still_in(const struct watch_slot *slot, uint64_t seq)
{
	struct member *m;
	bool in = false;

	pthread_mutex_lock(&members_lock);
	list_for_each(m, &members, node)
		if (m->slot == slot)
			in = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) ==
			     seq;
	pthread_mutex_unlock(&members_lock);
	return in;
}

void
watch_quiesce(void)
{
	struct {
		const struct watch_slot *slot;
		uint64_t seq;
	} in[256];
	struct member *m;
	unsigned n = 0, i;
	bool more;

	pthread_once(&once, watch_setup);
	/* From here on, who does not show as inside sees the new fd. */
	if (!watch_barrier())
		nap(10 * TICK_NS);
	do {
		more = false;
		n = 0;
		pthread_mutex_lock(&members_lock);
		list_for_each(m, &members, node) {
			uint64_t seq = __atomic_load_n(&m->slot->seq,
						       __ATOMIC_ACQUIRE);

			if (!(seq & 1) ||
			    pthread_equal(m->thread, pthread_self()))
				continue;
			if (n == ARRAY_SIZE(in)) {
				more = true;
				break;
			}
			in[n].slot = m->slot;
			in[n++].seq = seq;
		}
		pthread_mutex_unlock(&members_lock);
		for (i = 0; i < n; i++)
			while (still_in(in[i].slot, in[i].seq))
				nap(50000);
	} while (more);
}
