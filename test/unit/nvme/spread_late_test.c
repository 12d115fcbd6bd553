/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues on two reactors: what is under way when a side has ended already, or begun anew. */
#include "spread_fx.h"

/* A map that its worker ends while the client's controller goes: the group elsewhere has closed before it hears of it. */
static void
maps_come_to_the_end(struct spread *s)
{
	bool gone = false;

	nvme_ctrl_destroy(s->g.ctrl, spread_done, &gone);
	for (unsigned i = 0; i < 2000 && !gone; i++) {
		assert_int_equal(guest_map(&s->g, 0x900000000 + i * 4096ull,
					   4096, 0, IOAS_READ | IOAS_WRITE),
				 0);
		guest_step(&s->g, 1);
	}
	assert_true(gone);
	s->g.ctrl = NULL;
}

/* The same with unmaps, which are answered all the same. */
static void
unmaps_come_to_the_end(struct spread *s)
{
	struct guest_op op = { .done = true };
	bool gone = false;
	unsigned n = 0;

	for (; n < 500; n++)
		assert_int_equal(guest_map(&s->g, 0x900000000 + n * 4096ull,
					   4096, 0, IOAS_READ | IOAS_WRITE),
				 0);
	spread_hold(s, 2);
	nvme_ctrl_destroy(s->g.ctrl, spread_done, &gone);
	for (unsigned i = 0; i < 4000 && (!gone || !op.done); i++) {
		if (op.done && n)
			guest_unmap_start(&s->g, 0x900000000 + --n * 4096ull,
					  4096, &op);
		if (i == 100)
			spread_release(s);
		guest_step(&s->g, 1);
	}
	assert_true(gone && op.done);
	s->g.ctrl = NULL;
}

/* What a group had to tell when it came to rest is not told of the controller that is enabled next. */
static void
old_news(struct spread *s)
{
	struct nvme_group *g = spread_where(s, 2);
	struct nvme_error_log_page e = { .sqid = 2 };
	uint64_t errors = s->g.ctrl->error_count;
	uint32_t csts;

	spread_hold(s, 2);
	guest_wr(&s->g, NVME_REG_CC, 0);
	guest_step(&s->g, 300);
	assert_true(g->rest_call != NULL);
	group_error(g, &e, false); /* is on its way */
	group_bad_doorbell(g);	   /* waits behind it */
	group_fail(g, "it has hung for long", false);
	spread_release(s);
	do {
		guest_step(&s->g, 1);
		csts = guest_rd(&s->g, NVME_REG_CSTS);
	} while (csts & 1);
	guest_forget_q(&s->g);
	assert_int_equal(spread_enable(s, 4), 1);
	guest_step(&s->g, 300);
	assert_int_equal(guest_rd(&s->g, NVME_REG_CSTS), 1);
	assert_int_equal(s->g.ctrl->events.queued, 0);
	assert_int_equal(s->g.ctrl->error_count, errors + 1);
	spread_check_io(s, 1, 2);
}

static const struct scenario scenarios[] = {
	{ "maps come when it has ended", maps_come_to_the_end, POLLED },
	{ "unmaps come when it has ended", unmaps_come_to_the_end, POLLED },
	{ "what was to be told before a reset", old_news, POLLED },
};

static void
test_orders(void **state)
{
	spread_run(scenarios, ARRAY_SIZE(scenarios));
}

int
spread_late_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
	};

	return cmocka_run_group_tests_name("spread_late", tests, spread_setup,
					   spread_teardown);
}
