/* SPDX-License-Identifier: BSD-3-Clause */
/* Completion queues and their interrupts. */
#include "unit.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define CMD_SC(sc) (1 << 8 | (sc))

static const struct nvme_sqe flush = { .opcode = 0, .nsid = 1 };

static void
test_msix(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int one = bind_vector(g, IRQ_MSIX, 1), two;
	struct nvme_cqe cqe;

	two = bind_vector(g, IRQ_MSIX, 2);
	assert_int_equal(guest_create_q(g, 2, 64, false),
			 0); /* no interrupts */
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	assert_int_equal(irqs_seen(one), 1);
	for (unsigned i = 0; i < 20; i++)
		guest_put(g, 1, flush);
	guest_ring(g, 1);
	guest_step(g, 1);
	assert_int_equal(irqs_seen(one), 1); /* one write a vector and round */
	for (unsigned i = 0; i < 20; i++)
		assert_true(guest_wait(g, 1, &cqe));
	assert_in_range(irqs_seen(one), 0, 4);
	assert_int_equal(guest_cmd(g, 2, flush, NULL), 0);
	assert_int_equal(irqs_seen(two), 0);
	assert_int_equal(irqs_seen(one), 0);
	close(one);
	close(two);
}

/* Two queues of one vector: one signal for both. */
static void
test_shared_vector(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_MSIX, 1);
	struct nvme_sqe cq = { .opcode = 5,
			       .prp1 = guest_alloc(g, 4096),
			       .cdw10 = 31 << 16 | 2,
			       .cdw11 = 3 | 1 << 16 };
	struct nvme_sqe sq = { .opcode = 1,
			       .prp1 = guest_alloc(g, 4096),
			       .cdw10 = 31 << 16 | 2,
			       .cdw11 = 1 | 2 << 16 };

	assert_int_equal(guest_cmd(g, 0, cq, NULL), 0);
	assert_int_equal(guest_cmd(g, 0, sq, NULL), 0);
	g->q[2] = (struct guest_q){ .qid = 2,
				    .depth = 32,
				    .sq = sq.prp1,
				    .cq = cq.prp1,
				    .phase = true };
	guest_put(g, 1, flush);
	guest_put(g, 2, flush);
	guest_ring(g, 1);
	guest_ring(g, 2);
	guest_step(g, 1);
	assert_int_equal(irqs_seen(fd), 1);
	close(fd);
}

static void
test_coalescing(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_MSIX, 1), admin;
	struct nvme_sqe set = { .opcode = 9,
				.cdw10 = 8,
				.cdw11 = 200 << 8 | 3 }; /* 4 or 20 ms */
	struct nvme_sqe cd = { .opcode = 9, .cdw10 = 9, .cdw11 = 1 << 16 | 1 };
	struct nvme_cqe cqe;

	admin = bind_vector(g, IRQ_MSIX, 0);
	assert_int_equal(guest_cmd(g, 0, set, NULL), 0);
	irqs_seen(admin);
	assert_int_equal(guest_cmd(g, 0, cd, NULL), 0);
	assert_int_equal(irqs_seen(admin), 1); /* never coalesced */
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	assert_int_equal(irqs_seen(fd), 1); /* CD: not this vector */
	cd.cdw11 = 1;
	assert_int_equal(guest_cmd(g, 0, cd, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		guest_submit(g, 1, flush);
		guest_step(g, 1);
		assert_int_equal(irqs_seen(fd), 0);
	}
	guest_submit(g, 1, flush);
	guest_step(g, 1);
	assert_int_equal(irqs_seen(fd), 1); /* the fourth */
	guest_submit(g, 1, flush);
	guest_step(g, 1);
	assert_int_equal(irqs_seen(fd), 0);
	guest_run_ms(g, 40);
	assert_int_equal(irqs_seen(fd), 1); /* or time */
	while (guest_take(g, 1, &cqe))
		;
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	guest_run_ms(g, 40);
	assert_int_equal(irqs_seen(fd), 0); /* taken before it was due */
	close(fd);
	close(admin);
}

