/* SPDX-License-Identifier: BSD-3-Clause */
/* delay and error: what they do, and how they follow their base. */
#include "unit.h"

static struct fake_bdev *base;
static struct unit_dev dev;

static struct bdev_ctl *
ctl(void)
{
	static struct unit_ctl u;

	return unit_ctl(&u);
}

static int
setup(void **state)
{
	unit_setup(state);
	base = fake_bdev_create("base", 512, 64, FAKE_BDEV_ALL_CAPS);
	assert_non_null(base);
	return 0;
}

static void
make_delay(uint64_t us)
{
	struct bdev_delay_params p = { "d", "base", us, us, us, us, NULL };

	assert_int_equal(bdev_delay_create(&p, ctl()), 0);
	unit_open(&dev, "d");
}

static void
make_error(void)
{
	struct bdev_error_params p = { .base = "base" };

	assert_int_equal(bdev_error_create(&p, ctl()), 0);
	unit_open(&dev, "EE_base");
}

static void
inject(int type, bool write, uint32_t num)
{
	struct bdev_error_inject i = { .read = !write,
				       .write = write,
				       .flush = write,
				       .type = type,
				       .num = num,
				       .corrupt_offset = 600,
				       .corrupt_value = 0xff };

	assert_int_equal(bdev_error_inject("EE_base", &i, ctl()), 0);
}

static void
refuses_parameters(void **state)
{
	struct bdev_delay_params p = { "d", "none", 1, 1, 1, 1, NULL };
	struct bdev_error_inject i = { .read = true, .num = 0 };
	struct bdev_error_params e = { .base = "none" };
	struct unit_ctl u;

	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), -ENODEV);
	assert_non_null(strstr(u.c.error, "none"));
	assert_int_equal(bdev_error_create(&e, unit_ctl(&u)), -ENODEV);
	e.base = NULL;
	assert_int_equal(bdev_error_create(&e, unit_ctl(&u)), -EINVAL);
	p.base = "base";
	p.avg_read_us = 2;
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), -EINVAL);
	p.avg_read_us = p.p99_read_us = UINT64_MAX;
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), -EINVAL);
	p.avg_read_us = p.p99_read_us = 1;
	p.name = "base";
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), -EEXIST);
	p.name = "d";
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), 0);
	p.name = "d2";
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), -EPERM);
	assert_string_equal(bdev_claimed_by(bdev_find("base")), "delay");
	unit_delete("d");
	assert_null(bdev_claimed_by(bdev_find("base")));
	make_error();
	assert_int_equal(bdev_error_inject("base", &i, unit_ctl(&u)), -ENODEV);
	assert_int_equal(bdev_error_inject("EE_base", &i, unit_ctl(&u)),
			 -EINVAL);
	i.num = 1;
	i.read = false;
	assert_int_equal(bdev_error_inject("EE_base", &i, unit_ctl(&u)),
			 -EINVAL);
	unit_close(&dev);
}

static void
delays(void **state)
{
	uint8_t buf[512] = { 0 };
	uint64_t start;

	make_delay(20000);
	start = util_now_ns();
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, buf, 512), 0);
	assert_true(util_now_ns() - start >= 20000000);
	start = util_now_ns();
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE_ZEROES, 0, NULL, 512), 0);
	assert_true(util_now_ns() - start >= 20000000);
	fake_bdev_fail(base, BDEV_WRITE, -ENOSPC, 1);
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE, 0, buf, 512), -ENOSPC);
	unit_close(&dev);
}

