/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of a controller: resets and ends with work in flight. */
#include "unit.h"

#define RDY 1u
#define CFS 2u
#define CC_GOOD (6u << 16 | 4u << 20)

static void
in_flight(struct world *w, unsigned n)
{
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 4096);

	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < n; i++)
		guest_submit(g, 1, guest_rw(g, 2, i, 1, buf, 512));
	/* and an event request, and a compare that waits for memory */
	guest_submit(g, 0, (struct nvme_sqe){ .opcode = 0xc });
	guest_step(g, 10);
	assert_int_equal(fake_bdev_held(w->disk), n);
}

static void
test_reset_waits(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_cqe cqe;
	struct guest_q old;

	in_flight(w, 5);
	old = g->q[1];
	guest_wr(g, NVME_REG_CC, 0);
	guest_step(g, 50);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY); /* not yet */
	fake_bdev_release(w->disk, 4, 0);
	guest_step(g, 50);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, -EIO);
	guest_step(g, 50);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 0);
	assert_false(guest_take(g, 1, &cqe)); /* nothing was posted */
	assert_false(guest_take(g, 0, &cqe));
	assert_null(g->ctrl->group.sqs[1]);
	assert_int_equal(g->ctrl->events.aers, 0);
	assert_int_equal(g->db[2], 0);
	assert_int_equal(old.qid, 1);
	guest_forget_q(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	assert_int_equal(guest_create_q(g, 1, 16, true), 0);
	assert_int_equal(guest_cmd(g, 1, (struct nvme_sqe){ .nsid = 1 }, NULL),
			 0);
}

/* CC.EN 1 -> 0 -> 1 without waiting for CSTS.RDY. */
static void
test_enable_while_draining(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	in_flight(w, 3);
	guest_wr(g, NVME_REG_CC, 0);
	guest_wr(g, NVME_REG_CC, 1 | CC_GOOD);
	guest_step(g, 20);
	guest_wr(g, NVME_REG_CC, 0); /* changed its mind twice */
	guest_wr(g, NVME_REG_CC, 1 | CC_GOOD);
	memset(guest_ptr(g, g->q[0].cq), 0, 32 * 16);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 3, 0);
	guest_step(g, 20);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	assert_null(g->ctrl->group.sqs[1]); /* it is another life */
	g->q[0] = (struct guest_q){
		.depth = 32, .sq = g->q[0].sq, .cq = g->q[0].cq, .phase = true
	};
	assert_int_equal(guest_create_q(g, 1, 16, true), 0);
}

static void
done(void *arg)
{
	++*(unsigned *)arg;
}

static void
test_function_reset(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	unsigned ends = 0;

	in_flight(w, 3);
	nvme_ctrl_reset(g->ctrl, NVME_RESET_FUNCTION, done, &ends);
	nvme_ctrl_reset(g->ctrl, NVME_RESET_FUNCTION, done, &ends);
	guest_step(g, 20);
	assert_int_equal(ends, 0);
	assert_int_equal(guest_rd(g, NVME_REG_CC), 0);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 0);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 3, 0);
	guest_step(g, 20);
	assert_int_equal(ends, 2);
	assert_int_equal(g->ctrl->unsafe_shutdowns, 1);
	assert_int_equal(guest_rd(g, NVME_REG_AQA), 0);
	assert_int_equal(guest_rd(g, NVME_REG_ASQ), 0);
	guest_forget_q(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	/* idle: soon */
	nvme_ctrl_reset(g->ctrl, NVME_RESET_FUNCTION, done, &ends);
	guest_step(g, 5);
	assert_int_equal(ends, 3);
	guest_forget_q(g);
}

/* A hung disk keeps the controller's memory, for as long as it takes. */
static void
test_destroy_waits(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	unsigned ends = 0;

	in_flight(w, 3);
	guest_wr(g, NVME_REG_CC, 0);
	nvme_ctrl_destroy(g->ctrl, done, &ends);
	guest_run_ms(g, 50);
	assert_int_equal(ends, 0);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 2, 0);
	guest_run_ms(g, 5);
	assert_int_equal(ends, 0);
	fake_bdev_release(w->disk, 1, 0);
	guest_run_ms(g, 5);
	assert_int_equal(ends, 1);
	g->ctrl = NULL;
	g->db = NULL;
	guest_forget_q(g);
	guest_create_ctrl(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	assert_int_equal(guest_create_q(g, 1, 16, true), 0);
	assert_int_equal(guest_cmd(g, 1, (struct nvme_sqe){ .nsid = 1 }, NULL),
			 0);
}

