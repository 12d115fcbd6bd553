/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The adaptive policy: it sleeps when all agree, for as long as they say, and
 * wakes by every source. Each test runs the real loop on a thread of its own.
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#define SPIN_US 200

static unsigned polls, sleeps, wakes; /* by reactor 0 */
static uint64_t answer;		      /* what its sleep() gives */
static bool work_to_do;

static int
on_poll(struct reactor_poller *p)
{
	polls++;
	return __atomic_load_n(&work_to_do, __ATOMIC_RELAXED);
}

static uint64_t
on_sleep(struct reactor_poller *p)
{
	if (answer)
		sleeps++;
	return answer;
}

static void
on_wake(struct reactor_poller *p)
{
	wakes++;
	assert_int_equal(wakes, sleeps); /* never without, never twice */
}

static uint64_t
forbid(struct reactor_poller *p)
{
	return 0;
}

static int
no_poll(struct reactor_poller *p)
{
	return 0;
}

static struct reactor_poller poller = { .poll = on_poll,
					.sleep = on_sleep,
					.wake = on_wake };

static void
stop_msg(struct reactor_msg *m)
{
	reactors_stop(0);
}

static void
stop_timer(struct reactor_timer *t)
{
	reactors_stop(0);
}

static void
stop_fd(struct reactor_fd *f, uint32_t events)
{
	reactors_stop(0);
}

static void
nap_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_ADAPTIVE, SPIN_US);
	polls = sleeps = wakes = 0;
	answer = REACTOR_SLEEP_FOREVER;
	work_to_do = false;
	reactor_poller_add(reactor_get(0), &poller);
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static struct reactor_stats
run(void)
{
	struct reactor_stats st;

	assert_int_equal(reactors_run(), 0);
	reactor_get_stats(reactor_get(0), &st);
	assert_int_equal(wakes, sleeps);
	return st;
}

static void *
send_later(void *arg)
{
	nap_ms(50);
	reactor_send(reactor_get(0), arg);
	return NULL;
}

static void
wakes_by_a_message(void **state)
{
	struct reactor_msg m = { .fn = stop_msg };
	struct reactor_stats st;
	pthread_t t;

	pthread_create(&t, NULL, send_later, &m);
	st = run();
	pthread_join(t, NULL);
	assert_in_range(st.sleeps, 1, 5);
	assert_true(st.idle_ns > 30000000);
}

static void *
stop_later(void *arg)
{
	nap_ms(50);
	reactors_stop(0);
	return NULL;
}

static void
wakes_by_stop(void **state)
{
	struct reactor_stats st;
	pthread_t t;

	pthread_create(&t, NULL, stop_later, NULL);
	st = run();
	pthread_join(t, NULL);
	assert_in_range(st.sleeps, 1, 5);
}

static void
wakes_by_a_timer(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	uint64_t start = util_now_ns();
	struct reactor_stats st;

	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 50000000), 0);
	st = run();
	assert_in_range(st.sleeps, 1, 5);
	assert_in_range(util_now_ns() - start, 50000000, 2000000000);
}

static void *
signal_later(void *arg)
{
	nap_ms(50);
	assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
	return NULL;
}

static void
wakes_by_a_descriptor(void **state)
{
	struct reactor_fd f = { .fd = eventfd(0, EFD_CLOEXEC),
				.events = EPOLLIN,
				.ready = stop_fd };
	struct reactor_stats st;
	pthread_t t;

	assert_int_equal(reactor_fd_add(reactor_get(0), &f), 0);
	pthread_create(&t, NULL, signal_later, &f.fd);
	st = run();
	pthread_join(t, NULL);
	assert_in_range(st.sleeps, 1, 5);
	reactor_fd_del(&f);
	close(f.fd);
}

static unsigned polls_before; /* a descriptor was served */

static void
count_wake(struct reactor_poller *p)
{
	on_wake(p);
	polls_before = polls;
}

static void
stop_polled_fd(struct reactor_fd *f, uint32_t events)
{
	polls_before = polls - polls_before;
	reactors_stop(0);
}

/* What woke it may only say that there is work: that comes before it is read. */
static void
polls_before_descriptors(void **state)
{
	struct reactor_fd f = { .fd = eventfd(0, EFD_CLOEXEC),
				.events = EPOLLIN,
				.ready = stop_polled_fd };
	pthread_t t;

	poller.wake = count_wake;
	assert_int_equal(reactor_fd_add(reactor_get(0), &f), 0);
	pthread_create(&t, NULL, signal_later, &f.fd);
	run();
	pthread_join(t, NULL);
	poller.wake = on_wake;
	assert_int_equal(polls_before, 1);
	reactor_fd_del(&f);
	close(f.fd);
}

static void
nap_fn(struct work *w)
{
	nap_ms(50);
}

static void
nap_done(struct work *w)
{
	reactors_stop(0);
}

