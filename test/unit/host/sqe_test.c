/* SPDX-License-Identifier: BSD-3-Clause */
/* Entries and status texts. */
#include "unit.h"

#define P 4096ull

static const struct prp_case {
	const char *name;
	uint64_t iova;
	uint32_t len;
	bool list;
	uint64_t list_iova;
	int want;
	uint64_t prp2;
	unsigned entries;
} prp_cases[] = {
	{ "one page", 16 * P, 4096, false, 0, 0, 0, 0 },
	{ "part of a page", 16 * P + 512, 3584, false, 0, 0, 0, 0 },
	{ "two pages", 16 * P, 8192, false, 0, 0, 17 * P, 0 },
	{ "a block across two", 16 * P + 3840, 512, false, 0, 0, 17 * P, 0 },
	{ "nothing", 16 * P, 0, false, 0, 0, 0, 0 },
	{ "three pages, a list", 16 * P, 12288, true, P, 0, P, 2 },
	{ "offset makes three of two", 16 * P + 4, 8192, true, P, 0, P, 2 },
	{ "a list at a page's end", 16 * P, 12288, true, P - 16, 0, P - 16, 2 },
	{ "full list", 16 * P, 513 * 4096, true, P, 0, P, 512 },
	{ "a list too long", 16 * P, 513 * 4096 + 1, true, P, -E2BIG, 0, 0 },
	{ "it leaves the page", 16 * P, 16384, true, P - 16, -E2BIG, 0, 0 },
	{ "no list", 16 * P, 12288, false, 0, -EINVAL, 0, 0 },
	{ "list unaligned", 16 * P, 12288, true, P + 4, -EINVAL, 0, 0 },
	{ "data unaligned", 16 * P + 2, 512, true, P, -EINVAL, 0, 0 },
	{ "wraps", UINT64_MAX - 4095, 8192, true, P, -EINVAL, 0, 0 },
};

static void
prps(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(prp_cases); i++) {
		const struct prp_case *c = &prp_cases[i];
		uint64_t list[513] = { 0 }, first;
		struct belfry_sqe sqe;
		int err;

		belfry_sqe_rw(&sqe, true, 9, 0x123456789abull, 65536, 77);
		err = belfry_sqe_prp(&sqe, c->iova, c->len,
				     c->list ? list : NULL, c->list_iova);
		if (err != c->want)
			fail_msg("%s: %d", c->name, err);
		assert_int_equal(sqe.dw[0], 1 | 77 << 16);
		assert_int_equal(sqe.dw[1], 9);
		assert_int_equal(sqe.dw[10], 0x456789ab);
		assert_int_equal(sqe.dw[11], 0x123);
		assert_int_equal(sqe.dw[12], 65535);
		if (err)
			continue;
		assert_int_equal(sqe.dw[6] | (uint64_t)sqe.dw[7] << 32,
				 c->iova);
		assert_int_equal(sqe.dw[8] | (uint64_t)sqe.dw[9] << 32,
				 c->prp2);
		first = P - c->iova % P;
		for (unsigned k = 0; k < c->entries; k++)
			assert_int_equal(list[k], c->iova + first + k * P);
		assert_int_equal(list[c->entries], 0);
	}
}

static void
texts(void **state)
{
	assert_string_equal(belfry_status_str(2), "Invalid Field in Command");
	assert_string_equal(belfry_status_str(0x4002),
			    "Invalid Field in Command"); /* DNR set */
	assert_string_equal(belfry_status_str(0x281), "Unrecovered Read Error");
	assert_string_equal(belfry_status_str(0x7f), "unknown generic status");
	assert_string_equal(belfry_status_str(0x701), "vendor specific status");
	assert_string_equal(belfry_status_str(-5), "no status");
}

int
sqe_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prps),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests_name("sqe", tests, NULL, NULL);
}
