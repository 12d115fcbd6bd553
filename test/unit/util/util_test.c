/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers, ranges, alignment, padding. */
#include <errno.h>
#include <string.h>

#include "belfry/guest.h"
#include "belfry/util.h"
#include "unit.h"

static const struct parse_case {
	const char *s;
	int want;
	uint64_t value;
} parse_cases[] = {
	{ "0", 0, 0 },
	{ "4096", 0, 4096 },
	{ "0x1000", 0, 4096 },
	{ "0XfF", 0, 255 },
	{ "010", 0, 10 }, /* not octal */
	{ "18446744073709551615", 0, UINT64_MAX },
	{ "0xffffffffffffffff", 0, UINT64_MAX },
	{ "18446744073709551616", -ERANGE, 0 },
	{ "18446744073709551620", -ERANGE, 0 },
	{ "0x10000000000000000", -ERANGE, 0 },
	{ "99999999999999999999999999", -ERANGE, 0 },
	{ "99999999999999999999999999x", -EINVAL, 0 },
	{ "", -EINVAL, 0 },
	{ "0x", -EINVAL, 0 },
	{ "0x0x1", -EINVAL, 0 },
	{ "x10", -EINVAL, 0 },
	{ "-1", -EINVAL, 0 },
	{ "+1", -EINVAL, 0 },
	{ " 1", -EINVAL, 0 },
	{ "1 ", -EINVAL, 0 },
	{ "1\n", -EINVAL, 0 },
	{ "1k", -EINVAL, 0 },
	{ "1f", -EINVAL, 0 },
	{ "0xg", -EINVAL, 0 },
	{ "1.0", -EINVAL, 0 },
	{ "\xb9", -EINVAL, 0 },
};

static void
parses_numbers(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(parse_cases); i++) {
		const struct parse_case *c = &parse_cases[i];
		uint64_t v = 12345;
		int got = util_parse_u64(c->s, &v);

		if (got != c->want || v != (c->want ? 12345 : c->value))
			fail_msg("\"%s\": %d, %llu", c->s, got,
				 (unsigned long long)v);
	}
}

static const struct parse_case size_cases[] = {
	{ "0", 0, 0 },
	{ "4096", 0, 4096 },
	{ "0x1000", 0, 4096 },
	{ "0x1b", 0, 27 },
	{ "64B", 0, 64 },
	{ "64k", 0, 65536 },
	{ "64K", 0, 65536 },
	{ "64kB", 0, 65536 },
	{ "64KiB", 0, 65536 },
	{ "512M", 0, 512ull << 20 },
	{ "256G", 0, 256ull << 30 },
	{ "256GiB", 0, 256ull << 30 },
	{ "256Gi", 0, 256ull << 30 },
	{ "64tib", 0, 64ull << 40 },
	{ "2P", 0, 2ull << 50 },
	{ "1.5G", 0, 3ull << 29 },
	{ "0.5KiB", 0, 512 },
	{ "1.0", 0, 1 },
	{ "16383.999999999999p", -EINVAL, 0 },
	{ "16383P", 0, 16383ull << 50 },
	{ "16384P", -ERANGE, 0 },
	{ "18446744073709551615", 0, UINT64_MAX },
	{ "18446744073709551616", -ERANGE, 0 },
	{ "18446744073709551615k", -ERANGE, 0 },
	{ "18014398509481983.5k", 0, UINT64_MAX - 511 },
	{ "", -EINVAL, 0 },
	{ "G", -EINVAL, 0 },
	{ "B", -EINVAL, 0 },
	{ "iB", -EINVAL, 0 },
	{ "5iB", -EINVAL, 0 },
	{ "5ki", 0, 5120 },
	{ "5kI", -EINVAL, 0 },
	{ "5kk", -EINVAL, 0 },
	{ "5kBB", -EINVAL, 0 },
	{ "5 k", -EINVAL, 0 },
	{ "5k ", -EINVAL, 0 },
	{ "-5k", -EINVAL, 0 },
	{ "+5k", -EINVAL, 0 },
	{ "5E", -EINVAL, 0 },
	{ "1e3", -EINVAL, 0 },
	{ "0.3", -EINVAL, 0 },
	{ "0.3k", -EINVAL, 0 },
	{ "1.", -EINVAL, 0 },
	{ ".5k", -EINVAL, 0 },
	{ "1.5.5k", -EINVAL, 0 },
	{ "1.-5k", -EINVAL, 0 },
	{ "1.0x8k", -EINVAL, 0 },
	{ "0x10k", -EINVAL, 0 },
	{ "1.0000000000000000000000000k", -EINVAL, 0 },
	{ "0000000000000000000000000000000000000000000000000001", -EINVAL, 0 },
};

