/* SPDX-License-Identifier: BSD-3-Clause */
/* BAR0: properties, in every order that a host may touch them. */
#include "unit.h"

#define RDY 1u
#define CFS 2u
#define SHST(csts) ((csts) >> 2 & 3)
#define CC_GOOD (6u << 16 | 4u << 20)

static void
test_reset_values(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	uint64_t cap;

	assert_int_equal(nvme_ctrl_read(g->ctrl, 0, &cap, 8), 0);
	assert_int_equal(NVME_CAP_MQES(cap), 1023);
	assert_int_equal(NVME_CAP_CQR(cap), 1);
	assert_int_equal(NVME_CAP_AMS(cap), 0);
	assert_int_equal(NVME_CAP_TO(cap), 60);
	assert_int_equal(NVME_CAP_DSTRD(cap), 0);
	assert_int_equal(NVME_CAP_NSSRC(cap), 1);
	assert_int_equal(NVME_CAP_CSS(cap), 0x41);
	assert_int_equal(NVME_CAP_MPSMIN(cap), 0);
	assert_int_equal(NVME_CAP_MPSMAX(cap), 0);
	assert_int_equal(guest_rd(g, NVME_REG_VS), 0x20000);
	assert_int_equal(guest_rd(g, NVME_REG_CC), 0);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 0);
	assert_int_equal(guest_rd(g, NVME_REG_CMBSZ), 0);
	assert_int_equal(guest_rd(g, NVME_REG_CRTO), 60);
}

/* Any piece of the registers, of any length, reads as the bytes do. */
static void
test_read_shapes(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	uint8_t all[128], part[128];

	guest_wr64(g, NVME_REG_ASQ, 0x123456789000);
	nvme_ctrl_read(g->ctrl, 0, all, sizeof(all));
	for (uint32_t off = 0; off < 64; off++) {
		for (uint32_t len = 1; len <= 64; len++) {
			memset(part, 0xee, sizeof(part));
			nvme_ctrl_read(g->ctrl, off, part, len);
			assert_memory_equal(part, all + off, len);
			assert_int_equal(part[len], 0xee);
		}
	}
	for (uint64_t off = 0x70; off < NVME_BAR0_LEN - 8; off += 1021) {
		nvme_ctrl_read(g->ctrl, off, part, 8);
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(part[i], 0);
	}
}

static const struct write_case {
	const char *name;
	uint64_t off;
	uint32_t len;
	uint64_t val;
	uint32_t reg;
	uint32_t want;
} writes[] = {
	{ "CAP is read-only", 0, 4, ~0ull, 0x08, 0x20000 },
	{ "VS is read-only", 8, 4, 0, 0x08, 0x20000 },
	{ "AQA's reserved bits", 0x24, 4, ~0ull, 0x24, 0x0fff0fff },
	{ "ASQ's low bits", 0x28, 4, ~0ull, 0x28, 0xfffff000 },
	{ "ASQ's high half", 0x2c, 4, 0xffffffff, 0x2c, 0xffffffff },
	{ "ACQ in one access", 0x30, 8, 0x1122334455667fff, 0x34, 0x11223344 },
	{ "its low half", 0x30, 8, 0x1122334455667fff, 0x30, 0x55667000 },
	{ "one byte of AQA", 0x24, 1, 0, 0x24, 0x0fff0fff },
	{ "two bytes of AQA", 0x24, 2, 0, 0x24, 0x0fff0fff },
	{ "AQA askew", 0x25, 4, 0, 0x24, 0x0fff0fff },
	{ "CC by bytes", 0x14, 1, 1, 0x14, 0 },
	{ "CC's reserved bits", 0x14, 4, 0xff00000e, 0x14, 0 },
	{ "CSTS is read-only", 0x1c, 4, ~0ull, 0x1c, 0 },
	{ "INTMS sets", 0x0c, 4, 5, 0x0c, 5 },
	{ "INTMC reads the same", 0x0c, 4, 0, 0x10, 5 },
	{ "INTMC clears", 0x10, 4, 4, 0x0c, 1 },
	{ "NSSR with another word", 0x20, 4, 0x4e564d66, 0x1c, 0 },
	{ "reserved", 0x800, 8, ~0ull, 0x800, 0 },
	{ "a doorbell before RDY", 0x1000, 4, 7, 0x1000, 0 },
	{ "behind the doorbells", 0x2000, 4, 7, 0x2000, 0 },
	{ "the last dword", 0x3ffc, 4, 7, 0x3ffc, 0 },
};

