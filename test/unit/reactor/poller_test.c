/* SPDX-License-Identifier: BSD-3-Clause */
/* Pollers: order, and removals in the middle of a round. */
#include <stdlib.h>
#include <string.h>

#include "unit.h"

struct item {
	struct reactor_poller p;
	char name;
	int work;
	struct item *removes;
	struct item *adds;
};

static char calls[64];

static int
on_poll(struct reactor_poller *p)
{
	struct item *it = container_of(p, struct item, p);
	size_t n = strlen(calls);
	int work = it->work;

	calls[n] = it->name;
	calls[n + 1] = '\0';
	if (it->adds) {
		reactor_poller_add(reactor_self(), &it->adds->p);
		it->adds = NULL;
	}
	if (it->removes) {
		struct item *gone = it->removes;

		it->removes = NULL;
		reactor_poller_del(reactor_self(), &gone->p);
		free(gone);
	}
	return work;
}

static struct item *
make(char name, unsigned phase, int work)
{
	struct item *it = calloc(1, sizeof(*it));

	assert_non_null(it);
	it->p.poll = on_poll;
	it->p.phase = phase;
	it->p.name = "unit";
	it->name = name;
	it->work = work;
	return it;
}

static struct item *
add(char name, unsigned phase, int work)
{
	struct item *it = make(name, phase, work);

	reactor_poller_add(reactor_get(0), &it->p);
	return it;
}

static void
drop(struct item *it)
{
	reactor_poller_del(reactor_get(0), &it->p);
	free(it);
}

static const char *
step(int want)
{
	calls[0] = '\0';
	assert_int_equal(reactor_step(reactor_get(0)), want);
	return calls;
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_POLL, 0);
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static void
runs_by_phase_then_age(void **state)
{
	struct item *c = add('c', 2, 0), *a = add('a', 0, 0);
	struct item *d = add('d', 2, 0), *b = add('b', 1, 0);
	struct item *e = add('e', 9, 0), *f = add('A', 0, 0);

	assert_string_equal(step(0), "aAbcde");
	drop(c);
	assert_string_equal(step(0), "aAbde");
	drop(a);
	drop(b);
	drop(d);
	drop(e);
	drop(f);
	assert_string_equal(step(0), "");
}

static void
adds_up_work(void **state)
{
	struct item *a = add('a', 0, 3), *b = add('b', 0, 0);
	struct item *c = add('c', 0, -5), *d = add('d', 0, 4);

	step(7);
	step(7);
	assert_int_equal(a->p.busy_count, 2);
	assert_int_equal(b->p.busy_count, 0);
	assert_int_equal(c->p.busy_count, 0);
	assert_int_equal(d->p.busy_count, 2);
	drop(a);
	drop(b);
	drop(c);
	drop(d);
}

/* Row: who removes whom in a round of a, b, c; what then runs. */
static const struct removal_case {
	unsigned who, whom;
	const char *first, *second;
} removal_cases[] = {
	{ 0, 0, "abc", "bc" }, { 0, 1, "ac", "ac" },  { 0, 2, "ab", "ab" },
	{ 1, 0, "abc", "bc" }, { 1, 1, "abc", "ac" }, { 1, 2, "ab", "ab" },
	{ 2, 0, "abc", "bc" }, { 2, 1, "abc", "ac" }, { 2, 2, "abc", "ab" },
};

static void
removes_in_a_round(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(removal_cases); i++) {
		const struct removal_case *c = &removal_cases[i];
		struct item *it[] = { add('a', 0, 1), add('b', 0, 1),
				      add('c', 0, 1) };

		it[c->who]->removes = it[c->whom]; /* and frees it */
		assert_string_equal(step((int)strlen(c->first)), c->first);
		assert_string_equal(step(2), c->second);
		for (unsigned k = 0; k < 3; k++) {
			if (k != c->whom)
				drop(it[k]);
		}
	}
}

static void
adds_in_a_round(void **state)
{
	struct item *a = add('a', 1, 0);
	struct item *b = make('b', 1, 0), *z = make('z', 0, 0);
	struct item *m = add('m', 1, 0);

	a->adds = b; /* behind m, which has not run: this round still */
	assert_string_equal(step(0), "amb");
	a->adds = z; /* before: from the next round on */
	assert_string_equal(step(0), "amb");
	assert_string_equal(step(0), "zamb");
	drop(a);
	drop(b);
	drop(m);
	drop(z);
}

static void
count_poller(const struct reactor_poller *p, void *arg)
{
	assert_string_equal(p->name, "unit");
	++*(unsigned *)arg;
}

static void
lists_them(void **state)
{
	struct item *a = add('a', 0, 0), *b = add('b', 0, 0);
	unsigned n = 0;

	reactor_for_each_poller(reactor_get(0), count_poller, &n);
	assert_int_equal(n, 2);
	drop(a);
	drop(b);
}

int
poller_tests(void)
{
#define POLLER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		POLLER_TEST(runs_by_phase_then_age),
		POLLER_TEST(adds_up_work),
		POLLER_TEST(removes_in_a_round),
		POLLER_TEST(adds_in_a_round),
		POLLER_TEST(lists_them),
	};

	return cmocka_run_group_tests_name("poller", tests, NULL, NULL);
}