static void
parses_sizes(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(size_cases); i++) {
		const struct parse_case *c = &size_cases[i];
		uint64_t v = 12345;
		int got = util_parse_size(c->s, &v);

		if (got != c->want || v != (c->want ? 12345 : c->value))
			fail_msg("\"%s\": %d, %llu", c->s, got,
				 (unsigned long long)v);
	}
}

static const struct range_case {
	uint64_t off, len, size;
	bool inside;
} range_cases[] = {
	{ 0, 0, 0, true },
	{ 0, 8, 8, true },
	{ 8, 0, 8, true },
	{ 0, 9, 8, false },
	{ 8, 1, 8, false },
	{ 9, 0, 8, false },
	{ 1, UINT64_MAX, 8, false },
	{ UINT64_MAX, 1, 8, false },
	{ UINT64_MAX, UINT64_MAX, UINT64_MAX, false },
	{ UINT64_MAX - 1, 2, 4096, false },
	{ UINT64_MAX, 0, UINT64_MAX, true },
};

static void
tests_ranges(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(range_cases); i++) {
		const struct range_case *c = &range_cases[i];

		if (range_inside(c->off, c->len, c->size) != c->inside)
			fail_msg("row %zu", i);
	}
}

static void
aligns_and_logs(void **state)
{
	assert_false(is_pow2(0));
	assert_true(is_pow2(1));
	assert_true(is_pow2(1ull << 63));
	assert_false(is_pow2(3));
	assert_false(is_pow2(UINT64_MAX));
	assert_int_equal(align_down(4097, 4096), 4096);
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(align_up(UINT64_MAX, 4096), 0);
	assert_int_equal(ilog2(1), 0);
	assert_int_equal(ilog2(4096), 12);
	assert_int_equal(ilog2(1ull << 63), 63);
}

static void
pads_fields(void **state)
{
	char f[9] = "########";

	util_pad_ascii(f, 8, "abc");
	assert_string_equal(f, "abc     ");
	util_pad_ascii(f, 8, "");
	assert_string_equal(f, "        ");
	util_pad_ascii(f, 8, "12345678");
	assert_string_equal(f, "12345678");
	util_pad_ascii(f, 4, "too long");
	assert_string_equal(f, "too 5678");
	util_pad_ascii(f, 0, "x");
	assert_string_equal(f, "too 5678");
}

static void
gives_random_bytes(void **state)
{
	uint8_t a[300] = { 0 }, b[300] = { 0 };

	assert_int_equal(util_random(a, sizeof(a)), 0);
	assert_int_equal(util_random(b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	/* The last bytes too: more than getrandom() promises in one call. */
	assert_memory_not_equal(a + 268, b + 268, 32);
	assert_int_equal(util_random(a, 0), 0);
}

static void
tells_time(void **state)
{
	uint64_t t = util_now_ns();

	assert_true(t > 0);
	assert_true(util_now_ns() >= t);
}

static void
copies_from_a_guest(void **state)
{
	uint8_t from[67], to[67] = { 0 };
	volatile uint32_t word = 7;

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 3);
	guest_copy(to, from + 1, 64);
	assert_memory_equal(to, from + 1, 64);
	assert_int_equal(to[64], 0);
	guest_store_release32(&word, 0x12345678);
	assert_int_equal(guest_load_acquire32(&word), 0x12345678);
	guest_store32(&word, 9);
	assert_int_equal(guest_load32(&word), 9);
}

int
util_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_numbers),
		cmocka_unit_test(parses_sizes),
		cmocka_unit_test(tests_ranges),
		cmocka_unit_test(aligns_and_logs),
		cmocka_unit_test(pads_fields),
		cmocka_unit_test(gives_random_bytes),
		cmocka_unit_test(tells_time),
		cmocka_unit_test(copies_from_a_guest),
	};

	return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