static void
test_writes(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		const struct write_case *c = &writes[i];
		uint32_t got;

		nvme_ctrl_write(g->ctrl, c->off, &c->val, c->len);
		guest_step(g, 2);
		got = guest_rd(g, c->reg);
		if (got != c->want)
			fail_msg("%s: %x", c->name, got);
	}
}

static const struct enable_case {
	const char *name;
	uint32_t cc, aqa;
	uint32_t csts;
} enables[] = {
	{ "as Linux does", 1 | CC_GOOD, 0x001f001f, RDY },
	{ "I/O command sets", 1 | 6 << 4 | CC_GOOD, 0x001f001f, RDY },
	{ "smallest queues", 1 | CC_GOOD, 0x00010001, RDY },
	{ "largest queues", 1 | CC_GOOD, 0x0fff0fff, RDY },
	{ "entry sizes come later", 1, 0x001f001f, RDY },
	{ "SQ of one", 1 | CC_GOOD, 0x001f0000, CFS },
	{ "CQ of one", 1 | CC_GOOD, 0x0000001f, CFS },
	{ "no AQA", 1 | CC_GOOD, 0, CFS },
	{ "MPS 1", 1 | 1 << 7 | CC_GOOD, 0x001f001f, CFS },
	{ "MPS 15", 1 | 15 << 7 | CC_GOOD, 0x001f001f, CFS },
	{ "CSS 1", 1 | 1 << 4 | CC_GOOD, 0x001f001f, CFS },
	{ "CSS 7", 1 | 7 << 4 | CC_GOOD, 0x001f001f, CFS },
	{ "weighted round robin", 1 | 1 << 11 | CC_GOOD, 0x001f001f, CFS },
	{ "vendor's arbitration", 1 | 7 << 11 | CC_GOOD, 0x001f001f, CFS },
};

static void
test_enable(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	for (size_t i = 0; i < ARRAY_SIZE(enables); i++) {
		const struct enable_case *c = &enables[i];
		uint32_t csts;

		guest_wr(g, NVME_REG_AQA, c->aqa);
		guest_wr64(g, NVME_REG_ASQ, GUEST_IOVA);
		guest_wr64(g, NVME_REG_ACQ, GUEST_IOVA + (1 << 20));
		guest_wr(g, NVME_REG_CC, c->cc);
		guest_step(g, 5);
		csts = guest_rd(g, NVME_REG_CSTS);
		if (csts != c->csts)
			fail_msg("%s: CSTS %x", c->name, csts);
		/* while it is enabled these stay */
		guest_wr(g, NVME_REG_AQA, 0x00070007);
		guest_wr64(g, NVME_REG_ASQ, 0x5000);
		assert_int_equal(guest_rd(g, NVME_REG_AQA), c->aqa);
		assert_int_equal(guest_rd(g, NVME_REG_ASQ), GUEST_IOVA);
		guest_wr(g, NVME_REG_CC, 0);
		/* who finds RDY 0 may enable at once, and looks for CFS */
		if (guest_rd(g, NVME_REG_CSTS) & CFS)
			fail_msg("%s: CFS stays", c->name);
		guest_step(g, 5);
		if (guest_rd(g, NVME_REG_CSTS))
			fail_msg("%s: CSTS stays", c->name);
		assert_int_equal(guest_rd(g, NVME_REG_AQA), c->aqa);
	}
}

/* Fields of CC that may not change while EN is 1 do not. */
static void
test_cc_frozen(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	assert_int_equal(guest_enable(g, 32), RDY);
	guest_wr(g, NVME_REG_CC, 1 | 6 << 4 | 3 << 7 | 2 << 11 | CC_GOOD);
	assert_int_equal(guest_rd(g, NVME_REG_CC), 1 | CC_GOOD);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
}