static void
wakes_by_a_worker(void **state)
{
	struct work w = { .fn = nap_fn, .done = nap_done };
	struct reactor_stats st;

	work_submit(WORK_IO, &w);
	st = run();
	assert_in_range(st.sleeps, 1, 5);
}

/* A poller's limit is kept, and it is polled after each of its sleeps. */
static void
sleeps_as_long_as_it_may(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	struct reactor_stats st;

	answer = 2000000;
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 100000000), 0);
	st = run();
	assert_in_range(st.sleeps, 3, 60);
	assert_true(polls >= st.sleeps);
}

static unsigned looks, looks_left;

static uint64_t
on_look(struct reactor_poller *p)
{
	looks++;
	return looks_left && --looks_left == 0 ? 0 : 2000000;
}

/* A poller that can look is not polled for its limit's sake, nor disarmed, until it sees something. */
static void
sleeps_on_after_a_look(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	struct reactor_stats st;

	poller.look = on_look;
	looks = 0;
	looks_left = 5;
	answer = 2000000;
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 100000000), 0);
	st = run();
	poller.look = NULL;
	/* up to the fifth look, and to the timer */
	assert_in_range(sleeps, 2, 4);
	assert_in_range(looks, 6, 50);
	assert_in_range(st.sleeps, looks, looks + 2);
}

static unsigned ticks, first;

static void
tick(struct reactor_timer *t)
{
	if (++ticks == 1)
		first = polls;
	if (ticks == 20)
		reactors_stop(0);
	else
		reactor_timer_start(reactor_get(0), t, 5000000);
}

/* A timer is no work to spin for. */
static void
timers_do_not_keep_awake(void **state)
{
	struct reactor_timer t = { .fire = tick };
	uint64_t start = util_now_ns();
	struct reactor_stats st;

	reactors_fini();
	unit_init(1, REACTOR_IDLE_ADAPTIVE, 4000);
	reactor_poller_add(reactor_get(0), &poller);
	ticks = 0;
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 5000000), 0);
	st = run();
	assert_in_range(util_now_ns() - start, 95000000, 5000000000);
	assert_in_range(st.sleeps, 18, 100);
	assert_in_range(polls - first, 1, 200); /* not spun 20 times */
}

static void
stays_awake_when_forbidden(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	struct reactor_poller last = { .poll = no_poll, .sleep = forbid };
	struct reactor_stats st;

	reactor_poller_add(reactor_get(0), &last);
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 30000000), 0);
	st = run();
	assert_int_equal(st.sleeps, 0);
	assert_true(sleeps > 0); /* the first one was armed, and disarmed */
	reactor_poller_del(reactor_get(0), &last);
}

static void
stays_awake_with_work(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	struct reactor_stats st;

	work_to_do = true;
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 30000000), 0);
	st = run();
	assert_int_equal(st.sleeps, 0);
	assert_int_equal(sleeps, 0);
	assert_true(st.busy_ns > st.idle_ns);
	assert_true(poller.busy_count > 0);
}

static void
remove_in_sleep_fn(struct reactor_poller *p)
{
	fail_msg("wake of a poller that is gone");
}

static uint64_t
remove_in_sleep(struct reactor_poller *p)
{
	reactor_poller_del(reactor_self(), p);
	return REACTOR_SLEEP_FOREVER;
}

static void
removes_itself_in_sleep(void **state)
{
	struct reactor_timer t = { .fire = stop_timer };
	struct reactor_poller odd = { .poll = no_poll,
				      .sleep = remove_in_sleep,
				      .wake = remove_in_sleep_fn };

	reactor_poller_add(reactor_get(0), &odd);
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 10000000), 0);
	run();
	assert_true(list_empty(&odd.node));
}

static struct reactor_msg late = { .fn = stop_msg };

static uint64_t
send_in_sleep(struct reactor_poller *p)
{
	static bool sent;

	if (!sent)
		reactor_send(reactor_self(), &late);
	sent = true;
	return REACTOR_SLEEP_FOREVER;
}

/* A message that comes when it has looked, but does not yet sleep. */
static void
sees_a_message_at_the_last_moment(void **state)
{
	struct reactor_poller p = { .poll = no_poll, .sleep = send_in_sleep };

	reactor_poller_add(reactor_get(0), &p);
	assert_int_equal(run().sleeps, 0);
	reactor_poller_del(reactor_get(0), &p);
}

static uint64_t
stop_in_sleep(struct reactor_poller *p)
{
	reactors_stop(0);
	return REACTOR_SLEEP_FOREVER;
}

static void
sees_a_stop_at_the_last_moment(void **state)
{
	struct reactor_poller p = { .poll = no_poll, .sleep = stop_in_sleep };

	reactor_poller_add(reactor_get(0), &p);
	assert_int_equal(run().sleeps, 0);
	reactor_poller_del(reactor_get(0), &p);
}