static void
test_intx(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_INTX, 0);
	struct nvme_cqe cqe;

	guest_step(g, 5);
	assert_false(g->ctrl->intx_level);
	irqs_seen(fd);
	guest_submit(g, 1, flush);
	guest_submit(g, 1, flush);
	guest_step(g, 5);
	assert_int_equal(irqs_seen(fd), 1);
	assert_true(g->ctrl->intx_level);
	assert_true(guest_take(g, 1, &cqe));
	guest_step(g, 5);
	assert_true(g->ctrl->intx_level); /* one is left */
	assert_true(guest_take(g, 1, &cqe));
	guest_step(g, 5);
	assert_false(g->ctrl->intx_level);
	/* masked, unmasked */
	guest_wr(g, NVME_REG_INTMS, 1);
	guest_submit(g, 1, flush);
	guest_step(g, 5);
	assert_false(g->ctrl->intx_level);
	guest_wr(g, NVME_REG_INTMC, 1);
	assert_true(g->ctrl->intx_level);
	nvme_ctrl_update_intx(g->ctrl, true); /* PCI command register */
	assert_false(g->ctrl->intx_level);
	nvme_ctrl_update_intx(g->ctrl, false);
	assert_true(g->ctrl->intx_level);
	guest_disable(g);
	assert_false(g->ctrl->intx_level);
	close(fd);
}

/* What was in flight when CC.SHN was set ends with interrupts, which the host takes. */
static void
test_intx_shutdown(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_INTX, 0);
	struct nvme_cqe cqe;

	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, flush);
	guest_step(g, 5);
	irqs_seen(fd);
	guest_wr(g, NVME_REG_CC, guest_rd(g, NVME_REG_CC) | 1 << 14);
	guest_step(g, 5);
	assert_false(g->ctrl->intx_level);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 5);
	assert_true(g->ctrl->intx_level);
	assert_int_equal(irqs_seen(fd), 1);
	assert_true(guest_take(g, 1, &cqe));
	guest_wr(g, 0x1000 + 4 * 3, g->q[1].head); /* as a message, too */
	guest_step(g, 5);
	assert_false(g->ctrl->intx_level);
	close(fd);
}

static const struct cq_case {
	const char *name;
	uint32_t cdw10, cdw11;
	uint64_t prp1; /* 0: good memory */
	uint16_t want;
} cases[] = {
	{ "cqid 0", 15 << 16, 1, 0, CMD_SC(1) },
	{ "exists", 15 << 16 | 1, 1, 0, CMD_SC(1) },
	{ "above what there are", 15 << 16 | 9, 1, 0, CMD_SC(1) },
	{ "cqid ffffh", 15 << 16 | 0xffff, 1, 0, CMD_SC(1) },
	{ "size 1", 0 << 16 | 2, 1, 0, CMD_SC(2) },
	{ "above MQES", 1024u << 16 | 2, 1, 0, CMD_SC(2) },
	{ "64 K entries", 0xffffu << 16 | 2, 1, 0, CMD_SC(2) },
	{ "not contiguous", 15 << 16 | 2, 0, 0, 2 },
	{ "vector 9", 15 << 16 | 2, 9 << 16 | 3, 0, CMD_SC(8) },
	{ "vector ffffh", 15 << 16 | 2, 0xffffu << 16 | 3, 0, CMD_SC(8) },
	{ "offset", 15 << 16 | 2, 1, GUEST_IOVA + 8, 0x13 },
	{ "hole", 15 << 16 | 2, 1, GUEST_HOLE, 4 },
	{ "top", 1023 << 16 | 2, 1, 0xfffffffffffff000, 4 },
	{ "good", 15 << 16 | 2, 1, 0, 0 },
};

static void
test_create(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t ring = guest_alloc(g, 16384);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct cq_case *c = &cases[i];
		struct nvme_sqe sqe = { .opcode = 5,
					.prp1 = c->prp1 ? c->prp1 : ring,
					.cdw10 = c->cdw10,
					.cdw11 = c->cdw11 };
		uint16_t st = guest_cmd(g, 0, sqe, NULL);

		if (st != c->want && !(c->prp1 > GUEST_HOLE && st))
			fail_msg("%s: status %x", c->name, st);
	}
}

int
cq_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_msix, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_shared_vector, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_coalescing, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_intx, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_intx_shutdown,
						world_setup_trapped,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_create, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("cq", tests, NULL, NULL);
}