static void
delay_says_how_long_to_sleep(void **state)
{
	uint8_t buf[512];
	struct unit_io u;

	make_delay(50000);
	assert_true(bdev_sleep() == REACTOR_SLEEP_FOREVER);
	unit_io(&u, dev.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	assert_true(bdev_sleep() > 0 && bdev_sleep() <= 50000000);
	assert_int_equal(unit_wait(&u), 0);
	unit_close(&dev);
}

/* More I/Os than children, all at once, some of them as the base goes. */
static void
more_than_the_pool(void **state)
{
	enum { N = 1000 };
	struct unit_io *u = calloc(N, sizeof(*u));
	uint8_t buf[512] = { 0 };
	struct unit_ctl c;

	make_delay(100);
	fake_bdev_hold(base, true);
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], dev.ch, BDEV_WRITE, 0, buf, 512);
		bdev_submit(&u[i].io);
	}
	assert_true(fake_bdev_held(base) < N);
	assert_int_equal(fake_bdev_release(base, 10, 0), 10);
	assert_int_equal(bdev_delete("base", NULL, unit_ctl(&c)), -EINPROGRESS);
	assert_int_equal(dev.removes, 1);
	while (fake_bdev_release(base, 1, 0))
		;
	for (unsigned i = 0; i < N; i++) {
		int err = unit_wait(&u[i]);

		assert_true(err == 0 || err == -ENODEV);
	}
	assert_int_equal(u[0].io.err, 0);
	assert_int_equal(u[N - 1].io.err, -ENODEV);
	assert_int_equal(c.done, 0);
	unit_close(&dev); /* frees delay, which frees the base */
	assert_int_equal(c.done, 1);
	assert_null(bdev_first());
	free(u);
}

static void
hot_remove_with_io_in_flight(void **state)
{
	uint8_t buf[512];
	struct unit_io u;
	struct unit_ctl c;

	make_delay(20000);
	unit_io(&u, dev.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	assert_int_equal(bdev_delete("d", "delay", unit_ctl(&c)), -EINPROGRESS);
	assert_int_equal(unit_wait(&u), 0);
	assert_int_equal(c.done, 0);
	unit_close(&dev);
	assert_int_equal(c.done, 1);
	assert_non_null(bdev_find("base"));
	assert_int_equal(bdev_open_count(bdev_find("base")), 0);
}

/* Nobody waits an hour for it: not if it goes, nor if its base does. */
static void
hot_remove_ends_what_delay_holds(void **state)
{
	static const char *const which[] = { "d", "base" };
	uint8_t buf[512] = { 0 };
	struct unit_io u, later;
	struct unit_ctl c;

	for (unsigned i = 0; i < 2; i++) {
		make_delay(3600ull * 1000000);
		unit_io(&u, dev.ch, BDEV_READ, 0, buf, 512);
		bdev_submit(&u.io);
		fake_bdev_hold(base, true);
		unit_io(&later, dev.ch, BDEV_WRITE, 0, buf, 512);
		bdev_submit(&later.io);
		for (unsigned k = 0; k < 10; k++)
			unit_step();
		assert_int_equal(u.done, 0);
		assert_int_equal(bdev_delete(which[i], NULL, unit_ctl(&c)),
				 -EINPROGRESS);
		assert_int_equal(bdev_sleep(), 0);
		assert_int_equal(unit_wait(&u), 0);
		assert_int_equal(later.done, 0); /* the base has it */
		fake_bdev_release(base, 1, -ENOSPC);
		assert_int_equal(unit_wait(&later), -ENOSPC);
		fake_bdev_hold(base, false);
		unit_close(&dev);
		assert_int_equal(unit_answer(&c, -EINPROGRESS), 0);
	}
	assert_null(bdev_first());
}

/* Nobody uses the stack: it goes within the event of its base. */
static void
base_takes_an_idle_stack_along(void **state)
{
	struct bdev_error_params e = { .base = "d" };
	struct unit_ctl c;

	make_delay(1);
	unit_close(&dev);
	assert_int_equal(bdev_error_create(&e, ctl()), 0);
	assert_non_null(bdev_find("EE_d"));
	assert_int_equal(bdev_delete("base", NULL, unit_ctl(&c)), 0);
	assert_null(bdev_first());
	assert_int_equal(c.done, 0);
}

static void
resize_goes_up(void **state)
{
	uint8_t buf[512];

	make_delay(0);
	fake_bdev_resize(base, 128);
	assert_int_equal(dev.resizes, 1);
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 127 * 512, buf, 512), 0);
	unit_close(&dev);
}