/* The subsystem counts them over all clients. */
static void
test_power_counters(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	uint64_t cycles = g->ctrl->power_cycles;
	uint64_t unsafe = g->ctrl->unsafe_shutdowns;

	guest_destroy_ctrl(g); /* enabled */
	guest_create_ctrl(g);
	assert_int_equal(g->ctrl->power_cycles, cycles + 1);
	assert_int_equal(g->ctrl->unsafe_shutdowns, unsafe + 1);
	guest_destroy_ctrl(g); /* never enabled */
	guest_create_ctrl(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	guest_wr(g, NVME_REG_CC, 1 | 1 << 14 | CC_GOOD);
	guest_step(g, 20);
	guest_destroy_ctrl(g); /* shut down */
	guest_create_ctrl(g);
	assert_int_equal(g->ctrl->power_cycles, cycles + 3);
	assert_int_equal(g->ctrl->unsafe_shutdowns, unsafe + 1);
}

static void
test_keep_alive(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sqe set = { .opcode = 9, .cdw10 = 0xf, .cdw11 = 1000 };
	struct nvme_sqe alive = { .opcode = 0x18 };
	struct nvme_sqe log = { .opcode = 2,
				.prp1 = guest_alloc(g, 4096),
				.cdw10 = 15 << 16 | 1 };
	const struct nvme_error_log_page *e = guest_ptr(g, log.prp1);
	uint64_t errors = g->ctrl->error_count;

	guest_run_ms(g, 1100); /* nothing to do: that is not busy */
	assert_int_equal(g->ctrl->group.busy_ns, 0);
	assert_int_equal(guest_cmd(g, 0, set, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		guest_run_ms(g, 500);
		assert_int_equal(guest_cmd(g, 0, alive, NULL), 0);
		guest_cmd(g, 1, guest_rw(g, 2, 0, 1, GUEST_IOVA, 512), NULL);
	}
	assert_in_range(g->ctrl->group.busy_ns, 1, 3000000000);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	guest_run_ms(g, 1300);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY | CFS);
	assert_int_equal(g->failed, 0); /* a reset heals it */
	guest_disable(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	/* why, and once */
	assert_int_equal(guest_cmd(g, 0, log, NULL), 0);
	assert_int_equal(e->error_count, errors + 1);
	assert_int_equal(e->sqid, 0xffff);
	assert_int_equal(e->status_field >> 1, NVME_SC_KAT_EXPIRED);
	guest_run_ms(g, 1300); /* the timer is off again */
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
}

/* Many lives: no slab, queue or timer is left behind. */
static void
test_many_lives(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_core *core = g->ctrl->group.core;
	uint64_t used = g->used;
	uint32_t total = 0;

	for (unsigned i = 0; i < 200; i++) {
		guest_destroy_ctrl(g);
		assert_int_equal(core->reqs.pledged, 0);
		assert_int_equal(core->iovs.pledged, 0);
		guest_create_ctrl(g);
		g->used = used;
		assert_int_equal(guest_enable(g, 32), RDY);
		assert_int_equal(guest_create_q(g, 1, 64, true), 0);
		guest_submit(g, 1, (struct nvme_sqe){ .nsid = 1 });
		guest_submit(g, 0, (struct nvme_sqe){ .opcode = 0xc });
		guest_step(g, i % 4);
		if (!total)
			total = core->reqs.total;
		assert_int_equal(core->reqs.total, total);
	}
	assert_int_equal(core->stats.ctrls, 1);
}

static const struct cfg_case {
	const char *name;
	uint16_t io_queues;
	uint32_t max_depth, max_io_size;
} configs[] = {
	{ "no queue", 0, 1024, 1 << 20 }, { "too many", 129, 1024, 1 << 20 },
	{ "depth 1", 8, 1, 1 << 20 },	  { "depth 4097", 8, 4097, 1 << 20 },
	{ "2 MiB", 8, 1024, 2 << 20 },	  { "odd size", 8, 1024, 12288 },
	{ "512", 8, 1024, 512 },
};

struct created {
	bool called;
	int err;
};

static void
created(void *arg, struct nvme_ctrl *ctrl, int err)
{
	struct created *c = arg;

	assert_null(ctrl);
	c->called = true;
	c->err = err;
}

static void
test_config(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		struct nvme_ctrl_config cfg = g->ctrl->cfg;
		struct created c = { 0 };

		cfg.io_queues = configs[i].io_queues;
		cfg.max_depth = configs[i].max_depth;
		cfg.max_io_size = configs[i].max_io_size;
		nvme_ctrl_create(&cfg, created, &c);
		guest_step(g, 5);
		if (!c.called || c.err != -EINVAL)
			fail_msg("%s: %d", configs[i].name, c.err);
	}
}

int
ctrl_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reset_waits, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_enable_while_draining,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_function_reset,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_destroy_waits, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_power_counters,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_keep_alive, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_many_lives, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_config, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("ctrl", tests, NULL, NULL);
}