/*
 * No wake-up is lost: two reactors that sleep after 1 us pass a message to and
 * fro; were one lost, this would hang.
 */
static struct reactor_msg ball;
static unsigned passes;

static void
pass(struct reactor_msg *m)
{
	unsigned i = reactor_index(reactor_self());

	if (++passes == 20000)
		reactors_stop(0);
	else
		reactor_send(reactor_get(!i), m);
}

static void
loses_no_wake_up(void **state)
{
	reactors_fini();
	unit_init(2, REACTOR_IDLE_ADAPTIVE, 1);
	passes = 0;
	ball.fn = pass;
	reactor_send(reactor_get(1), &ball);
	assert_int_equal(reactors_run(), 0);
	assert_int_equal(passes, 20000);
}

/* ---- a core that others want ---- */

static bool rival_ends;

static void *
rival(void *arg)
{
	while (!__atomic_load_n(&rival_ends, __ATOMIC_RELAXED))
		;
	return NULL;
}

#define RIVALS_MAX 64

/* Rivals on each core of @cpus. */
static unsigned
rivals_start(const cpu_set_t *cpus, pthread_t *threads)
{
	pthread_attr_t attr;
	cpu_set_t one;
	unsigned n = 0;

	rival_ends = false;
	for (int cpu = 0; cpu < CPU_SETSIZE && n < RIVALS_MAX; cpu++) {
		if (!CPU_ISSET(cpu, cpus))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_attr_init(&attr);
		pthread_attr_setaffinity_np(&attr, sizeof(one), &one);
		assert_int_equal(
			pthread_create(&threads[n++], &attr, rival, NULL), 0);
		pthread_attr_destroy(&attr);
	}
	return n;
}

/* How often the reactor gives its core away by itself within 400 ms, with rivals on it or on all others. */
static long
naps_beside_rivals(uint32_t nap_ns, bool on_it)
{
	pthread_t threads[RIVALS_MAX];
	cpu_set_t all, one, others;
	struct rusage before, after;
	struct reactor_timer t = { .fire = stop_timer };
	unsigned n;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	CPU_XOR(&others, &all, &one);
	unit_init(1, REACTOR_IDLE_ADAPTIVE, 10000000);
	polls = 0;
	poller.nap_ns = nap_ns;
	reactor_poller_add(reactor_get(0), &poller);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	n = rivals_start(on_it ? &one : &others, threads);
	assert_int_equal(reactor_timer_start(reactor_get(0), &t, 400000000), 0);
	getrusage(RUSAGE_THREAD, &before);
	assert_int_equal(reactors_run(), 0);
	getrusage(RUSAGE_THREAD, &after);
	__atomic_store_n(&rival_ends, true, __ATOMIC_RELAXED);
	while (n)
		pthread_join(threads[--n], NULL);
	sched_setaffinity(0, sizeof(all), &all);
	poller.nap_ns = 0;
	reactors_fini();
	return after.ru_nvcsw - before.ru_nvcsw;
}

static void
naps_where_it_is_in_the_way(void **state)
{
	assert_in_range(naps_beside_rivals(0, true), 0, 10);
	assert_true(naps_beside_rivals(30000, true) > 20);
}

/* It is not preempted, but who wakes up is in another one's way. */
static void
naps_where_no_core_is_left(void **state)
{
	cpu_set_t all;

	sched_getaffinity(0, sizeof(all), &all);
	if (CPU_COUNT(&all) < get_nprocs() || CPU_COUNT(&all) > RIVALS_MAX)
		skip(); /* not all are ours to take */
	assert_in_range(naps_beside_rivals(0, false), 0, 10);
	assert_true(naps_beside_rivals(30000, false) > 20);
}

int
idle_tests(void)
{
#define IDLE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		IDLE_TEST(wakes_by_a_message),
		IDLE_TEST(wakes_by_stop),
		IDLE_TEST(wakes_by_a_timer),
		IDLE_TEST(wakes_by_a_descriptor),
		IDLE_TEST(polls_before_descriptors),
		IDLE_TEST(wakes_by_a_worker),
		IDLE_TEST(sleeps_as_long_as_it_may),
		IDLE_TEST(sleeps_on_after_a_look),
		IDLE_TEST(timers_do_not_keep_awake),
		IDLE_TEST(stays_awake_when_forbidden),
		IDLE_TEST(stays_awake_with_work),
		IDLE_TEST(removes_itself_in_sleep),
		IDLE_TEST(sees_a_message_at_the_last_moment),
		IDLE_TEST(sees_a_stop_at_the_last_moment),
		IDLE_TEST(loses_no_wake_up),
		cmocka_unit_test(naps_where_it_is_in_the_way),
		cmocka_unit_test(naps_where_no_core_is_left),
	};

	return cmocka_run_group_tests_name("idle", tests, NULL, NULL);
}
