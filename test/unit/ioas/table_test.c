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
	struct tleaf *last = NULL;
	uint32_t n = 0;

	for (unsigned p = 0; p < SPACE; p++) {
		if (!len[p])
			continue;
		assert_non_null(c.leaf);
		last = c.leaf;
		assert_int_equal(cursor_iova(c), p * 4096ull);
		assert_int_equal(cursor_extent(c)->len, len[p] * 4096ull);
		c = cursor_next(c);
		n++;
	}
	assert_null(c.leaf);
	assert_int_equal(t->count, n);
	assert_ptr_equal(t->tail, last);
}

/* From somewhere to the end of page @page, and from there on. */
static void
check_counts(const struct table *t, const uint32_t *len, unsigned page)
{
	unsigned first = rnd(page + 1), n = 0, rest = 0;

	for (unsigned p = 0; p < SPACE; p++) {
		if (len[p])
			n += p + len[p] > first && p <= page;
		if (len[p])
			rest += p + len[p] > page;
	}
	assert_int_equal(table_count(t, first * 4096ull, page * 4096ull + 4095),
			 n);
	assert_int_equal(table_count(t, page * 4096ull, UINT64_MAX), rest);
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
		if (i % 64 == 0)
			check_counts(t, len, rnd(SPACE));
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

/*
 * Large tables, where a search guesses. What is there is told by page: no two share one.
 */
#define PAGES 40000u

static const struct large_case {
	const char *name;
	uint64_t base;
	bool uneven; /* and some begin inside of their page */
	bool down;   /* the top leaf has 63, and what pads it */
} larges[] = {
	{ "even, at the bottom", 0, false, false },
	{ "even, in the middle", 1ull << 40, false, false },
	{ "even, at the top", -(uint64_t)PAGES * 4096, false, false },
	{ "even, from the top down", -(uint64_t)PAGES * 4096, false, true },
	{ "uneven, in the middle", 1ull << 40, true, false },
	{ "uneven, at the top", -(uint64_t)PAGES * 4096, true, false },
};

static struct large {
	const struct large_case *c;
	struct table t;
	struct range {
		uint64_t iova, len;
	} has[PAGES];	       /* by its first page; len 0: none */
	uint32_t owner[PAGES]; /* first page of who has it, and one; 0: nobody */
} big;

static void
large_add(uint32_t page, uint32_t pages, uint32_t sub)
{
	struct range *r = &big.has[page];
	struct extent e = { 0 };

	r->iova = big.c->base + page * 4096ull + sub;
	r->len = e.len = pages * 4096ull - sub;
	assert_int_equal(table_insert(&big.t, r->iova, &e), 0);
	for (uint32_t i = 0; i < pages; i++)
		big.owner[page + i] = page + 1;
}

static void
large_drop(uint32_t page)
{
	table_remove(&big.t, big.has[page].iova);
	big.has[page].len = 0;
	for (uint32_t i = page; i < PAGES && big.owner[i] == page + 1; i++)
		big.owner[i] = 0;
}

static void
large_look(uint32_t page)
{
	uint64_t iova = big.c->base + page * 4096ull + rnd(4096), start = 0;
	uint32_t owner = big.owner[page];
	const struct range *r = owner ? &big.has[owner - 1] : NULL;
	const struct extent *e = table_lookup(&big.t, iova, &start);

	if (!r || iova < r->iova) {
		assert_null(e);
		return;
	}
	assert_non_null(e);
	assert_int_equal(start, r->iova);
	assert_int_equal(e->len, r->len);
}

static void
large_look_all(void)
{
	large_look(PAGES - 1); /* before a guess was wrong */
	for (uint32_t i = 0; i < PAGES; i++)
		large_look(i);
	for (uint32_t i = 0; i < 2 * PAGES; i++)
		large_look(rnd(PAGES));
}

static void
large_fill(bool uneven, bool down)
{
	uint32_t page = 0;

	for (; down && page < PAGES; page += 4)
		large_add(PAGES - 1 - page, 1, 0);
	if (down)
		return;
	/* the very last page too: its key is next to what pads a leaf */
	for (; page + 8 < PAGES; page += uneven ? 2 + rnd(6) : 4)
		large_add(page, uneven ? 1 + rnd(2) : 1 + page / 4 % 3,
			  uneven && !rnd(5) ? 512 : 0);
	large_add(PAGES - 1, 1, 0);
}

static void
guesses_are_right(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(larges); i++) {
		memset(&big, 0, sizeof(big));
		big.c = &larges[i];
		large_fill(big.c->uneven, big.c->down);
		assert_non_null(big.t.finger);
		large_look_all();
		/* the places in a leaf move, with and without splits and merges */
		for (uint32_t n = 0; n < 20000; n++) {
			uint32_t page = rnd(PAGES);

			if (big.has[page].len)
				large_drop(page);
			else if (!big.owner[page] && rnd(2))
				large_add(page, 1, 0);
			large_look(page);
			large_look((page + rnd(8)) % PAGES);
		}
		large_look_all();
		table_clear(&big.t);
	}
}

int
table_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_is_right),
		cmocka_unit_test(orders_are_right),
		cmocka_unit_test(ends_of_the_space),
		cmocka_unit_test(guesses_are_right),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
