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
		T(base_takes_an_idle_stack_along),
		T(resize_goes_up),
		T(fails_as_often_as_told),
		T(corrupts_a_copy),
		T(pending_waits_for_clear_or_removal),
		T(failed_flush_passes),
	};

	return cmocka_run_group_tests_name("bdev/stacked", tests, NULL, NULL);
}
