/* SPDX-License-Identifier: BSD-3-Clause */
#include <sys/eventfd.h>
#include <unistd.h>

#include "spread_fx.h"

/* Rounds of reactor 0 and of reactor 1 in one round of the world; over several: the divisor. */
static const struct order {
	const char *name;
	unsigned every0, every1;
} orders[] = {
	{ "in step", 1, 1 },
	{ "home lags", 7, 1 },
	{ "elsewhere lags", 1, 7 },
	{ "elsewhere lags far", 1, 61 },
};
static const struct order *order;
static unsigned tick;

static void
round_of_both(void)
{
	tick++;
	if (tick % order->every0 == 0)
		reactor_step(reactor_get(0));
	if (tick % order->every1 == 0)
		reactor_step(reactor_get(1));
}

struct nvme_group *
spread_where(struct spread *s, unsigned qid)
{
	return s->g.ctrl->sqt[qid].group;
}

bool
spread_far(struct spread *s, unsigned qid)
{
	return spread_where(s, qid) && spread_where(s, qid)->far;
}

struct nvme_sqe
spread_rw(struct spread *s, uint8_t op, uint64_t lba)
{
	return guest_rw(&s->g, op, lba, 1, s->data, 512);
}

uint16_t
spread_cmd(struct spread *s, uint16_t qid, uint8_t op, uint64_t lba)
{
	return guest_cmd(&s->g, qid, spread_rw(s, op, lba), NULL);
}

/* Write on one queue, read on another: the data is the same. */
void
spread_check_io(struct spread *s, uint16_t from, uint16_t to)
{
	uint8_t *mem = guest_ptr(&s->g, s->data);
	static uint8_t seed;

	memset(mem, ++seed, 512);
	assert_int_equal(spread_cmd(s, from, SPREAD_WRITE, seed), 0);
	memset(mem, 0, 512);
	assert_int_equal(spread_cmd(s, to, SPREAD_READ, seed), 0);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(mem[i], seed);
}

uint32_t
spread_enable(struct spread *s, unsigned queues)
{
	uint32_t csts = guest_enable(&s->g, 32);

	for (uint16_t q = 1; csts == 1 && q <= queues; q++)
		assert_int_equal(guest_create_q(&s->g, q, 32, s->efd[1] >= 0),
				 0);
	return csts;
}

void
spread_hold(struct spread *s, uint16_t qid)
{
	unsigned n = fake_bdev_held(s->disk);

	fake_bdev_hold(s->disk, true);
	guest_submit(&s->g, qid, spread_rw(s, SPREAD_WRITE, 1));
	for (unsigned i = 0; i < 500 && fake_bdev_held(s->disk) == n; i++)
		guest_step(&s->g, 1);
	assert_int_equal(fake_bdev_held(s->disk), n + 1);
}

void
spread_release(struct spread *s)
{
	fake_bdev_hold(s->disk, false);
	fake_bdev_release(s->disk, 100, 0);
}

void
spread_removed(struct nvme_op *op, int err)
{
	assert_int_equal(err, 0);
	op->nsid = 0;
}

void
spread_done(void *arg)
{
	*(bool *)arg = true;
}

static void
start(struct spread *s, int kind)
{
	struct guest_opts opts = { .bdev = "disk", .round = round_of_both };
	int fds[9];

	memset(s, 0, sizeof(*s));
	s->disk = fake_bdev_create("disk", 512, SPREAD_BLOCKS,
				   FAKE_BDEV_ALL_CAPS);
	assert_non_null(s->disk);
	opts.trapped = opts.shadow = kind == TRAPPED;
	guest_init(&s->g, &opts);
	s->data = guest_alloc(&s->g, 4096);
	for (unsigned i = 0; i < 9; i++)
		s->efd[i] = -1;
	for (unsigned i = 0; kind == MSIX && i < 9; i++) {
		s->efd[i] = eventfd(0, EFD_NONBLOCK);
		fds[i] = dup(s->efd[i]);
	}
	if (kind == MSIX)
		assert_int_equal(irq_bind(s->g.irqs, IRQ_MSIX, 0, 9, fds), 0);
	assert_int_equal(spread_enable(s, 4), 1);
}

static void
deleted(struct bdev_ctl *c, int err)
{
	assert_int_equal(err, 0);
}

static void
end(struct spread *s)
{
	struct bdev_ctl c = { .done = deleted };
	struct nvme_core_stats stats;

	spread_release(s);
	guest_fini(&s->g);
	for (unsigned i = 0; i < 9; i++)
		if (s->efd[i] >= 0)
			close(s->efd[i]);
	bdev_delete("disk", NULL, &c);
	for (unsigned i = 0; i < 1000 && bdev_find("disk"); i++)
		round_of_both();
	assert_null(bdev_find("disk"));
	for (unsigned i = 0; i < 2; i++) {
		assert_true(list_empty(&core_of(reactor_get(i))->groups));
		assert_int_equal(core_of(reactor_get(i))->reqs.pledged, 0);
		nvme_core_get_stats(reactor_get(i), &stats);
		assert_int_equal(stats.io_queues, 0);
	}
}

void
spread_run(const struct scenario *c, size_t n)
{
	struct spread s;

	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < ARRAY_SIZE(orders); j++) {
			order = &orders[j];
			print_message("  %s, %s\n", c[i].name, order->name);
			start(&s, c[i].kind);
			c[i].run(&s);
			end(&s);
		}
	}
}

int
spread_setup(void **state)
{
	unsigned cores[2] = { 0, 1 };
	struct reactor_config cfg = { .cores = cores,
				      .ncores = 2,
				      .idle = REACTOR_IDLE_POLL,
				      .no_pin = true };

	if (reactors_init(&cfg) || bdev_init())
		return -1;
	return nvme_core_init(reactor_get(0)) || nvme_core_init(reactor_get(1));
}

int
spread_teardown(void **state)
{
	nvme_core_fini(reactor_get(0));
	nvme_core_fini(reactor_get(1));
	bdev_fini();
	reactors_fini();
	return 0;
}
