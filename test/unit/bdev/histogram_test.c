/* SPDX-License-Identifier: BSD-3-Clause */
/* Histograms of latency: where a value counts, what is counted. */
#include "unit.h"

#define ALL_OPS ((1u << BDEV_OPS) - 1)

/* As read by who decodes them: the first value of bucket @i of range @range. */
static uint64_t
start_of(unsigned granularity, unsigned range, uint64_t i)
{
	if (!range)
		return i;
	return (1ull << (granularity + range - 1)) + (i << (range - 1));
}

static const struct shape_case {
	uint8_t granularity;
	uint64_t min_ns, max_ns;
	int err;
	unsigned min_range, max_range;
} shape_cases[] = {
	{ 7, 1000, 120000000000, 0, 3, 30 }, /* the defaults of the RPC */
	{ 7, 0, UINT64_MAX, 0, 0, 57 },
	{ 7, 0, 1, 0, 0, 0 },
	{ 7, 0, 128, 0, 0, 0 },
	{ 7, 0, 129, 0, 0, 1 },
	{ 7, 127, 128, 0, 0, 0 },
	{ 7, 128, 129, 0, 1, 1 },
	{ 0, 0, UINT64_MAX, 0, 0, 64 },
	{ 0, 1, 2, 0, 1, 1 },
	{ 10, 0, UINT64_MAX, 0, 0, 54 },
	{ 11, 0, 1, -EINVAL, 0, 0 },
	{ 7, 5, 5, -EINVAL, 0, 0 },
	{ 7, 6, 5, -EINVAL, 0, 0 },
	{ 7, 0, 0, -EINVAL, 0, 0 },
	{ 255, 0, 1, -EINVAL, 0, 0 },
};

/* At both ends of each bucket, so a gap or an overlap would show. */
static void
values_find_their_bucket(void **state)
{
	struct unit_ctl c;
	struct bdev_null_params null = { .name = "n",
					 .block_len = 512,
					 .num_blocks = 8 };
	struct bdev *b;

	assert_int_equal(bdev_null_create(&null, unit_ctl(&c)), 0);
	b = bdev_find("n");
	assert_null(bdev_histogram_shape(b));
	for (size_t i = 0; i < ARRAY_SIZE(shape_cases); i++) {
		const struct shape_case *k = &shape_cases[i];
		struct bdev_histogram_params p = { k->granularity, ALL_OPS,
						   k->min_ns, k->max_ns };
		const struct bdev_histogram_shape *s;
		struct bdev_histogram *h;
		size_t n = 0;

		assert_int_equal(bdev_histogram_create(&p, &h), k->err);
		if (k->err)
			continue;
		bdev_histogram_free(bdev_histogram_swap(b, h));
		s = bdev_histogram_shape(b);
		assert_int_equal(s->granularity, k->granularity);
		assert_int_equal(s->min_range, k->min_range);
		assert_int_equal(s->max_range, k->max_range);
		for (unsigned r = s->min_range; r <= s->max_range; r++) {
			/* with one bucket a range, range 1 has the value 1 */
			for (uint64_t j = 0; j < 1ull << k->granularity; j++) {
				uint64_t at = start_of(k->granularity, r, j);
				uint64_t len = r ? 1ull << (r - 1) : 1;

				bdev_histogram_count(b, 0, BDEV_READ, at);
				bdev_histogram_count(b, 0, BDEV_READ,
						     at + len - 1);
				assert_int_equal(bdev_histogram_read(b, n++),
						 2);
			}
		}
		assert_int_equal(n, s->buckets);
		bdev_histogram_count(b, 0, BDEV_READ, UINT64_MAX);
		assert_int_equal(bdev_histogram_read(b, n - 1), 3);
		bdev_histogram_count(b, 0, BDEV_READ, 0);
		assert_true(bdev_histogram_read(b, 0) >= 3);
	}
}

static uint64_t
total(const struct bdev *b)
{
	const struct bdev_histogram_shape *s = bdev_histogram_shape(b);
	uint64_t sum = 0;

	for (size_t i = 0; i < s->buckets; i++)
		sum += bdev_histogram_read(b, i);
	return sum;
}

static void
put(struct bdev *b, uint8_t ops)
{
	struct bdev_histogram_params p = { 7, ops, 1000, 1000000000 };
	struct bdev_histogram *h;

	assert_int_equal(bdev_histogram_create(&p, &h), 0);
	bdev_histogram_free(bdev_histogram_swap(b, h));
}

static void
counts_what_succeeds(void **state)
{
	struct fake_bdev *f = fake_bdev_create("f", 512, 8, FAKE_BDEV_ALL_CAPS);
	struct bdev *b = bdev_find("f");
	struct bdev_stats s;
	uint8_t buf[512] = { 0 };
	struct unit_dev d;
	struct unit_io u;

	unit_open(&d, "f");
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	put(b, ALL_OPS);
	assert_int_equal(total(b), 0);
	fake_bdev_hold(f, true);
	unit_io(&u, d.ch, BDEV_READ, 0, buf, 512);
	reactor_step(reactor_get(0)); /* latencies are on the loop's clock */
	bdev_submit(&u.io);
	usleep(50000);
	reactor_step(reactor_get(0));
	fake_bdev_hold(f, false);
	assert_int_equal(fake_bdev_release(f, 1, 0), 1);
	assert_int_equal(total(b), 1);
	/* 50 ms are above 2^22 ns: not in the ranges up to 22 - 7 */
	for (size_t i = 0; i < (15u - 3 + 1) << 7; i++)
		assert_int_equal(bdev_histogram_read(b, i), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(total(b), 2);
	fake_bdev_fail(f, BDEV_READ, -EIO, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), -EIO);
	assert_int_equal(total(b), 2);
	/* extremes go on beside it, and are reset beside it */
	bdev_get_stats(b, &s);
	assert_int_equal(s.ops[BDEV_READ], 2);
	assert_true(s.max_ns[BDEV_READ] >= 50000000);
	bdev_reset_stats(b, BDEV_RESET_ALL);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	bdev_get_stats(b, &s);
	assert_int_equal(s.ops[BDEV_READ], 1);
	assert_true(s.max_ns[BDEV_READ] < 50000000);
	assert_int_equal(total(b), 3);

	put(b, 1u << BDEV_WRITE); /* a new one is empty */
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	assert_int_equal(total(b), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 512), 0);
	assert_int_equal(total(b), 1);
	bdev_histogram_free(bdev_histogram_swap(b, NULL));
	assert_null(bdev_histogram_shape(b));
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 512), 0);
	bdev_get_stats(b, &s);
	assert_int_equal(s.ops[BDEV_WRITE], 2);
	assert_true(s.min_ns[BDEV_WRITE] <= s.max_ns[BDEV_WRITE]);
	unit_close(&d);
}

int
histogram_tests(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)
	const struct CMUnitTest tests[] = {
		T(values_find_their_bucket),
		T(counts_what_succeeds),
	};

	return cmocka_run_group_tests_name("bdev/histogram", tests, NULL, NULL);
}
