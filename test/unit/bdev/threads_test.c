/* SPDX-License-Identifier: BSD-3-Clause */
/* Several reactors on one device, which sleep when there is nothing to do. */
#include "unit.h"

#define REACTORS 2
#define DEPTH 4
#define TOTAL 3000
#define LEN (1u << 20)
#define TEARS 30000

struct lane {
	struct reactor_poller poller;
	struct reactor_msg start, end;
	struct reactor *reactor;
	struct bdev_ch *ch;
	struct unit_io io[DEPTH];
	void (*io_done)(struct bdev_io *io);
	uint8_t *buf;
	unsigned sent, done, failed;
	uint32_t random;
};

static struct lane lanes[REACTORS];
static struct bdev_desc *desc;
static struct bdev *measured;
static unsigned ended;
static struct reactor_timer watchdog, meter, turner;
static struct bdev_stats seen;
static uint64_t counted; /* in the histogram */

static void
send_one(struct lane *l, unsigned i)
{
	static const uint8_t ops[] = { BDEV_READ, BDEV_WRITE, BDEV_READ,
				       BDEV_FLUSH };
	uint8_t op = ops[l->sent++ % 4];
	struct unit_io *u = &l->io[i];

	l->random = l->random * 1664525 + 1013904223;
	unit_io(u, l->ch, op, (l->random >> 16) % (LEN / 4096) * 4096,
		l->buf + i * 8192 + (l->sent % 16 ? 0 : 4), 4096);
	u->io.done = l->io_done;
	bdev_submit(&u->io);
}

static void
end_lane(struct reactor_msg *m)
{
	if (++ended < REACTORS)
		return;
	bdev_get_stats(measured, &seen);
	counted = 0;
	for (size_t i = 0; bdev_histogram_shape(measured) &&
			   i < bdev_histogram_shape(measured)->buckets;
	     i++)
		counted += bdev_histogram_read(measured, i);
	bdev_close(desc);
	reactor_timer_stop(&watchdog);
	reactor_timer_stop(&meter);
	reactors_stop(0);
}

static void
io_done(struct bdev_io *io)
{
	struct lane *l = &lanes[reactor_index(reactor_self())];
	struct unit_io *u = container_of(io, struct unit_io, io);

	l->failed += io->err != 0;
	if (++l->done == TOTAL) {
		bdev_put_ch(l->ch);
		reactor_poller_del(l->reactor, &l->poller);
		l->end.fn = end_lane;
		reactor_send(reactor_get(0), &l->end);
	} else if (l->sent < TOTAL) {
		send_one(l, (unsigned)(u - l->io));
	}
}

static int
poll(struct reactor_poller *p)
{
	int n = bdev_kick();

	return n + bdev_reap();
}

static uint64_t
poll_sleep(struct reactor_poller *p)
{
	return bdev_sleep();
}

static void
poll_wake(struct reactor_poller *p)
{
	bdev_wake();
}

static void
start_lane(struct reactor_msg *m)
{
	struct lane *l = container_of(m, struct lane, start);

	l->poller = (struct reactor_poller){ .poll = poll,
					     .sleep = poll_sleep,
					     .wake = poll_wake,
					     .name = "t" };
	l->ch = bdev_get_ch(desc);
	reactor_poller_add(l->reactor, &l->poller);
	for (unsigned i = 0; i < DEPTH; i++)
		send_one(l, i);
}

static void
too_long(struct reactor_timer *t)
{
	reactors_stop(1);
}

/* Statistics are read while the others count. */
static void
measure(struct reactor_timer *t)
{
	bdev_get_stats(measured, &seen);
	bdev_reset_stats(measured, BDEV_RESET_MAXMIN);
	reactor_timer_start(reactor_get(0), t, 1000000);
}

static void
run(void)
{
	struct bdev_histogram_params p = { 7, 1u << BDEV_READ, 1000,
					   1000000000 };
	struct bdev_histogram *h;

	measured = bdev_of(desc);
	assert_int_equal(bdev_histogram_create(&p, &h), 0);
	assert_null(bdev_histogram_swap(measured, h));
	watchdog.fire = too_long;
	meter.fire = measure;
	reactor_timer_start(reactor_get(0), &watchdog, 60ull * 1000000000);
	reactor_timer_start(reactor_get(0), &meter, 1000000);
	ended = 0;
	for (unsigned i = 0; i < REACTORS; i++) {
		struct lane *l = &lanes[i];

		memset(l, 0, sizeof(*l));
		l->io_done = io_done;
		l->random = i;
		l->reactor = reactor_get(i);
		l->buf = aligned_alloc(4096, DEPTH * 8192);
		memset(l->buf, 0, DEPTH * 8192);
		l->start.fn = start_lane;
		reactor_send(l->reactor, &l->start);
	}
	assert_int_equal(reactors_run(), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		assert_int_equal(lanes[i].done, TOTAL);
		assert_int_equal(lanes[i].failed, 0);
		free(lanes[i].buf);
	}
	assert_int_equal(seen.ops[BDEV_READ], REACTORS * TOTAL / 2);
	assert_int_equal(counted, REACTORS * TOTAL / 2);
	assert_int_equal(seen.ops[BDEV_FLUSH], REACTORS * TOTAL / 4);
	assert_int_equal(seen.bytes[BDEV_WRITE],
			 REACTORS * TOTAL / 4 * 4096ull);
	assert_int_equal(seen.inflight, 0);
}

