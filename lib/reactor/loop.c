/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One round of a reactor, and what it does when there is nothing to do. Not for
 * starting and stopping: reactor.c.
 *
 * A round: messages, descriptors (now and then), timers, pollers. Control comes
 * first, so that a poller sees all that was told before.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "internal.h"

#define LOOK_NS 20000	  /* between looks at the descriptors: a system call */
#define MIN_SLEEP_NS 5000 /* shorter ones cost more than they save */
#define RETRY_SLEEP_NS 20000   /* after a poller forbade it */
#define NAP_AFTER_NS 2000      /* without work, on a core that others want */
#define TIMER_SLACK_NS 1000ul  /* else a nap is twice as long */
#define CROWD_LOOK_NS 20000000 /* between looks whether they do */
#define CROWD_NS 200000000     /* for so long it is believed */
#define CROWD_SWITCHES 2       /* between two looks */

/* One writer; readers on other threads want whole values, no order. */
static void
count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#define STILL_ROUNDS 4u /* without work: for so many the clock may stand */

/* Set the clock; the time since the last setting was @busy or idle. */
static void
set_clock(struct reactor *r, bool busy)
{
	uint64_t now = util_now_ns();

	count(busy ? &r->stats.busy_ns : &r->stats.idle_ns, now - r->now);
	r->now = now;
}

void
reactor_poller_add(struct reactor *r, struct reactor_poller *p)
{
	struct list *at;

	for (at = r->pollers.prev; at != &r->pollers; at = at->prev) {
		if (list_entry(at, struct reactor_poller, node)->phase <=
		    p->phase)
			break;
	}
	list_insert_before(at->next, &p->node);
	p->busy_count = 0;
	p->first_round = r->stats.rounds;
	p->armed = false;
}

void
reactor_poller_del(struct reactor *r, struct reactor_poller *p)
{
	if (r->cursor == &p->node)
		r->cursor = p->node.next;
	if (r->current == p)
		r->current = NULL;
	list_remove(&p->node);
}

/* The next poller of the walk. The body may remove any: see the cursor above. */
static struct reactor_poller *
next_poller(struct reactor *r)
{
	struct list *l = r->cursor;

	if (l == &r->pollers) {
		r->cursor = NULL;
		return NULL;
	}
	r->cursor = l->next;
	return list_entry(l, struct reactor_poller, node);
}

#define for_pollers(r, p) \
	for ((r)->cursor = (r)->pollers.next; (p = next_poller(r));)

static unsigned
pollers_run(struct reactor *r)
{
	struct reactor_poller *p;
	unsigned work = 0;

	for_pollers(r, p)
	{
		int n;

		r->current = p;
		n = p->poll(p);
		if (n <= 0)
			continue;
		work += (unsigned)n;
		if (r->current) /* it may have removed and freed itself */
			p->busy_count++;
	}
	r->current = NULL;
	return work;
}

/* Gives the work; @fired: the timers, which are none to stay awake for. */
static unsigned
round_run(struct reactor *r, bool busy, bool look, unsigned *fired)
{
	unsigned work;

	/* reading it takes longer than the rest of a round without work */
	if (busy || look || ++r->still >= STILL_ROUNDS) {
		set_clock(r, busy);
		r->still = 0;
	}
	count(&r->stats.rounds, 1);
	work = mailbox_run(r);
	if (look || (r->nfds && r->now >= r->next_look)) {
		r->next_look = r->now + LOOK_NS;
		work += events_serve(r);
	}
	*fired = r->next_timer <= r->now ? timers_run(r) : 0;
	return work + pollers_run(r);
}

/* Ask the pollers how long it may be. 0: not now, those asked may be armed. */
static uint64_t
arm_pollers(struct reactor *r)
{
	uint64_t ns = REACTOR_SLEEP_FOREVER, limit;
	struct reactor_poller *p;

	for_pollers(r, p)
	{
		if (!p->sleep)
			continue;
		r->current = p;
		limit = p->sleep(p);
		if (!limit)
			return 0;
		if (r->current) {
			p->armed = true;
			p->limited = limit != REACTOR_SLEEP_FOREVER;
		}
		ns = MIN(ns, limit);
	}
	return ns;
}

/* The sleep has passed. How long may the next one be? 0: a poller has work. */
static uint64_t
look_pollers(struct reactor *r)
{
	uint64_t ns = REACTOR_SLEEP_FOREVER, limit;
	struct reactor_poller *p;

	for_pollers(r, p)
	{
		if (!p->armed || !p->limited)
			continue;
		limit = p->look ? p->look(p) : 0;
		ns = MIN(ns, limit);
	}
	return ns;
}

static void
disarm_pollers(struct reactor *r)
{
	struct reactor_poller *p;

	for_pollers(r, p)
	{
		if (!p->armed)
			continue;
		p->armed = false;
		if (p->wake)
			p->wake(p);
	}
}

/* From now until the next timer, at most @limit. 0: not worth it. */
static uint64_t
sleep_len(const struct reactor *r, uint64_t limit)
{
	uint64_t ns = limit;

	if (r->next_timer != UINT64_MAX)
		ns = r->next_timer > r->now ? MIN(ns, r->next_timer - r->now)
					    : 0;
	return ns < MIN_SLEEP_NS ? 0 : ns;
}

