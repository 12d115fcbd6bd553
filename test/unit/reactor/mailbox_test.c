/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages: order, ownership, many senders at once (for TSan, too). */
#include <pthread.h>
#include <stdlib.h>

#include "unit.h"

struct note {
	struct reactor_msg msg;
	unsigned from, seq;
};

static unsigned next_seq[8], received;

static void
take(struct reactor_msg *m)
{
	struct note *n = container_of(m, struct note, msg);

	assert_int_equal(n->seq, next_seq[n->from]);
	next_seq[n->from]++;
	received++;
	free(n); /* the message is ours */
}

static void
send_note(struct reactor *to, unsigned from, unsigned seq)
{
	struct note *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->msg.fn = take;
	n->from = from;
	n->seq = seq;
	reactor_send(to, &n->msg);
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_POLL, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(next_seq); i++)
		next_seq[i] = 0;
	received = 0;
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static void
keeps_order(void **state)
{
	struct reactor *r = reactor_get(0);

	assert_int_equal(reactor_step(r), 0);
	for (unsigned i = 0; i < 100; i++)
		send_note(r, 0, i);
	assert_int_equal(received, 0);
	assert_int_equal(reactor_step(r), 100);
	assert_int_equal(received, 100);
	assert_int_equal(reactor_step(r), 0);
}

static void
again(struct reactor_msg *m)
{
	if (++received < 5)
		reactor_send(reactor_self(), m);
}

/* One that sends itself again runs once a round, not for ever in one. */
static void
waits_for_the_next_round(void **state)
{
	struct reactor *r = reactor_get(0);
	struct reactor_msg m = { .fn = again };

	reactor_send(r, &m);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(reactor_step(r), 1);
		assert_int_equal(received, i);
	}
	assert_int_equal(reactor_step(r), 0);
}

static void
last(struct reactor_msg *m)
{
	received++;
}

static void
goes_between_reactors(void **state)
{
	struct reactor_msg m = { .fn = last };

	reactors_fini();
	unit_init(2, REACTOR_IDLE_POLL, 0);
	reactor_send(reactor_get(1), &m);
	assert_int_equal(reactor_step(reactor_get(0)), 0);
	assert_int_equal(received, 0);
	assert_int_equal(reactor_step(reactor_get(1)), 1);
	assert_int_equal(received, 1);
}

#define SENDERS 4
#define EACH 20000

static void *
sender(void *arg)
{
	unsigned from = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < EACH; i++)
		send_note(reactor_get(0), from, i);
	return NULL;
}

static void
takes_from_many_threads(void **state)
{
	struct reactor *r = reactor_get(0);
	pthread_t t[SENDERS];

	for (uintptr_t i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, sender, (void *)i),
				 0);
	while (received < SENDERS * EACH)
		reactor_step(r);
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(next_seq[i], EACH);
	}
	assert_int_equal(reactor_step(r), 0);
}

static void
runs_what_is_left_at_the_end(void **state)
{
	struct reactor *r = reactor_get(0);

	for (unsigned i = 0; i < 10; i++)
		send_note(r, 0, i);
	reactors_fini(); /* else LeakSanitizer tells */
	assert_int_equal(received, 10);
}

int
mailbox_tests(void)
{
#define MAILBOX_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		MAILBOX_TEST(keeps_order),
		MAILBOX_TEST(waits_for_the_next_round),
		MAILBOX_TEST(goes_between_reactors),
		MAILBOX_TEST(takes_from_many_threads),
		MAILBOX_TEST(runs_what_is_left_at_the_end),
	};

	return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
