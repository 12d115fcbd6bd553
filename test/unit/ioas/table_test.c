/* SPDX-License-Identifier: BSD-3-Clause */
/* The B+tree against an array that is searched from end to end. */
#include <stdlib.h>
#include <string.h>

#include "table.h"
#include "unit.h"

#define SPACE 3000u /* pages */

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* len[p]: of the extent that begins at page p; 0: none. */
static void
check_all(const struct table *t, const uint32_t *len)
{
	struct cursor c = table_first(t);
	uint32_t n = 0;

	for (unsigned p = 0; p < SPACE; p++) {
		if (!len[p])
			continue;
		assert_non_null(c.leaf);
		assert_int_equal(cursor_iova(c), p * 4096ull);
		assert_int_equal(cursor_extent(c)->len, len[p] * 4096ull);
		c = cursor_next(c);
		n++;
	}
	assert_null(c.leaf);
	assert_int_equal(t->count, n);
}

static void
check_at(const struct table *t, const uint32_t *len, unsigned page)
{
	struct cursor c = table_floor(t, page * 4096ull + 5);
	struct cursor from = table_from(t, page * 4096ull);
	int at = (int)page;
	bool covered;

	while (at >= 0 && !len[at])
		at--;
	if (at < 0) {
		assert_null(c.leaf);
	} else {
		assert_non_null(c.leaf);
		assert_int_equal(cursor_iova(c), at * 4096ull);
	}
	covered = at >= 0 && page - (unsigned)at < len[at];
	if (!covered)
		for (at = (int)page; at < (int)SPACE && !len[at]; at++)
			;
	if (at == (int)SPACE)
		assert_null(from.leaf);
	else
		assert_int_equal(cursor_iova(from), at * 4096ull);
	assert_int_equal(table_overlaps(t, page * 4096ull, 4096), covered);
}

static void
random_ops(uint32_t *len, struct table *t, unsigned rounds, unsigned grow)
{
	struct extent e = { 0 };

	for (unsigned i = 0; i < rounds; i++) {
		unsigned page = rnd(SPACE), n = 1 + rnd(3);

		if (rnd(100) < grow) {
			e.len = n * 4096ull;
			if (page + n > SPACE ||
			    table_overlaps(t, page * 4096ull, e.len))
				continue;
			assert_int_equal(table_insert(t, page * 4096ull, &e),
					 0);
			len[page] = n;
		} else if (len[page]) {
			table_remove(t, page * 4096ull);
			len[page] = 0;
		}
		check_at(t, len, rnd(SPACE));
	}
}

static void
random_is_right(void **state)
{
	uint32_t *len = calloc(SPACE, sizeof(*len));
	struct table t = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		random_ops(len, &t, 3000, i & 1 ? 80 : 8);
		check_all(&t, len);
	}
	table_clear(&t);
	assert_int_equal(t.count, 0);
	assert_null(table_first(&t).leaf);
	free(len);
}

static const struct order_case {
	const char *name;
	uint32_t start, step; /* mod N, step has no factor in common with it */
} orders[] = {
	{ "up", 0, 1 },
	{ "down", 99999, 99999 },
	{ "scattered", 7, 31337 },
};
#define N 100000u

/* In one order in, in another out; looked up when full and half empty. */
static void
orders_are_right(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		const struct order_case *in = &orders[i];
		const struct order_case *out =
			&orders[(i + 1) % ARRAY_SIZE(orders)];
		struct extent e = { .len = 4096 };
		struct table t = { 0 };
		uint64_t at = in->start;

		for (unsigned n = 0; n < N; n++, at = (at + in->step) % N)
			assert_int_equal(table_insert(&t, at * 8192, &e), 0);
		assert_int_equal(t.count, N);
		for (unsigned n = 0; n < N; n++) {
			struct cursor c = table_floor(&t, n * 8192ull + 5000);

			assert_int_equal(cursor_iova(c), n * 8192ull);
		}
		at = out->start;
		for (unsigned n = 0; n < N / 2; n++, at = (at + out->step) % N)
			table_remove(&t, at * 8192);
		for (unsigned n = 0; n < N / 2; n++, at = (at + out->step) % N)
			assert_int_equal(
				cursor_iova(table_floor(&t, at * 8192)),
				at * 8192);
		at = (out->start + (uint64_t)out->step * (N / 2)) % N;
		for (unsigned n = 0; n < N / 2; n++, at = (at + out->step) % N)
			table_remove(&t, at * 8192);
		assert_null(t.root);
		assert_null(t.finger);
	}
}

static void
ends_of_the_space(void **state)
{
	struct extent e = { .len = 4096 };
	struct table t = { 0 };
	uint64_t top = -4096ull;

	assert_null(table_floor(&t, 0).leaf);
	assert_null(table_from(&t, 0).leaf);
	assert_int_equal(table_insert(&t, top, &e), 0);
	assert_int_equal(cursor_iova(table_floor(&t, UINT64_MAX)), top);
	assert_null(table_floor(&t, top - 1).leaf);
	assert_int_equal(table_insert(&t, 0, &e), 0);
	assert_int_equal(cursor_iova(table_floor(&t, top - 1)), 0);
	assert_true(table_overlaps(&t, top, 4096));
	assert_false(table_overlaps(&t, 4096, top - 4096));
	assert_true(table_overlaps(&t, 4096, top - 4095));
	table_clear(&t);
}

int
table_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_is_right),
		cmocka_unit_test(orders_are_right),
		cmocka_unit_test(ends_of_the_space),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
