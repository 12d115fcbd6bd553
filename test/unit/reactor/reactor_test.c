/* SPDX-License-Identifier: BSD-3-Clause */
/* The set of reactors: what init refuses, running, stopping, memory. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

static const struct init_case {
	const char *name;
	unsigned cores[3], n;
	bool no_pin;
	int want;
} init_cases[] = {
	{ "none", { 0 }, 0, true, -EINVAL },
	{ "too many", { 0 }, REACTOR_MAX + 1, true, -EINVAL },
	{ "absurdly many", { 0 }, UINT32_MAX, true, -EINVAL },
	{ "twice", { 4, 4 }, 2, true, -EINVAL },
	{ "twice, not side by side", { 4, 5, 4 }, 3, true, -EINVAL },
	{ "offline", { 1023 }, 1, false, -EINVAL },
	{ "beyond a cpu_set_t", { 1024 }, 1, false, -EINVAL },
	{ "beyond everything", { UINT32_MAX }, 1, false, -EINVAL },
	{ "unpinned, anything goes", { 1023, 0, 9 }, 3, true, 0 },
};

static void
refuses_bad_cores(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(init_cases); i++) {
		const struct init_case *c = &init_cases[i];
		struct reactor_config cfg = { .cores = c->cores,
					      .ncores = c->n,
					      .no_pin = c->no_pin };
		int err = reactors_init(&cfg);

		if (err != c->want)
			fail_msg("%s: %d", c->name, err);
		assert_int_equal(reactor_count(), err ? 0 : c->n);
		reactors_fini();
		assert_int_equal(reactor_count(), 0);
	}
}

static void
says_who_is_who(void **state)
{
	assert_null(reactor_self());
	assert_null(reactor_get(0));
	unit_init(3, REACTOR_IDLE_ADAPTIVE, 0);
	assert_int_equal(reactor_count(), 3);
	assert_null(reactor_get(3));
	assert_null(reactor_get(UINT32_MAX));
	assert_int_equal(reactor_index(reactor_get(2)), 2);
	assert_int_equal(reactor_core(reactor_get(2)), 2);
	assert_true(reactor_node(reactor_get(0)) >= -1);
	assert_ptr_equal(reactor_self(), reactor_get(0));
	assert_int_equal(reactor_idle_policy(), REACTOR_IDLE_ADAPTIVE);
	reactors_fini();
	assert_null(reactor_self());
}

static struct reactor *stepped;

static int
note_self(struct reactor_poller *p)
{
	stepped = reactor_self();
	assert_true(reactor_now() <= util_now_ns());
	assert_true(reactor_now() == reactor_now());
	return 0;
}

static void
lends_the_thread(void **state)
{
	struct reactor_poller p = { .poll = note_self };

	unit_init(2, REACTOR_IDLE_POLL, 0);
	reactor_poller_add(reactor_get(1), &p);
	reactor_step(reactor_get(1));
	assert_ptr_equal(stepped, reactor_get(1));
	assert_ptr_equal(reactor_self(), reactor_get(0));
	reactor_poller_del(reactor_get(1), &p);
	reactors_fini();
}

/* A message that goes round all reactors, then stops them. */
static struct reactor_msg ring;
static unsigned hops;
#define HOPS 400
static pthread_t seen[4];

static void
hop(struct reactor_msg *m)
{
	unsigned i = reactor_index(reactor_self());

	seen[i] = pthread_self();
	if (++hops == HOPS)
		reactors_stop(-7);
	else
		reactor_send(reactor_get((i + 1) % reactor_count()), m);
}

static void
runs_and_stops(void **state)
{
	static const enum reactor_idle idle[] = { REACTOR_IDLE_POLL,
						  REACTOR_IDLE_ADAPTIVE };

	for (unsigned k = 0; k < 2; k++) {
		struct reactor_stats st;

		hops = 0;
		/* 1 us: asleep at nearly every hop. */
		unit_init(4, idle[k], 1);
		ring.fn = hop;
		reactor_send(reactor_get(0), &ring);
		assert_int_equal(reactors_run(), -7);
		assert_int_equal(hops, HOPS);
		assert_true(pthread_equal(seen[0], pthread_self()));
		for (unsigned i = 1; i < 4; i++)
			assert_false(pthread_equal(seen[i], seen[i - 1]));
		reactor_get_stats(reactor_get(1), &st);
		assert_true(st.rounds > 0);
		assert_true(st.busy_ns > 0);
		assert_true(k == 1 || st.sleeps == 0);
		reactors_fini();
	}
}

static void
pins(void **state)
{
	cpu_set_t before, now;
	unsigned core;
	struct reactor_config cfg = { .cores = &core, .ncores = 1 };

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (core = 0; !CPU_ISSET(core, &before); core++)
		;
	assert_int_equal(reactors_init(&cfg), 0);
	reactors_stop(0);
	assert_int_equal(reactors_run(), 0);
	reactors_fini();
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&before, &now)); /* ours is given back */
}

static void
stops_before_it_runs(void **state)
{
	unit_init(3, REACTOR_IDLE_ADAPTIVE, 0);
	reactors_stop(3);
	reactors_stop(4); /* the first counts */
	assert_int_equal(reactors_run(), 3);
	reactors_fini();
}

static void
on_alarm(int sig)
{
	reactors_stop(5);
}

/* From a signal handler, with all of them asleep for ever. */
static void
stops_by_a_signal(void **state)
{
	struct sigaction sa = { .sa_handler = on_alarm }, old;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL,
			       .sigev_signo = SIGTERM };
	struct itimerspec its = { .it_value.tv_nsec = 30000000 };
	timer_t t;

	assert_int_equal(sigaction(SIGTERM, &sa, &old), 0);
	unit_init(3, REACTOR_IDLE_ADAPTIVE, 100);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &t), 0);
	assert_int_equal(timer_settime(t, 0, &its, NULL), 0);
	assert_int_equal(reactors_run(), 5);
	timer_delete(t);
	sigaction(SIGTERM, &old, NULL);
	reactors_fini();
}

static void
gives_memory(void **state)
{
	static const size_t len[] = { 1, 4095, 4096, 4097, 1 << 20 };

	unit_init(1, REACTOR_IDLE_POLL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(len); i++) {
		const struct reactor *r = i & 1 ? NULL : reactor_get(0);
		uint8_t *p = reactor_mem_alloc(r, len[i]);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 4096, 0);
		assert_int_equal(p[0] | p[len[i] - 1], 0);
		memset(p, 0xa5, len[i]);
		reactor_mem_free(p, len[i]);
	}
	assert_null(reactor_mem_alloc(reactor_get(0), 0));
	assert_null(reactor_mem_alloc(reactor_get(0), SIZE_MAX));
	assert_null(reactor_mem_alloc(reactor_get(0), SIZE_MAX - 4095));
	assert_null(reactor_mem_alloc(reactor_get(0), SIZE_MAX / 2));
	reactor_mem_free(NULL, 4096);
	reactors_fini();
}

int
reactor_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_cores),
		cmocka_unit_test(says_who_is_who),
		cmocka_unit_test(lends_the_thread),
		cmocka_unit_test(runs_and_stops),
		cmocka_unit_test(pins),
		cmocka_unit_test(stops_before_it_runs),
		cmocka_unit_test(stops_by_a_signal),
		cmocka_unit_test(gives_memory),
	};

	return cmocka_run_group_tests_name("reactor", tests, NULL, NULL);
}