static void
start(void)
{
	unsigned cores[REACTORS] = { 0, 1 };
	struct reactor_config cfg = { .cores = cores,
				      .ncores = REACTORS,
				      .idle = REACTOR_IDLE_ADAPTIVE,
				      .spin_us = 20,
				      .no_pin = true };

	assert_int_equal(reactors_init(&cfg), 0);
	assert_int_equal(bdev_init(), 0);
}

/* Of unit_kind. */
static void
aio_on_two_reactors(void **state)
{
	struct unit_ctl u;

	start();
	assert_int_equal(unit_disk("a", unit_file("p", LEN), 512, &u), 0);
	assert_int_equal(bdev_open("a", true, NULL, NULL, &desc), 0);
	run();
	unit_teardown(NULL);
}

static void
uring_on_two_reactors(void **state)
{
	if (!unit_choose(UNIT_URING))
		skip();
	aio_on_two_reactors(state);
	unit_choose(UNIT_AIO);
}

static void
delay_on_two_reactors(void **state)
{
	struct bdev_delay_params p = { "d", "a", 20, 100, 20, 100, NULL };
	struct unit_ctl u;

	start();
	assert_int_equal(unit_disk("a", unit_file("p", LEN), 512, &u), 0);
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), 0);
	assert_int_equal(bdev_open("d", true, NULL, NULL, &desc), 0);
	run();
	unit_teardown(NULL);
}

static void
limits_set(struct bdev_ctl *c, int err)
{
	assert_int_equal(err, 0);
}

/* Limits come, change and go while both are at it. */
static void
turn_limits(struct reactor_timer *t)
{
	static const uint64_t rates[] = { 500000, 1, 0, 20000 };
	static struct bdev_ctl none;
	static unsigned turn;
	uint64_t limits[BDEV_LIMITS] = { 0 };

	limits[turn % BDEV_LIMITS] = rates[turn / BDEV_LIMITS % 4];
	turn++;
	none.done = limits_set;
	bdev_set_limits("a", limits, &none);
	reactor_timer_start(reactor_get(0), t, 300000);
}

static void
limits_on_two_reactors(void **state)
{
	struct unit_ctl u;

	start();
	assert_int_equal(unit_disk("a", unit_file("p", LEN), 512, &u), 0);
	assert_int_equal(bdev_open("a", true, NULL, NULL, &desc), 0);
	turner.fire = turn_limits;
	reactor_timer_start(reactor_get(0), &turner, 1000);
	run();
	reactor_timer_stop(&turner);
	while (bdev_open_count(bdev_find("a")))
		reactor_step(reactor_get(0)), reactor_step(reactor_get(1));
	unit_teardown(NULL);
}

/* One block, written and read at once by both: never of two minds. */
static int
tear_poll(struct reactor_poller *p)
{
	struct lane *l = container_of(p, struct lane, poller);
	unsigned i = (unsigned)(l - lanes);

	if (l->done == TEARS)
		return 0;
	memset(l->buf, (int)(1 + i + l->done % 100 * REACTORS), 4096);
	l->failed += unit_rw(l->ch, BDEV_WRITE, 4096, l->buf, 4096) != 0;
	l->failed += unit_rw(l->ch, BDEV_READ, 4096, l->buf + 4096, 4096) != 0;
	for (unsigned k = 1; k < 4096; k++)
		l->failed += l->buf[4096 + k] != l->buf[4096];
	if (++l->done == TEARS) {
		bdev_put_ch(l->ch);
		l->end.fn = end_lane;
		reactor_send(reactor_get(0), &l->end);
	}
	return 1;
}

static void
start_tears(struct reactor_msg *m)
{
	struct lane *l = container_of(m, struct lane, start);

	l->poller = (struct reactor_poller){ .poll = tear_poll, .name = "t" };
	l->ch = bdev_get_ch(desc);
	reactor_poller_add(l->reactor, &l->poller);
}

static void
malloc_tears_no_block(void **state)
{
	struct bdev_malloc_params p = {
		.name = "m", .block_len = 4096, .num_blocks = 4, .numa = -1
	};
	struct unit_ctl u;

	start();
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
	assert_int_equal(bdev_open("m", true, NULL, NULL, &desc), 0);
	measured = bdev_of(desc);
	watchdog.fire = too_long;
	reactor_timer_start(reactor_get(0), &watchdog, 60ull * 1000000000);
	ended = 0;
	for (unsigned i = 0; i < REACTORS; i++) {
		memset(&lanes[i], 0, sizeof(lanes[i]));
		lanes[i].reactor = reactor_get(i);
		lanes[i].buf = calloc(2, 4096);
		lanes[i].start.fn = start_tears;
		reactor_send(lanes[i].reactor, &lanes[i].start);
	}
	assert_int_equal(reactors_run(), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		assert_int_equal(lanes[i].done, TEARS);
		assert_int_equal(lanes[i].failed, 0);
		reactor_poller_del(lanes[i].reactor, &lanes[i].poller);
		free(lanes[i].buf);
	}
	unit_teardown(NULL);
}

int
threads_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aio_on_two_reactors),
		cmocka_unit_test(uring_on_two_reactors),
		cmocka_unit_test(malloc_tears_no_block),
		cmocka_unit_test(delay_on_two_reactors),
		cmocka_unit_test(limits_on_two_reactors),
	};

	return cmocka_run_group_tests_name("bdev/threads", tests, NULL, NULL);
}