static void
test_shutdown(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	unsigned flushes = fake_bdev_count(w->disk, BDEV_FLUSH);
	struct nvme_cqe cqe;
	iova_t buf;

	assert_int_equal(guest_enable(g, 32), RDY);
	assert_int_equal(guest_create_q(g, 1, 16, false), 0);
	buf = guest_alloc(g, 4096);
	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, guest_rw(g, 1, 0, 1, buf, 512));
	guest_step(g, 5);
	guest_wr(g, NVME_REG_CC, 1 | 1 << 14 | CC_GOOD);
	guest_step(g, 5);
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 1);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 5);
	assert_true(guest_take(g, 1, &cqe)); /* what ran is told */
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 1);
	assert_int_equal(fake_bdev_held(w->disk), 1); /* the flush */
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 5);
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 2);
	assert_int_equal(fake_bdev_count(w->disk, BDEV_FLUSH), flushes + 1);
	/* nothing is fetched any more */
	guest_submit(g, 1, guest_rw(g, 1, 0, 1, buf, 512));
	guest_step(g, 20);
	assert_false(guest_take(g, 1, &cqe));
	guest_disable(g);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 0);
	/* abrupt: no flush */
	assert_int_equal(guest_enable(g, 32), RDY);
	guest_wr(g, NVME_REG_CC, 1 | 2 << 14 | CC_GOOD);
	guest_step(g, 5);
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 2);
	assert_int_equal(fake_bdev_count(w->disk, BDEV_FLUSH), flushes + 1);
	/* the flush fails: never complete, and fatal; a reset helps */
	guest_disable(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	fake_bdev_fail(w->disk, BDEV_FLUSH, -EIO, 1);
	guest_wr(g, NVME_REG_CC, 1 | 1 << 14 | CC_GOOD);
	guest_step(g, 50);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY | CFS | 1 << 2);
	guest_disable(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	guest_wr(g, NVME_REG_CC, 1 | 1 << 14 | CC_GOOD);
	guest_step(g, 5);
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 2);
}

/*
 * CC.SHN of a controller that is not enabled, or that is just being disabled:
 * caches are flushed, SHST says so, and the next CC.EN finds it as ever.
 */
static const struct shn_case {
	const char *name;
	uint32_t first, second; /* of CC, without a round between them */
	bool enabled;		/* before */
	uint32_t csts;
} shns[] = {
	{ "disabled, normal", 1 << 14, 1 << 14, false, 2 << 2 },
	{ "disabled, abrupt", 2 << 14, 2 << 14, false, 2 << 2 },
	{ "disabled, reserved", 3 << 14, 3 << 14, false, 0 },
	{ "with the reset", 1 << 14, 1 << 14, true, 2 << 2 },
	{ "while it resets", 0, 1 << 14, true, 2 << 2 },
	{ "before the reset", 1 | 1 << 14, 0, true, 0 },
	{ "with the enable", 1 | 1 << 14, 1 | 1 << 14, false, RDY | 2 << 2 },
};

static void
test_shutdown_disabled(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	for (size_t i = 0; i < ARRAY_SIZE(shns); i++) {
		const struct shn_case *c = &shns[i];
		uint32_t csts;

		assert_int_equal(guest_enable(g, 32), RDY);
		if (!c->enabled)
			guest_disable(g);
		guest_wr(g, NVME_REG_CC, c->first | CC_GOOD);
		guest_wr(g, NVME_REG_CC, c->second | CC_GOOD);
		guest_step(g, 50);
		csts = guest_rd(g, NVME_REG_CSTS);
		if (csts != c->csts)
			fail_msg("%s: CSTS %x", c->name, csts);
		if (c->first & 1)
			guest_wr(g, NVME_REG_CC, 0);
		guest_step(g, 50);
		guest_forget_q(g);
		assert_int_equal(guest_enable(g, 32), RDY);
		if (guest_create_q(g, 1, 16, false))
			fail_msg("%s: no commands afterwards", c->name);
		guest_disable(g);
	}
}

/* It is enabled while the flush runs: that is of a shutdown nobody waits for any more. */
static void
test_enable_while_flushing(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	assert_int_equal(guest_enable(g, 32), RDY);
	guest_disable(g);
	fake_bdev_hold(w->disk, true);
	guest_wr(g, NVME_REG_CC, 1 << 14 | CC_GOOD);
	guest_step(g, 20);
	assert_int_equal(SHST(guest_rd(g, NVME_REG_CSTS)), 1);
	assert_int_equal(fake_bdev_held(w->disk), 1);
	guest_forget_q(g);
	guest_wr(g, NVME_REG_CC, 1 | CC_GOOD);
	guest_step(g, 20);
	guest_wr(g, NVME_REG_CC, 1 | 1 << 14 | CC_GOOD);
	guest_step(g, 20);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 50);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY | 2 << 2);
	guest_disable(g);
	assert_int_equal(guest_enable(g, 32), RDY);
	assert_int_equal(guest_create_q(g, 1, 16, false), 0);
}

