/* SPDX-License-Identifier: BSD-3-Clause */
/* Timers, against a naive model and at the edges of time. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"

#define MANY 300

struct alarm {
	struct reactor_timer t;
	unsigned fired;
	uint64_t again; /* ns; 0: do not */
	struct reactor_timer *stops;
};

static uint64_t last_deadline;
static unsigned total;

static void
on_fire(struct reactor_timer *t)
{
	struct alarm *a = container_of(t, struct alarm, t);

	assert_true(t->deadline <= reactor_now());
	assert_true(t->deadline >= last_deadline);
	last_deadline = t->deadline;
	a->fired++;
	total++;
	if (a->stops)
		reactor_timer_stop(a->stops);
	if (a->again)
		assert_int_equal(reactor_timer_start(reactor_self(), t,
						     a->again - 1),
				 0);
}

static void
pause_us(unsigned us)
{
	struct timespec ts = { 0, us * 1000l };

	nanosleep(&ts, NULL);
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_POLL, 0);
	last_deadline = 0;
	total = 0;
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static void
fires_once_when_due(void **state)
{
	struct reactor *r = reactor_get(0);
	struct alarm a = { .t.fire = on_fire };

	assert_int_equal(reactor_timer_start(r, &a.t, 2000000), 0);
	assert_int_equal(reactor_step(r), 0);
	assert_int_equal(a.fired, 0);
	pause_us(2100);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(a.fired, 1);
	assert_int_equal(a.t.slot, 0);
	assert_int_equal(reactor_step(r), 0);
}

static void
stops_and_moves(void **state)
{
	struct reactor *r = reactor_get(0);
	struct alarm a = { .t.fire = on_fire }, b = { .t.fire = on_fire };

	reactor_timer_stop(&a.t); /* never started */
	assert_int_equal(reactor_timer_start(r, &a.t, 0), 0);
	assert_int_equal(reactor_timer_start(r, &b.t, 3600000000000), 0);
	reactor_timer_stop(&a.t);
	reactor_timer_stop(&a.t);
	assert_int_equal(reactor_step(r), 0);
	assert_int_equal(reactor_timer_start(r, &b.t, 0), 0); /* nearer */
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(b.fired, 1);
	assert_int_equal(reactor_timer_start(r, &b.t, 0), 0);
	assert_int_equal(reactor_timer_start(r, &b.t, UINT64_MAX),
			 0); /* away */
	assert_int_equal(reactor_step(r), 0);
	reactor_timer_stop(&b.t);
}

/* now + ns must not wrap into the past. */
static void
survives_the_end_of_time(void **state)
{
	static const uint64_t far[] = { UINT64_MAX, UINT64_MAX - 1,
					UINT64_MAX / 2, 1ull << 62 };
	struct reactor *r = reactor_get(0);

	for (size_t i = 0; i < ARRAY_SIZE(far); i++) {
		struct alarm a = { .t.fire = on_fire };

		assert_int_equal(reactor_timer_start(r, &a.t, far[i]), 0);
		assert_int_equal(reactor_step(r), 0);
		assert_true(a.t.deadline >= far[i]);
		reactor_timer_stop(&a.t);
	}
}

static void
starts_itself_again(void **state)
{
	struct reactor *r = reactor_get(0);
	struct alarm a = { .t.fire = on_fire, .again = 1 };

	assert_int_equal(reactor_timer_start(r, &a.t, 0), 0);
	for (unsigned i = 1; i < 10; i++) {
		assert_int_equal(reactor_step(r), 1); /* once a round */
		assert_int_equal(a.fired, i);
	}
	reactor_timer_stop(&a.t);
}

static void
stops_another_while_firing(void **state)
{
	struct reactor *r = reactor_get(0);
	struct alarm b = { .t.fire = on_fire };
	struct alarm a = { .t.fire = on_fire, .stops = &b.t };

	assert_int_equal(reactor_timer_start(r, &a.t, 0), 0);
	assert_int_equal(reactor_timer_start(r, &b.t, 1), 0);
	pause_us(10);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(a.fired, 1);
	assert_int_equal(b.fired, 0);
}

/* Random starts, moves and stops; then all fire, in order, the stopped not. */
static void
keeps_the_order_of_many(void **state)
{
	struct alarm *a = calloc(MANY, sizeof(*a));
	struct reactor *r = reactor_get(0);
	bool armed[MANY] = { false };
	unsigned want = 0;

	srand(1);
	for (unsigned i = 0; i < 20 * MANY; i++) {
		unsigned k = (unsigned)rand() % MANY;

		a[k].t.fire = on_fire;
		armed[k] = rand() % 3 != 0;
		if (armed[k])
			assert_int_equal(
				reactor_timer_start(r, &a[k].t,
						    (uint64_t)rand() % 1000000),
				0);
		else
			reactor_timer_stop(&a[k].t);
	}
	for (unsigned k = 0; k < MANY; k++)
		want += armed[k];
	for (unsigned i = 0; i < 10000 && total < want; i++) {
		reactor_step(r);
		pause_us(10);
	}
	assert_int_equal(total, want);
	for (unsigned k = 0; k < MANY; k++)
		assert_int_equal(a[k].fired, armed[k]);
	free(a);
}

int
timer_tests(void)
{
#define TIMER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TIMER_TEST(fires_once_when_due),
		TIMER_TEST(stops_and_moves),
		TIMER_TEST(survives_the_end_of_time),
		TIMER_TEST(starts_itself_again),
		TIMER_TEST(stops_another_while_firing),
		TIMER_TEST(keeps_the_order_of_many),
	};

	return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
