/* SPDX-License-Identifier: BSD-3-Clause */
/* A core asleep, stepped by hand: what it sees of doorbells, and what it arms. */
#include "unit.h"

#define LOOK_MOST \
	950000u /* ns between looks: with timer slack still below 1 ms */

static const struct nvme_sqe flush = { .opcode = 0, .nsid = 1 };

static struct reactor_poller *
poller_of(struct guest *g)
{
	return &g->ctrl->group.core->poller;
}

/* Until it may sleep: for how long. */
static uint64_t
fall_asleep(struct guest *g)
{
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t ns = poller_of(g)->sleep(poller_of(g));

		if (ns)
			return ns;
		guest_step(g, 1);
	}
	fail_msg("it never sleeps");
	return 0;
}

static bool
sees_work(struct guest *g)
{
	uint64_t ns = poller_of(g)->look(poller_of(g));

	assert_true(ns <= LOOK_MOST);
	return !ns;
}

/* As the reactor goes on: one round. */
static void
wake(struct guest *g)
{
	poller_of(g)->wake(poller_of(g));
	guest_step(g, 1);
}

/* ---- mapped doorbells: what clients do while it sleeps ---- */

static void
nothing(struct guest *g)
{
}

static void
io(struct guest *g)
{
	guest_submit(g, 1, flush);
}

static void
last_io(struct guest *g)
{
	guest_submit(g, 8, flush);
}

static void
admin(struct guest *g)
{
	guest_submit(g, 0, (struct nvme_sqe){ .opcode = 0xa, .cdw10 = 7 });
}

static void
head(struct guest *g)
{
	struct nvme_cqe cqe;

	assert_true(guest_take(g, 3, &cqe)); /* left there before */
}

static void
room(struct guest *g)
{
	struct nvme_cqe cqe;

	assert_true(guest_take(g, 2, &cqe)); /* of the full queue */
}

static void
no_queue(struct guest *g)
{
	g->db[2 * 20] = 1;
}

static void
bad_tail(struct guest *g)
{
	g->db[2 * 4] = 9999;
}

static void
bad_head(struct guest *g)
{
	g->db[2 * 4 + 1] = 9999;
}

static const struct look_case {
	const char *name;
	void (*act)(struct guest *g);
	bool work;
	int answers; /* of this queue; -1: none comes */
} cases[] = {
	{ "nothing happens", nothing, false, -1 },
	{ "a tail moves", io, true, 1 },
	{ "the tail of the last queue moves", last_io, true, 8 },
	{ "the admin queue's tail moves", admin, true, 0 },
	{ "a head moves: nobody waits for that", head, false, -1 },
	{ "the head of a full queue moves", room, true, 2 },
	{ "a doorbell without a queue", no_queue, false, -1 },
	{ "a tail that is invalid is told", bad_tail, true, -1 },
	{ "a head that is invalid", bad_head, false, -1 },
};

/* Queue 2 is full and has one more command; queue 3 holds an answer. */
static void
prepare(struct guest *g)
{
	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(guest_create_q(g, q, q == 2 ? 4 : 16, false),
				 0);
	for (unsigned i = 0; i < 3; i++)
		guest_submit(g, 2, flush);
	guest_submit(g, 3, flush);
	guest_step(g, 10);
	guest_submit(g, 2, flush);
}

static void
test_look(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct look_case *c = &cases[i];
		struct nvme_cqe cqe;
		struct guest *g;

		print_message("  %s\n", c->name);
		assert_int_equal(world_setup(state), 0);
		g = &((struct world *)*state)->g;
		prepare(g);
		assert_true(fall_asleep(g) <= LOOK_MOST);
		assert_false(sees_work(g));
		c->act(g);
		assert_int_equal(sees_work(g), c->work);
		wake(g);
		if (c->answers >= 0)
			assert_true(guest_wait(g, (uint16_t)c->answers, &cqe));
		guest_step(g, 1); /* the pin goes down */
		assert_int_equal(g->ctrl->events.queued, c->act == bad_tail);
		/* and it sleeps again */
		assert_true(fall_asleep(g) <= LOOK_MOST);
		assert_false(sees_work(g));
		assert_int_equal(world_teardown(state), 0);
	}
}

/* The last moment is before the sleep: it is refused, and nothing is lost. */
static void
test_rung_before(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_cqe cqe;

	fall_asleep(g);
	wake(g);
	guest_submit(g, 1, flush);
	assert_int_equal(poller_of(g)->sleep(poller_of(g)), 0);
	guest_step(g, 2);
	assert_true(guest_take(g, 1, &cqe));
}