static void
test_nssr(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	assert_int_equal(guest_enable(g, 32), RDY);
	guest_wr(g, NVME_REG_NSSR, 0x4e564d65);
	guest_step(g, 20);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 1 << 4); /* NSSRO */
	assert_int_equal(guest_rd(g, NVME_REG_CC), 0);
	assert_int_equal(guest_rd(g, NVME_REG_AQA), 0);
	guest_forget_q(g); /* it stays until it is cleared */
	assert_int_equal(guest_enable(g, 32), RDY | 1 << 4);
	guest_disable(g);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 1 << 4);
	guest_wr(g, NVME_REG_CSTS, 1 << 4);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 0);
	guest_forget_q(g);
	assert_int_equal(guest_enable(g, 32), RDY);
}

static void
test_nssr_refused(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	uint64_t cap;

	nvme_ctrl_read(g->ctrl, 0, &cap, 8);
	assert_int_equal(NVME_CAP_NSSRC(cap), 0);
	guest_wr(g, NVME_REG_NSSR, 0x4e564d65);
	guest_step(g, 20);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
}

static unsigned
events(struct guest *g, uint8_t info)
{
	const struct nvme_events *ev = &g->ctrl->events;
	unsigned n = 0;

	for (unsigned i = 0; i < ev->queued; i++)
		n += ev->queue[i].type == 0 && ev->queue[i].info == info;
	return n;
}

static void
test_doorbells(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_cqe cqe;
	iova_t buf = guest_alloc(g, 4096);

	guest_wr(g, 0x1000 + 8 * 1, 64); /* depth is 64 */
	guest_step(g, 20);
	assert_int_equal(events(g, 1), 1);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	guest_wr(g, 0x1000 + 8 * 1 + 4, 3); /* takes what is not there */
	guest_step(g, 20);
	guest_wr(g, 0x1000 + 8 * 1 + 4, 0xffffffff);
	guest_step(g, 20);
	assert_int_equal(events(g, 0), 0);
	guest_wr(g, 0x1000 + 8 * 3, 1); /* no such queue */
	guest_wr(g, 0x1000 + 8 * 511, 1);
	assert_int_equal(events(g, 0), 1);
	/* corrected: goes on */
	guest_wr(g, 0x1000 + 8 * 1 + 4, 0);
	guest_submit(g, 1, guest_rw(g, 2, 0, 1, buf, 512));
	assert_true(guest_wait(g, 1, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
}

/* max_aq_depth: so many run, the others wait in their queue and none is lost. */
static void
test_few_admin(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t gone = 0xa0000000;
	struct nvme_cqe cqe;

	assert_int_equal(guest_map(g, gone, 4096, 12 << 20, 3), 0);
	assert_int_equal(guest_unmap(g, gone, 4096), 0);
	for (unsigned i = 0; i < 20; i++) /* wait for their memory */
		guest_submit(g, 0,
			     (struct nvme_sqe){
				     .opcode = 6, .prp1 = gone, .cdw10 = 1 });
	guest_step(g, 10);
	assert_int_equal(g->ctrl->group.admin_inflight, 8);
	assert_int_equal(guest_map(g, gone, 4096, 12 << 20, 3), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(guest_wait(g, 0, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
}

int
regs_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_few_admin, world_setup_few_admin, world_teardown),
		cmocka_unit_test_setup_teardown(test_reset_values,
						world_setup_disabled,
						world_teardown),
		cmocka_unit_test_setup_teardown(
			test_read_shapes, world_setup_disabled, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_writes, world_setup_disabled, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_enable, world_setup_disabled, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_cc_frozen, world_setup_disabled, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_shutdown, world_setup_disabled, world_teardown),
		cmocka_unit_test_setup_teardown(test_shutdown_disabled,
						world_setup_disabled,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_enable_while_flushing,
						world_setup_disabled,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_nssr, world_setup_disabled,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_nssr_refused, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_doorbells, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(
			test_doorbells, world_setup_trapped, world_teardown),
	};

	return cmocka_run_group_tests_name("regs", tests, NULL, NULL);
}
