/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers: they run elsewhere, answer at home, and one that hangs holds up none. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

struct job {
	struct work w;
	pthread_t ran_on;
	int ran, done;
	sem_t *gate; /* waited for, when there is one */
};

static unsigned done;

static void
job_fn(struct work *w)
{
	struct job *j = container_of(w, struct job, w);
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigismember(&mask, SIGTERM));
	j->ran_on = pthread_self();
	j->ran++;
	if (j->gate)
		sem_wait(j->gate);
}

static void
job_done(struct work *w)
{
	struct job *j = container_of(w, struct job, w);

	assert_ptr_equal(reactor_self(), reactor_get(0));
	j->done++;
	done++;
}

static void
submit(struct job *j, enum work_pool pool)
{
	j->w.fn = job_fn;
	j->w.done = job_done;
	work_submit(pool, &j->w);
}

static void
step_until(unsigned n)
{
	for (unsigned i = 0; i < 20000 && done < n; i++) {
		reactor_step(reactor_get(0));
		usleep(100);
	}
	assert_int_equal(done, n);
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_POLL, 0);
	done = 0;
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static void
runs_elsewhere_answers_here(void **state)
{
	static const enum work_pool pool[] = { WORK_CONTROL, WORK_IO,
					       WORK_CLOSE };

	for (unsigned i = 0; i < 3; i++) {
		struct job j = { .gate = NULL };

		submit(&j, pool[i]);
		step_until(i + 1);
		assert_int_equal(j.ran, 1);
		assert_int_equal(j.done, 1);
		assert_false(pthread_equal(j.ran_on, pthread_self()));
		submit(&j, pool[i]); /* it may be used again */
		done--;
		step_until(i + 1);
		assert_int_equal(j.ran, 2);
	}
}

/* One less than the pool can have hang: work goes on. */
static void
goes_round_the_hung(void **state)
{
	static const struct {
		enum work_pool pool;
		unsigned hung;
	} rows[] = { { WORK_CONTROL, 3 }, { WORK_IO, 31 }, { WORK_CLOSE, 63 } };

	for (unsigned k = 0; k < 3; k++) {
		struct job stuck[63] = { 0 }, j[20] = { 0 };
		sem_t gate;

		done = 0;
		sem_init(&gate, 0, 0);
		for (unsigned i = 0; i < rows[k].hung; i++) {
			stuck[i].gate = &gate;
			submit(&stuck[i], rows[k].pool);
		}
		for (unsigned i = 0; i < 20; i++)
			submit(&j[i], rows[k].pool);
		step_until(20);
		for (unsigned i = 0; i < rows[k].hung; i++) {
			assert_int_equal(stuck[i].done, 0);
			sem_post(&gate);
		}
		step_until(20 + rows[k].hung);
		sem_destroy(&gate);
	}
}

/* All that can close hang: the other pools do not know. */
static void
hung_closes_hold_up_no_other_pool(void **state)
{
	struct job stuck[200] = { 0 }, j[2] = { 0 };
	sem_t gate;

	sem_init(&gate, 0, 0);
	for (unsigned i = 0; i < 200; i++) {
		stuck[i].gate = &gate;
		submit(&stuck[i], WORK_CLOSE);
	}
	submit(&j[0], WORK_CONTROL);
	submit(&j[1], WORK_IO);
	step_until(2);
	assert_int_equal(j[0].done + j[1].done, 2);
	for (unsigned i = 0; i < 200; i++)
		sem_post(&gate);
	step_until(202);
	sem_destroy(&gate);
}

/* With all of them hung the rest waits, in order, and is not lost. */
static void
queues_when_all_are_busy(void **state)
{
	struct job stuck[4] = { 0 }, j[100] = { 0 };
	sem_t gate;

	sem_init(&gate, 0, 0);
	for (unsigned i = 0; i < 4; i++) {
		stuck[i].gate = &gate;
		submit(&stuck[i], WORK_CONTROL);
	}
	for (unsigned i = 0; i < 100; i++)
		submit(&j[i], WORK_CONTROL);
	for (unsigned i = 0; i < 100; i++) {
		reactor_step(reactor_get(0));
		usleep(100);
	}
	assert_int_equal(done, 0);
	for (unsigned i = 0; i < 4; i++)
		sem_post(&gate);
	step_until(104);
	sem_destroy(&gate);
}

/* Ten flows that hang do not take the last thread. */
static void
hung_flows_leave_room(void **state)
{
	enum { FLOWS = 10, N = 100 };
	struct job stuck[FLOWS][N] = { 0 }, j[N] = { 0 };
	struct work_flow hung[FLOWS], good;
	sem_t gate;

	sem_init(&gate, 0, 0);
	work_flow_init(&good);
	for (unsigned f = 0; f < FLOWS; f++) {
		work_flow_init(&hung[f]);
		for (unsigned i = 0; i < N; i++) {
			stuck[f][i].gate = &gate;
			stuck[f][i].w.fn = job_fn;
			stuck[f][i].w.done = job_done;
			work_submit_flow(WORK_IO, &hung[f], &stuck[f][i].w);
		}
		usleep(10000);
		for (unsigned i = 0; i < N; i++) {
			j[i].w.fn = job_fn;
			j[i].w.done = job_done;
			work_submit_flow(WORK_IO, &good, &j[i].w);
		}
		step_until((f + 1) * N);
	}
	for (unsigned i = 0; i < FLOWS * N; i++)
		sem_post(&gate);
	step_until(2 * FLOWS * N);
	assert_int_equal(good.running, 0);
	sem_destroy(&gate);
}

static void
nothing(struct work *w)
{
}

static void
free_done(struct work *w)
{
	done++;
	free(container_of(w, struct job, w));
}

static void
resubmit_done(struct work *w)
{
	done++;
	w->done = free_done;
	work_submit(WORK_CONTROL, w);
}

/* Nothing is lost or leaked when the reactors end, nor what is added then. */
static void
finishes_before_the_end(void **state)
{
	for (unsigned i = 0; i < 50; i++) {
		struct job *j = calloc(1, sizeof(*j));

		assert_non_null(j);
		j->w.fn = nothing; /* also on our thread, at the end */
		j->w.done = resubmit_done;
		work_submit(i % 2 ? WORK_IO : WORK_CONTROL, &j->w);
	}
	reactors_fini();
	assert_int_equal(done, 100);
}

int
work_tests(void)
{
#define WORK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WORK_TEST(runs_elsewhere_answers_here),
		WORK_TEST(goes_round_the_hung),
		WORK_TEST(hung_closes_hold_up_no_other_pool),
		WORK_TEST(queues_when_all_are_busy),
		WORK_TEST(hung_flows_leave_room),
		WORK_TEST(finishes_before_the_end),
	};

	return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