/* Woken by whatever, it serves at once what was rung meanwhile, however many queues are cold. */
static void
test_cold_and_woken(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_core *core = g->ctrl->group.core;
	struct nvme_cqe cqe;

	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(guest_create_q(g, q, 16, false), 0);
	for (uint16_t q = 1; q <= 8; q++) {
		fall_asleep(g);
		assert_int_equal(core->ncold, 9);
		guest_submit(g, q, flush);
		wake(g);
		guest_step(g, 1);
		assert_true(guest_take(g, q, &cqe));
		assert_int_equal(core->nhot, 1);
	}
}

/* While the pin is up it looks again and again: the head that takes it down may be mapped. */
static void
test_pin_is_up(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_cqe cqe;

	guest_submit(g, 1, flush);
	guest_step(g, 5);
	assert_true(g->ctrl->intx_level);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(fall_asleep(g) <= LOOK_MOST);
		assert_true(sees_work(g));
		wake(g);
		assert_true(g->ctrl->intx_level);
	}
	assert_true(guest_take(g, 1, &cqe));
	fall_asleep(g);
	assert_true(sees_work(g));
	wake(g);
	assert_false(g->ctrl->intx_level);
	fall_asleep(g);
	assert_false(sees_work(g));
}

/* Queues that come and go between two sleeps. */
static void
test_queues_change(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_sqe del_sq = { .opcode = 0, .cdw10 = 8 };
	struct nvme_sqe del_cq = { .opcode = 4, .cdw10 = 8 };
	struct nvme_cqe cqe;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(guest_create_q(g, 8, 16, false), 0);
		fall_asleep(g);
		guest_submit(g, 8, flush);
		assert_true(sees_work(g));
		wake(g);
		assert_true(guest_wait(g, 8, &cqe));
		assert_int_equal(guest_cmd(g, 0, del_sq, NULL), 0);
		assert_int_equal(guest_cmd(g, 0, del_cq, NULL), 0);
		guest_step(g, 1); /* the pin goes down */
		fall_asleep(g);
		g->db[2 * 8] = 1;
		assert_false(sees_work(g));
		wake(g);
		g->db[2 * 8] = 0;
	}
	guest_disable(g);
	assert_int_equal(fall_asleep(g), REACTOR_SLEEP_FOREVER);
	wake(g);
}

/* A store that is no work is looked into once, and hides none that comes after it in the same sleep. */
static void
test_twice_in_a_sleep(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_core *core = g->ctrl->group.core;
	struct nvme_cqe cqe;

	prepare(g);
	fall_asleep(g);
	assert_false(glance(core));
	head(g);
	no_queue(g);
	bad_head(g);
	assert_true(glance(core));
	assert_false(sees_work(g));
	assert_false(glance(core));
	last_io(g);
	assert_true(glance(core));
	assert_true(sees_work(g));
	wake(g);
	assert_true(guest_wait(g, 8, &cqe));
}

/* While it is awake a queue may go all around: the copy is another sleep's. */
static void
test_same_value_again(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_cqe cqe;

	assert_int_equal(guest_create_q(g, 2, 4, false), 0);
	fall_asleep(g);
	wake(g);
	for (unsigned i = 0; i < 3; i++) {
		guest_submit(g, 2, flush);
		assert_true(guest_wait(g, 2, &cqe));
	}
	fall_asleep(g);
	guest_submit(g, 2, flush); /* the tail is what it was at first */
	assert_true(sees_work(g));
	wake(g);
	assert_true(guest_wait(g, 2, &cqe));
}

/* Of two controllers, one with many queues and one with few; without memory for it, too. */
static void
test_two(void **state)
{
	struct guest *few = &((struct world *)*state)->g;
	struct guest_opts opts = { .bdev = NULL };
	struct nvme_core *core = few->ctrl->group.core;
	static struct guest many;
	struct nvme_cqe cqe;

	guest_init(&many, &opts);
	assert_int_equal(guest_enable(&many, 32), 1);
	for (uint16_t q = 1; q <= 8; q++)
		assert_int_equal(guest_create_q(&many, q, 16, false), 0);
	guest_step(&many, 1); /* the pin goes down */
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = i & 2 ? &many : few;
		uint16_t q = g == &many ? 8 : 1;

		fall_asleep(few);
		assert_false(glance(core));
		core->glance.blind = i & 1;
		assert_false(sees_work(few));
		core->glance.blind = i & 1;
		guest_submit(g, q, flush);
		assert_true(glance(core));
		assert_true(sees_work(few));
		wake(few);
		assert_true(guest_wait(g, q, &cqe));
		guest_step(g, 1);
	}
	guest_fini(&many);
}

