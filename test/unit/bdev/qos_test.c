/* SPDX-License-Identifier: BSD-3-Clause */
/* Limits of a device's rate: what they hold back, what lets it go. */
#include "unit.h"

#define MS 1000000ull
#define MOST 100

static struct unit_dev dev;
static struct unit_io ios[MOST];
static uint8_t buf[65536];

static int
setup(void **state)
{
	unit_setup(state);
	assert_non_null(
		fake_bdev_create("base", 512, 4096, FAKE_BDEV_ALL_CAPS));
	unit_open(&dev, "base");
	return 0;
}

static int
teardown(void **state)
{
	if (dev.desc)
		unit_close(&dev);
	return unit_teardown(state);
}

static int
limit(const char *name, enum bdev_limit which, uint64_t rate)
{
	uint64_t limits[BDEV_LIMITS] = { 0 };
	struct unit_ctl u;

	limits[which] = rate;
	return unit_answer(&u, bdev_set_limits(name, limits, unit_ctl(&u)));
}

static void
submit(unsigned i, unsigned op, uint64_t len)
{
	unit_io(&ios[i], dev.ch, op, 0, op <= BDEV_WRITE ? buf : NULL,
		op == BDEV_FLUSH ? 0 : len);
	bdev_submit(&ios[i].io);
}

static unsigned
done(unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += ios[i].done;
	return sum;
}

/* Ends the first @n; gives how long that took. */
static uint64_t
wait_all(unsigned n, int err)
{
	uint64_t start = util_now_ns();

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(unit_wait(&ios[i]), err);
	return util_now_ns() - start;
}

static const struct {
	const char *name;
	enum bdev_limit which;
	uint64_t rate;
	unsigned op;
	uint32_t len;
	unsigned n, ms;
} cases[] = {
	{ "reads", BDEV_RW_IOS, 1000, BDEV_READ, 512, 100, 99 },
	{ "writes", BDEV_RW_IOS, 1000, BDEV_WRITE, 65536, 100, 99 },
	{ "a discard is an I/O", BDEV_RW_IOS, 500, BDEV_DISCARD, 512, 50, 98 },
	{ "so is zeroing", BDEV_RW_IOS, 500, BDEV_WRITE_ZEROES, 512, 50, 98 },
	{ "a flush is not", BDEV_RW_IOS, 1, BDEV_FLUSH, 0, 100, 0 },
	{ "bytes read", BDEV_RW_MBYTES, 10, BDEV_READ, 65536, 17, 100 },
	{ "bytes written", BDEV_RW_MBYTES, 10, BDEV_WRITE, 65536, 17, 100 },
	{ "reading", BDEV_R_MBYTES, 10, BDEV_READ, 65536, 17, 100 },
	{ "not by writing", BDEV_R_MBYTES, 1, BDEV_WRITE, 65536, 99, 0 },
	{ "writing", BDEV_W_MBYTES, 10, BDEV_WRITE, 65536, 17, 100 },
	{ "not by reading", BDEV_W_MBYTES, 1, BDEV_READ, 65536, 99, 0 },
	{ "zeroing has no bytes", BDEV_W_MBYTES, 1, BDEV_WRITE_ZEROES, 65536,
	  99, 0 },
	{ "higher than anybody is", BDEV_RW_IOS, BDEV_LIMIT_MAX, BDEV_READ, 512,
	  100, 0 },
	{ "likewise", BDEV_RW_MBYTES, BDEV_LIMIT_MAX, BDEV_READ, 65536, 100,
	  0 },
};

static void
keeps_the_rate(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t took, start;

		assert_int_equal(limit("base", cases[i].which, 0), 0);
		assert_int_equal(limit("base", cases[i].which, cases[i].rate),
				 0);
		start = util_now_ns();
		for (unsigned k = 0; k < cases[i].n; k++)
			submit(k, cases[i].op, cases[i].len);
		if (!cases[i].ms) /* did not wait at all */
			assert_int_equal(done(cases[i].n), cases[i].n);
		wait_all(cases[i].n, 0);
		took = util_now_ns() - start;
		/* what a burst makes of it; a busy machine may take longer */
		if (cases[i].ms && (took < (cases[i].ms - 6) * MS ||
				    took > (cases[i].ms + 400) * MS))
			fail_msg("%s: %llu us, not %u ms", cases[i].name,
				 (unsigned long long)(took / 1000),
				 cases[i].ms);
	}
}