static void
fails_as_often_as_told(void **state)
{
	uint8_t buf[512] = { 0 };

	make_error();
	inject(BDEV_INJECT_FAILURE, true, 2);
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, buf, 512), 0);
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE, 0, buf, 512), -EIO);
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE, 0, buf, 512), -EIO);
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE, 0, buf, 512), 0);
	assert_int_equal(fake_bdev_count(base, BDEV_WRITE), 1);
	inject(BDEV_INJECT_NOMEM, false, 5);
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, buf, 512), -ENOMEM);
	inject(BDEV_INJECT_CLEAR, false, 0);
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, buf, 512), 0);
	unit_close(&dev);
}

static void
corrupts_a_copy(void **state)
{
	uint8_t buf[1024], back[1024], zero[1024] = { 0 };

	make_error();
	memset(buf, 0x11, sizeof(buf));
	inject(BDEV_INJECT_CORRUPT, true, 1);
	assert_int_equal(unit_rw(dev.ch, BDEV_WRITE, 0, buf, 1024), 0);
	assert_int_equal(buf[600], 0x11); /* the client's */
	assert_int_equal(fake_bdev_data(base)[600], 0xee);
	inject(BDEV_INJECT_CORRUPT, false, 2);
	memcpy(back, zero, sizeof(back));
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, back, 1024), 0);
	assert_memory_equal(buf, back, 1024); /* twice corrupted is right */
	/* An offset that is not in the I/O changes nothing. */
	assert_int_equal(unit_rw(dev.ch, BDEV_READ, 0, back, 512), 0);
	assert_memory_equal(buf, back, 512);
	unit_close(&dev);
}

static void
pending_waits_for_clear_or_removal(void **state)
{
	uint8_t buf[512] = { 0 };
	struct unit_io u;
	struct unit_ctl c;

	make_error();
	inject(BDEV_INJECT_PENDING, false, 2);
	unit_io(&u, dev.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	for (unsigned i = 0; i < 100; i++)
		unit_step();
	assert_int_equal(u.done, 0);
	assert_true(bdev_sleep() <= 1000000);
	inject(BDEV_INJECT_CLEAR, false, 0);
	assert_int_equal(unit_wait(&u), -EIO);
	inject(BDEV_INJECT_PENDING, false, 1);
	u.done = 0;
	bdev_submit(&u.io);
	assert_int_equal(bdev_delete("base", NULL, unit_ctl(&c)), -EINPROGRESS);
	assert_int_equal(unit_wait(&u), -ENODEV);
	unit_close(&dev);
	assert_int_equal(c.done, 1);
	assert_null(bdev_first());
}

/* ---- cancelling ---- */

#define LONG_US 30000000u

static uint8_t data[512];

static void
held(struct unit_io *u)
{
	unit_io(u, dev.ch, BDEV_WRITE, 0, data, 512);
	bdev_submit(&u->io);
	for (unsigned i = 0; i < 10; i++)
		unit_step();
	assert_int_equal(u->done, 0);
}

static void
cancel(struct unit_io *u, bool want)
{
	assert_int_equal(bdev_cancel(&u->io), want);
	bdev_cancel(&u->io); /* once more does no harm */
	assert_int_equal(u->done, 0);
	if (want)
		assert_int_equal(bdev_sleep(), 0);
}

static void
gone(struct unit_io *u, int err)
{
	unit_step();
	assert_int_equal(u->done, 1);
	assert_int_equal(u->io.err, err);
	assert_int_equal(u->io.flags, 0);
	assert_false(bdev_cancel(&u->io));
}

static void
cancels_what_delay_holds(void **state)
{
	struct unit_io u, other;

	make_delay(LONG_US);
	held(&u);
	held(&other);
	cancel(&u, true);
	gone(&u, -ECANCELED);
	assert_int_equal(other.done, 0);
	cancel(&other, true);
	gone(&other, -ECANCELED);
	/* The base has it: that ends as it does, and is not held any more. */
	fake_bdev_hold(base, true);
	held(&u);
	cancel(&u, false);
	fake_bdev_release(base, 1, 0);
	gone(&u, 0);
	held(&u);
	cancel(&u, false);
	fake_bdev_release(base, 1, -ENOSPC);
	gone(&u, -ENOSPC);
	unit_close(&dev);
}

static void
cancels_what_waits_for_a_child(void **state)
{
	enum { N = 600 };
	struct unit_io *u = calloc(N, sizeof(*u));
	unsigned reached;

	make_error();
	inject(BDEV_INJECT_CORRUPT, true, N); /* with a copy each */
	fake_bdev_hold(base, true);
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], dev.ch, BDEV_WRITE, 0, data, 512);
		bdev_submit(&u[i].io);
	}
	reached = fake_bdev_held(base);
	assert_in_range(reached, 1, N - 2);
	for (unsigned i = 0; i < N - 1; i++)
		assert_int_equal(bdev_cancel(&u[i].io), i >= reached);
	unit_step();
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(u[i].done, i >= reached && i < N - 1);
	fake_bdev_release(base, reached, 0);
	fake_bdev_release(base, 1, 0); /* the last came after them */
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(unit_wait(&u[i]),
				 i >= reached && i < N - 1 ? -ECANCELED : 0);
	unit_close(&dev);
	free(u);
}

