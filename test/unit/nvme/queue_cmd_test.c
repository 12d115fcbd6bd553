/* SPDX-License-Identifier: BSD-3-Clause */
/* Create and delete I/O queues: every field that a host can get wrong. */
#include "admin_fx.h"

int queue_cmd_tests(void);

#define QID(id, entries) ((uint32_t)((entries)-1) << 16 | (id))
#define PC 1u
#define IEN 2u
#define IV(v) ((uint32_t)(v) << 16)
#define CQID(v) ((uint32_t)(v) << 16)
#define RING (FX_QUEUES + 0x10000)

/* Pair 1 stands, with its SQ; CQ 2 stands alone. */
static const struct create_case {
	const char *name;
	uint8_t opcode;
	uint32_t cdw10, cdw11;
	uint64_t prp1;
	uint16_t want;
} creates[] = {
#define CQ nvme_admin_create_cq
	{ "CQ", CQ, QID(3, 2), PC, RING, 0 },
	{ "largest CQ", CQ, QID(3, 1024), PC, RING, 0 },
	{ "last id", CQ, QID(4, 2), PC, RING, 0 },
	{ "with interrupt", CQ, QID(3, 2), PC | IEN | IV(4), RING, 0 },
	{ "no interrupt, any vector", CQ, QID(3, 2), PC | IV(99), RING, 0 },
	{ "id 0", CQ, QID(0, 2), PC, RING, CMD(1) },
	{ "id above", CQ, QID(5, 2), PC, RING, CMD(1) },
	{ "id 129", CQ, QID(129, 2), PC, RING, CMD(1) },
	{ "id ffff", CQ, QID(0xffff, 2), PC, RING, CMD(1) },
	{ "id taken", CQ, QID(1, 2), PC, RING, CMD(1) },
	{ "one entry", CQ, QID(3, 1), PC, RING, CMD(2) },
	{ "above MQES", CQ, QID(3, 1025), PC, RING, CMD(2) },
	{ "65536 entries", CQ, QID(3, 65536), PC, RING, CMD(2) },
	{ "not contiguous", CQ, QID(3, 2), 0, RING, 2 },
	{ "unaligned", CQ, QID(3, 2), PC, RING + 8, 0x13 },
	{ "dword", CQ, QID(3, 2), PC, RING + 0xffc, 0x13 },
	{ "vector above", CQ, QID(3, 2), PC | IEN | IV(5), RING, CMD(8) },
	{ "vector ffff", CQ, QID(3, 2), PC | IEN | IV(0xffff), RING, CMD(8) },
	{ "unmapped", CQ, QID(3, 2), PC, FX_HOLE, 4 },
	{ "end of the world", CQ, QID(3, 2), PC, ~0xfffull, 4 },
	{ "wraps", CQ, QID(3, 1024), PC, ~0xfffull, 2 },
	{ "half mapped", CQ, QID(3, 1024), PC, FX_IOVA + FX_MEM - 0x1000, 4 },
#undef CQ
#define SQ nvme_admin_create_sq
	{ "SQ", SQ, QID(2, 2), PC | CQID(2), RING, 0 },
	{ "shared CQ", SQ, QID(3, 2), PC | CQID(1), RING, 0 },
	{ "any priority", SQ, QID(2, 2), PC | 6 | CQID(2), RING, 0 },
	{ "SQ id 0", SQ, QID(0, 2), PC | CQID(2), RING, CMD(1) },
	{ "SQ id above", SQ, QID(5, 2), PC | CQID(2), RING, CMD(1) },
	{ "SQ id ffff", SQ, QID(0xffff, 2), PC | CQID(2), RING, CMD(1) },
	{ "SQ id taken", SQ, QID(1, 2), PC | CQID(2), RING, CMD(1) },
	{ "on the admin CQ", SQ, QID(2, 2), PC, RING, CMD(1) },
	{ "CQ id above", SQ, QID(2, 2), PC | CQID(5), RING, CMD(1) },
	{ "CQ id ffff", SQ, QID(2, 2), PC | CQID(0xffff), RING, CMD(1) },
	{ "no such CQ", SQ, QID(2, 2), PC | CQID(4), RING, CMD(0) },
	{ "SQ of one entry", SQ, QID(2, 1), PC | CQID(2), RING, CMD(2) },
	{ "SQ above MQES", SQ, QID(2, 1025), PC | CQID(2), RING, CMD(2) },
	{ "SQ not contiguous", SQ, QID(2, 2), CQID(2), RING, 2 },
	{ "SQ unaligned", SQ, QID(2, 2), PC | CQID(2), RING + 64, 0x13 },
	{ "SQ unmapped", SQ, QID(2, 2), PC | CQID(2), FX_HOLE, 4 },
#undef SQ
};

static struct fx_result
create(struct fx *fx, const struct create_case *c)
{
	struct nvme_sqe sqe = { .opcode = c->opcode,
				.prp1 = c->prp1,
				.cdw10 = c->cdw10,
				.cdw11 = c->cdw11 };

	return fx_run(fx, sqe);
}