static const struct {
	const char *name;
	uint64_t to;
} changes[] = { { "lifted", 0 }, { "raised", 1000000 } };

/* A minute of waiting ends with the limit. */
static void
change_lets_go(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
		uint64_t start = util_now_ns();

		assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
		for (unsigned k = 0; k < 60; k++)
			submit(k, k % 2 ? BDEV_READ : BDEV_WRITE, 512);
		for (unsigned k = 0; k < 10; k++)
			unit_step();
		assert_in_range(done(60), 1, 3);
		assert_int_equal(bdev_inflight(), 60 - done(60));
		assert_true(bdev_sleep() > 0 && bdev_sleep() <= 1000 * MS);
		assert_int_equal(limit("base", BDEV_RW_IOS, changes[i].to), 0);
		wait_all(60, 0);
		if (util_now_ns() - start > 900 * MS)
			fail_msg("%s: they waited", changes[i].name);
	}
	assert_true(bdev_sleep() == REACTOR_SLEEP_FOREVER);
	assert_int_equal(limit("base", BDEV_RW_IOS, 0), 0);
	unit_step();
	/* as if there had never been any */
	assert_true(dev.ch->submit == dev.ch->bdev->ops->submit);
	assert_false(dev.ch->qos.active);
}

/* From a million to two: those that follow wait for their time. */
static void
change_holds_back(void **state)
{
	uint64_t start;

	assert_int_equal(limit("base", BDEV_RW_IOS, 1000000), 0);
	submit(0, BDEV_READ, 512);
	wait_all(1, 0);
	assert_int_equal(limit("base", BDEV_RW_IOS, 20), 0);
	start = util_now_ns();
	for (unsigned k = 0; k < 3; k++)
		submit(k, BDEV_READ, 512);
	wait_all(3, 0);
	assert_in_range(util_now_ns() - start, 94 * MS, 900 * MS);
}

static void
reads_pass_writes(void **state)
{
	assert_int_equal(limit("base", BDEV_W_MBYTES, 1), 0);
	for (unsigned k = 0; k < 4; k++)
		submit(k, BDEV_WRITE, 65536);
	for (unsigned k = 4; k < 50; k++)
		submit(k, BDEV_READ, 65536);
	unit_step();
	assert_int_equal(done(50) - done(4), 46);
	assert_true(done(4) < 4);
	assert_int_equal(limit("base", BDEV_W_MBYTES, 0), 0);
	wait_all(50, 0);
}

static void
a_large_one_is_not_stuck(void **state)
{
	uint64_t start;

	assert_int_equal(limit("base", BDEV_R_MBYTES, 1), 0);
	start = util_now_ns();
	submit(0, BDEV_READ, 65536); /* 62 ms' worth: those after it pay */
	submit(1, BDEV_READ, 512);
	wait_all(1, 0);
	assert_true(util_now_ns() - start < 60 * MS || ios[1].done);
	wait_all(2, 0);
	assert_in_range(util_now_ns() - start, 57 * MS, 900 * MS);
}

static void
channels_come_and_go(void **state)
{
	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
	unit_close(&dev);
	assert_true(bdev_sleep() == REACTOR_SLEEP_FOREVER);
	unit_open(&dev, "base");
	submit(0, BDEV_READ, 512);
	submit(1, BDEV_READ, 512);
	wait_all(1, 0);
	assert_int_equal(ios[1].done, 0);
	assert_int_equal(limit("base", BDEV_RW_IOS, 0), 0);
	wait_all(2, 0);
	unit_close(&dev);
	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
}

static void
removal_ends_waiting(void **state)
{
	struct unit_ctl u;
	int err;

	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
	for (unsigned k = 0; k < 20; k++)
		submit(k, BDEV_READ, 512);
	unit_step();
	assert_in_range(done(20), 1, 2);
	err = bdev_delete("base", NULL, unit_ctl(&u));
	assert_int_equal(err, -EINPROGRESS);
	for (unsigned k = done(20); k < 20; k++)
		assert_int_equal(unit_wait(&ios[k]), -ENODEV);
	unit_close(&dev);
	assert_int_equal(unit_answer(&u, err), 0);
}