static void
cancels_what_is_pending(void **state)
{
	struct bdev_delay_params p = { "d",	"EE_base", LONG_US, LONG_US,
				       LONG_US, LONG_US,   NULL };
	struct unit_io u, other;

	make_error();
	inject(BDEV_INJECT_PENDING, true, 3);
	held(&u);
	held(&other);
	cancel(&u, true);
	gone(&u, -ECANCELED);
	assert_int_equal(other.done, 0);
	inject(BDEV_INJECT_CLEAR, true, 0);
	gone(&other, -EIO);
	unit_close(&dev);
	/* And in a stack. */
	assert_int_equal(bdev_delay_create(&p, ctl()), 0);
	unit_open(&dev, "d");
	inject(BDEV_INJECT_PENDING, true, 1);
	held(&u);
	cancel(&u, true);
	gone(&u, -ECANCELED);
	unit_close(&dev);
}

static void
cancels_what_waits_below_for_a_limit(void **state)
{
	uint64_t limits[BDEV_LIMITS] = { [BDEV_RW_IOS] = 1 };
	struct unit_io u, first;
	struct unit_ctl c;
	int err;

	make_delay(LONG_US);
	err = bdev_set_limits("base", limits, unit_ctl(&c));
	assert_int_equal(unit_answer(&c, err), 0);
	held(&first); /* by delay */
	held(&u);
	assert_int_equal(fake_bdev_count(base, BDEV_WRITE), 1);
	cancel(&u, true);
	gone(&u, -ECANCELED);
	cancel(&first, true);
	gone(&first, -ECANCELED);
	assert_int_equal(fake_bdev_count(base, BDEV_WRITE), 1);
	unit_close(&dev);
}

/* The base's failure passes through, and stays for who keeps no mark. */
static void
failed_flush_passes(void **state)
{
	struct bdev_desc *other;

	make_delay(0);
	assert_int_equal(bdev_open("d", false, NULL, NULL, &other), 0);
	assert_int_equal(unit_rw(dev.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	fake_bdev_fail(base, BDEV_FLUSH, -EIO, 1);
	assert_int_equal(unit_rw(dev.ch, BDEV_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(unit_rw(dev.ch, BDEV_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(bdev_flush_seq(other), 1);
	unit_close(&dev);
	bdev_close(other);
	unit_open(&dev, "d");
	assert_int_equal(unit_rw(dev.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	unit_close(&dev);
}

int
stacked_tests(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, unit_teardown)
	const struct CMUnitTest tests[] = {
		T(refuses_parameters),
		T(delays),
		T(delay_says_how_long_to_sleep),
		T(more_than_the_pool),
		T(hot_remove_with_io_in_flight),
		T(hot_remove_ends_what_delay_holds),
		T(base_takes_an_idle_stack_along),
		T(resize_goes_up),
		T(fails_as_often_as_told),
		T(corrupts_a_copy),
		T(pending_waits_for_clear_or_removal),
		T(cancels_what_delay_holds),
		T(cancels_what_waits_for_a_child),
		T(cancels_what_is_pending),
		T(cancels_what_waits_below_for_a_limit),
		T(failed_flush_passes),
	};

	return cmocka_run_group_tests_name("bdev/stacked", tests, NULL, NULL);
}