static struct fx_result delete (struct fx *fx, bool cq, uint32_t id)
{
	struct nvme_sqe sqe = { .opcode = cq ? nvme_admin_delete_cq
					     : nvme_admin_delete_sq,
				.cdw10 = id };

	return fx_run(fx, sqe);
}

static void
start(struct fx *fx)
{
	const struct create_case cq2 = { "CQ 2",    nvme_admin_create_cq,
					 QID(2, 4), PC,
					 FX_QUEUES, 0 };

	fx_disable(fx);
	fx_enable(fx);
	fx_create_queues(fx, 1);
	assert_int_equal(create(fx, &cq2).status, 0);
}

static void
checks_creation(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(creates); i++) {
		const struct create_case *c = &creates[i];
		struct fx_result got;

		start(fx);
		got = create(fx, c);
		if (got.status != c->want)
			fail_msg("%s: %x", c->name, got.status);
	}
}

static const struct delete_case {
	const char *name;
	bool cq;
	uint32_t id;
	uint16_t want;
} deletes[] = {
	{ "SQ 1", false, 1, 0 },
	{ "CQ 2, without SQ", true, 2, 0 },
	{ "CQ 1, its SQ stands", true, 1, CMD(12) },
	{ "the admin SQ", false, 0, CMD(1) },
	{ "the admin CQ", true, 0, CMD(1) },
	{ "SQ 2: not there", false, 2, CMD(1) },
	{ "CQ 3: not there", true, 3, CMD(1) },
	{ "SQ 128", false, 128, CMD(1) },
	{ "SQ 129", false, 129, CMD(1) },
	{ "CQ 129", true, 129, CMD(1) },
	{ "SQ ffff", false, 0xffff, CMD(1) },
	{ "CQ ffff", true, 0xffff, CMD(1) },
};

static void
checks_deletion(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(deletes); i++) {
		const struct delete_case *c = &deletes[i];
		struct fx_result got;

		start(fx);
		got = delete (fx, c->cq, c->id);
		if (got.status != c->want)
			fail_msg("%s: %x", c->name, got.status);
	}
}

static void
makes_ids_free_again(void **state)
{
	struct fx *fx = *state;

	fx_disable(fx);
	fx_enable(fx);
	for (unsigned i = 0; i < 20; i++) {
		fx_create_queues(fx, 1);
		assert_int_equal(delete (fx, false, 1).status, 0);
		assert_int_equal(delete (fx, false, 1).status, CMD(1));
		assert_int_equal(delete (fx, true, 1).status, 0);
		assert_int_equal(delete (fx, true, 1).status, CMD(1));
	}
}

/* Feature 07h says how far ids go. */
static void
keeps_to_what_was_allocated(void **state)
{
	const struct create_case cq2 = { "CQ 2",    nvme_admin_create_cq,
					 QID(2, 4), PC,
					 FX_QUEUES, 0 };
	struct fx *fx = *state;

	fx_disable(fx);
	fx_enable(fx);
	assert_int_equal(fx_set_feature(fx, NVME_FEAT_FID_NUM_QUEUES, 0).status,
			 0);
	fx_create_queues(fx, 1);
	assert_int_equal(create(fx, &cq2).status, CMD(1));
}

/* CC.IOSQES and CC.IOCQES must have been set by then (Invalid Queue Size). */
static void
wants_entry_sizes(void **state)
{
	const struct create_case cq = { "CQ 3",	   nvme_admin_create_cq,
					QID(3, 4), PC,
					RING,	   0 };
	const struct create_case sq = { "SQ 2",	   nvme_admin_create_sq,
					QID(2, 4), PC | CQID(2),
					RING,	   0 };
	struct fx *fx = *state;
	uint32_t cc = 3 << 20 | 6 << 16 | 1;

	start(fx);
	nvme_ctrl_write(fx->ctrl, NVME_REG_CC, &cc, 4);
	assert_int_equal(create(fx, &cq).status, CMD(2));
	cc = 4 << 20 | 0 << 16 | 1;
	nvme_ctrl_write(fx->ctrl, NVME_REG_CC, &cc, 4);
	assert_int_equal(create(fx, &sq).status, CMD(2));
	cc = 4 << 20 | 6 << 16 | 1;
	nvme_ctrl_write(fx->ctrl, NVME_REG_CC, &cc, 4);
	assert_int_equal(create(fx, &cq).status, 0);
	assert_int_equal(create(fx, &sq).status, 0);
}

int
queue_cmd_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_creation),
		cmocka_unit_test(checks_deletion),
		cmocka_unit_test(makes_ids_free_again),
		cmocka_unit_test(keeps_to_what_was_allocated),
		cmocka_unit_test(wants_entry_sizes),
	};

	return cmocka_run_group_tests_name("nvme queue_cmd", tests, fx_setup,
					   fx_teardown);
}