static void
cancelled(void **state)
{
	unsigned first;

	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
	for (unsigned k = 0; k < 20; k++)
		submit(k, k % 2 ? BDEV_READ : BDEV_WRITE, 512);
	unit_step();
	first = done(20);
	assert_in_range(first, 1, 2);
	for (unsigned k = 0; k < 20; k++)
		if (k != 7 && k != 8) /* a read and a write */
			assert_int_equal(bdev_cancel(&ios[k].io), !ios[k].done);
	assert_int_equal(done(20), first);
	assert_int_equal(bdev_sleep(), 0);
	unit_step();
	assert_int_equal(done(20), 18);
	for (unsigned k = 0; k < 20; k++) {
		if (k == 7 || k == 8)
			continue;
		assert_false(bdev_cancel(&ios[k].io));
		first -= !ios[k].io.err;
		assert_true(!ios[k].io.err || ios[k].io.err == -ECANCELED);
	}
	assert_int_equal(first, 0);
	assert_int_equal(ios[7].done + ios[8].done, 0);
	assert_int_equal(limit("base", BDEV_RW_IOS, 0), 0);
	assert_int_equal(unit_wait(&ios[7]), 0);
	assert_int_equal(unit_wait(&ios[8]), 0);
}

/* Some disks copy at once: what a lifted limit lets go is a megabyte a round. */
static void
let_go_in_parts(void **state)
{
	uint64_t none[BDEV_LIMITS] = { 0 };
	unsigned before, now, rounds;
	struct unit_ctl u;
	int err;

	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
	for (unsigned k = 0; k < MOST; k++)
		submit(k, BDEV_WRITE, sizeof(buf));
	unit_step();
	before = done(MOST);
	assert_in_range(before, 0, 1);
	err = bdev_set_limits("base", none, unit_ctl(&u));
	for (rounds = 0; before < MOST; rounds++) {
		assert_true(rounds < 1000);
		unit_step();
		now = done(MOST);
		assert_in_range(now - before, 0, (1 << 20) / sizeof(buf));
		before = now;
	}
	assert_int_equal(unit_answer(&u, err), 0);
	wait_all(MOST, 0);
}

/* Also while the change is on its way round the reactors. */
static void
removal_waits_for_a_change(void **state)
{
	uint64_t limits[BDEV_LIMITS] = { 5 };
	struct unit_ctl set, gone;
	int err, err2;

	unit_close(&dev);
	err = bdev_set_limits("base", limits, unit_ctl(&set));
	err2 = bdev_delete("base", NULL, unit_ctl(&gone));
	assert_int_equal(unit_answer(&gone, err2), 0);
	assert_int_equal(unit_answer(&set, err), 0);
	assert_null(bdev_find("base"));
}

/* Checked before it waited; it must not reach past the end afterwards. */
static void
shrinks_meanwhile(void **state)
{
	assert_int_equal(limit("base", BDEV_RW_IOS, 1), 0);
	submit(0, BDEV_READ, 512);
	unit_io(&ios[1], dev.ch, BDEV_READ, 4095 * 512, buf, 512);
	bdev_submit(&ios[1].io);
	wait_all(1, 0);
	bdev_set_len(bdev_find("base"), 4095 * 512);
	assert_int_equal(limit("base", BDEV_RW_IOS, 0), 0);
	assert_int_equal(unit_wait(&ios[1]), -ERANGE);
}

static void
refuses(void **state)
{
	uint64_t out[BDEV_LIMITS];

	assert_int_equal(limit("none", BDEV_RW_IOS, 1), -ENODEV);
	assert_int_equal(limit(NULL, BDEV_RW_IOS, 1), -ENODEV);
	assert_int_equal(limit("base", BDEV_RW_IOS, BDEV_LIMIT_MAX + 1),
			 -EINVAL);
	assert_int_equal(limit("base", BDEV_W_MBYTES, UINT64_MAX), -EINVAL);
	bdev_get_limits(bdev_find("base"), out);
	for (unsigned i = 0; i < BDEV_LIMITS; i++)
		assert_int_equal(out[i], 0);
	assert_int_equal(limit("base", BDEV_W_MBYTES, 7), 0);
	bdev_get_limits(bdev_find("base"), out);
	assert_int_equal(out[BDEV_W_MBYTES], 7);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
qos_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keeps_the_rate),
		TEST(change_lets_go),
		TEST(change_holds_back),
		TEST(reads_pass_writes),
		TEST(a_large_one_is_not_stuck),
		TEST(channels_come_and_go),
		TEST(removal_ends_waiting),
		TEST(cancelled),
		TEST(let_go_in_parts),
		TEST(removal_waits_for_a_change),
		TEST(shrinks_meanwhile),
		TEST(refuses),
	};

	return cmocka_run_group_tests_name("bdev/qos", tests, NULL, NULL);
}