/* ---- trapped doorbells: a message wakes ---- */

static volatile uint32_t *
shadow_on(struct guest *g, volatile uint32_t **event)
{
	iova_t page = guest_alloc(g, 4096), ei = guest_alloc(g, 4096);
	struct nvme_sqe cfg = { .opcode = 0x7c, .prp1 = page, .prp2 = ei };

	assert_int_equal(guest_cmd(g, 0, cfg, NULL), 0);
	*event = guest_ptr(g, ei);
	return guest_ptr(g, page);
}

static void
shadow_io(struct guest *g, volatile uint32_t *db)
{
	struct nvme_cqe cqe;

	guest_put(g, 1, flush);
	db[2] = g->q[1].tail;
	while (!guest_take(g, 1, &cqe))
		guest_step(g, 1);
	db[3] = g->q[1].head;
}

/* Linux' rule: is there a message for the step from @old to @now? */
static bool
rings(uint32_t event, uint32_t old, uint32_t now)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static void
test_event_indexes(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	volatile uint32_t *event, *db = shadow_on(g, &event);
	uint32_t tail;

	for (unsigned i = 0; i < 70; i++) { /* more than once around */
		shadow_io(g, db);
		tail = g->q[1].tail;
		assert_false(rings(event[2], tail, (tail + 1) % 64));
		assert_int_equal(fall_asleep(g), REACTOR_SLEEP_FOREVER);
		assert_int_equal(event[2], tail);
		/* woken for something else, it may stay: a message more */
		wake(g);
		assert_int_equal(fall_asleep(g), REACTOR_SLEEP_FOREVER);
		assert_int_equal(event[2], tail);
		wake(g);
	}
}

/* The head of a full queue: its index follows, though nothing was fetched since. */
static void
test_full_and_trapped(void **state)
{
	struct guest *g = &((struct world *)*state)->g;
	struct nvme_cqe cqe;
	volatile uint32_t *event, *db;
	uint32_t doorbell = 0x1000 + 4 * 5;

	assert_int_equal(guest_create_q(g, 2, 4, false), 0);
	db = shadow_on(g, &event);
	for (unsigned i = 0; i < 3; i++)
		guest_put(g, 2, flush);
	db[4] = g->q[2].tail;
	guest_step(g, 10);
	guest_put(g, 2, flush);
	db[4] = g->q[2].tail;
	guest_step(g, 1);
	assert_int_equal(fall_asleep(g), REACTOR_SLEEP_FOREVER);
	assert_int_equal(event[4], g->q[2].tail);
	assert_int_equal(event[5], 0); /* its head: we wait for it */
	assert_true(guest_take(g, 2, &cqe));
	assert_true(rings(event[5], 0, g->q[2].head));
	db[5] = g->q[2].head;
	guest_wr(g, doorbell, g->q[2].head);
	wake(g);
	assert_true(guest_wait(g, 2, &cqe));
	db[5] = g->q[2].head;
	fall_asleep(g);
	wake(g);
	/* a head alone */
	guest_wr(g, doorbell, g->q[2].head);
	assert_int_equal(fall_asleep(g), REACTOR_SLEEP_FOREVER);
	assert_int_equal(event[5], g->q[2].head);
	wake(g);
}

int
sleep_tests(void)
{
#define SLEEP_TEST(f, setup) \
	cmocka_unit_test_setup_teardown(f, setup, world_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_look),
		SLEEP_TEST(test_rung_before, world_setup),
		SLEEP_TEST(test_cold_and_woken, world_setup),
		SLEEP_TEST(test_pin_is_up, world_setup),
		SLEEP_TEST(test_queues_change, world_setup),
		SLEEP_TEST(test_twice_in_a_sleep, world_setup),
		SLEEP_TEST(test_same_value_again, world_setup),
		SLEEP_TEST(test_two, world_setup),
		SLEEP_TEST(test_event_indexes, world_setup_trapped),
		SLEEP_TEST(test_full_and_trapped, world_setup_trapped),
	};

	return cmocka_run_group_tests_name("sleep", tests, NULL, NULL);
}