/* And on, as long as it brings nothing: a look costs little, a round more. */
static void
sleep_on(struct reactor *r, uint64_t ns)
{
	while (ns && mailbox_empty(r) && !reactors_stopping()) {
		count(&r->stats.sleeps, 1);
		events_wait(r, ns);
		set_clock(r, false);
		if (r->ev_len || r->next_timer <= r->now)
			return;
		ns = sleep_len(r, look_pollers(r));
	}
}

/* Sleep if all agree. Gives the work that ended it; the clock is right after. */
static unsigned
sleep_once(struct reactor *r)
{
	unsigned work = 0;
	uint64_t ns;

	if (r->next_timer <= r->now)
		return 0;
	ns = sleep_len(r, arm_pollers(r));
	r->current = NULL;
	r->cursor = NULL;
	if (!ns) {
		r->next_sleep = r->now + RETRY_SLEEP_NS;
		disarm_pollers(r);
		return 0;
	}
	/*
	 * From here on a sender writes wakefd. One that pushed before saw 0 and
	 * did not, but then we see its message: reactor_send() has the other half.
	 */
	__atomic_store_n(&r->sleeping, 1, __ATOMIC_SEQ_CST);
	sleep_on(r, ns);
	__atomic_store_n(&r->sleeping, 0, __ATOMIC_SEQ_CST);
	r->next_look = r->now + LOOK_NS; /* the sleep was one */
	disarm_pollers(r);
	/*
	 * With shadow doorbells the message only wakes: the work is there to be seen, and somebody waits for
	 * it. Reading the message takes 20 us when all caches are cold.
	 */
	if (r->ev_len) {
		work = pollers_run(r);
		work += events_dispatch(r);
	}
	return work;
}

/* For how long the pollers can be left alone; 0: not at all. */
static uint64_t
pollers_nap(const struct reactor *r)
{
	const struct reactor_poller *p;
	uint64_t ns = 0;

	list_for_each(p, &r->pollers, node)
		ns = MAX(ns, p->nap_ns);
	return ns;
}

/* Is no core of the machine idle? Not known: no. */
static bool
cores_taken(const struct reactor *r)
{
	int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	char text[64] = "";
	unsigned running;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && sscanf(text, "%*s %*s %*s %u/", &running) == 1 &&
	       running >= r->ncpus;
}

/*
 * Are we preempted again and again while we spin, or is there no core for whoever wakes up? Then spinning
 * keeps this one from those that we wait for: an emulated guest and what serves its interrupts. The scheduler may well
 * put them all on another core, so that we are not preempted. It is found out anew now and then, spinning, for
 * naps are an invitation.
 */
static bool
core_crowded(struct reactor *r)
{
	uint64_t since = r->now - r->crowd_looked;
	struct rusage u;
	long n;

	if (r->now < r->crowded_until)
		return true;
	if (since < CROWD_LOOK_NS || getrusage(RUSAGE_THREAD, &u))
		return false;
	n = u.ru_nivcsw - r->preempted;
	r->preempted = u.ru_nivcsw;
	r->crowd_looked = r->now;
	if ((n < CROWD_SWITCHES || since >= 2 * CROWD_LOOK_NS) &&
	    !cores_taken(r))
		return false;
	r->crowded_until = r->now + CROWD_NS;
	return true;
}

void
reactor_loop(struct reactor *r)
{
	unsigned work = 0, fired = 0;
	uint64_t nap;

	reactor_current = r;
	r->in_round = true;
	r->ncpus = (unsigned)get_nprocs();
	if (r->adaptive)
		prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
	r->now = r->last_work = util_now_ns();
	while (!reactors_stopping()) {
		work = round_run(r, work + fired > 0, false, &fired);
		if (work)
			r->last_work = r->now;
		else if (r->adaptive && r->now - r->last_work >= r->spin_ns &&
			 r->now >= r->next_sleep) {
			work = sleep_once(r);
			if (work)
				r->last_work = r->now;
		} else if (r->adaptive &&
			   r->now - r->last_work >= NAP_AFTER_NS &&
			   (nap = pollers_nap(r)) && core_crowded(r)) {
			events_wait(r, nap);
			r->next_look = 0; /* what it found is served */
		}
	}
	r->in_round = false;
	reactor_current = NULL;
}

int
reactor_step(struct reactor *r)
{
	struct reactor *before = reactor_current;
	unsigned work, fired;

	reactor_current = r;
	r->in_round = true;
	if (!r->now)
		r->now = util_now_ns();
	work = round_run(r, false, true, &fired) + fired;
	r->in_round = false;
	reactor_current = before;
	return (int)MIN(work, (unsigned)INT32_MAX);
}

void
reactor_for_each_poller(struct reactor *r,
			void (*fn)(const struct reactor_poller *p, void *arg),
			void *arg)
{
	struct reactor_poller *p;

	list_for_each(p, &r->pollers, node)
		fn(p, arg);
}

void
reactor_get_stats(const struct reactor *r, struct reactor_stats *out)
{
	const struct reactor_stats *s = &r->stats;

	out->busy_ns = __atomic_load_n(&s->busy_ns, __ATOMIC_RELAXED);
	out->idle_ns = __atomic_load_n(&s->idle_ns, __ATOMIC_RELAXED);
	out->sleeps = __atomic_load_n(&s->sleeps, __ATOMIC_RELAXED);
	out->rounds = __atomic_load_n(&s->rounds, __ATOMIC_RELAXED);
}
