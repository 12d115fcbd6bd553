/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of admin commands, Abort, Keep Alive, Doorbell Buffer Config. */
#include "admin_fx.h"

int admin_tests(void);

static bool
exists(uint8_t opcode)
{
	static const uint8_t have[] = { 0x00, 0x01, 0x02, 0x04, 0x05, 0x06,
					0x08, 0x09, 0x0a, 0x0c, 0x18 };

	return memchr(have, opcode, sizeof(have));
}

/* All others are Invalid Opcode, and the effects log says the same. */
static void
answers_unknown_opcodes(void **state)
{
	struct fx *fx = *state;
	uint32_t acs[256];

	admin_effects(acs);
	for (unsigned op = 0; op < 256; op++) {
		struct nvme_sqe sqe = { .opcode = (uint8_t)op };
		struct fx_result got;

		if (op != nvme_admin_dbbuf)
			assert_int_equal(acs[op] & 1, exists((uint8_t)op));
		if (exists((uint8_t)op))
			continue;
		got = fx_run_data(fx, sqe);
		if (got.status != NVME_SC_INVALID_OPCODE || !got.dnr)
			fail_msg("opcode %02x: %x", op, got.status);
	}
}

static const struct flag_case {
	const char *name;
	uint8_t flags;
	uint16_t want;
} flags[] = {
	{ "plain", 0, 0 },
	{ "reserved bits are nobody's", 0x3c, 0 },
	{ "first of a fused pair", 1, 2 },
	{ "second of a fused pair", 2, 2 },
	{ "fused, reserved", 3, 2 },
	{ "SGL", 0x40, 2 },
	{ "SGL for metadata too", 0x80, 2 },
	{ "reserved PSDT", 0xc0, 2 },
};

static void
checks_flags(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct nvme_sqe sqe = { .opcode = nvme_admin_identify,
					.flags = flags[i].flags,
					.cdw10 = 1 };
		struct fx_result got = fx_run_data(fx, sqe);

		if (got.status != flags[i].want)
			fail_msg("%s: %x", flags[i].name, got.status);
	}
}

static const struct pointer_case {
	const char *name;
	uint64_t prp1, prp2;
	uint16_t want;
} pointers[] = {
	{ "one page", FX_DATA, 0, 0 },
	{ "two halves", FX_DATA + 2048, FX_DATA + 8192, 0 },
	{ "PRP1 unaligned", FX_DATA + 2, FX_DATA + 4096, 0x13 },
	{ "PRP2 with offset", FX_DATA + 2048, FX_DATA + 4096 + 64, 0x13 },
	{ "PRP1 0", 0, 0, 4 },
	{ "PRP2 0", FX_DATA + 2048, 0, 4 },
	{ "unmapped", FX_HOLE, 0, 4 },
	{ "end of the world", ~0xfffull, 0, 4 },
	{ "second page unmapped", FX_DATA + 2048, FX_HOLE, 4 },
};

static void
checks_data_pointers(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++) {
		struct nvme_sqe sqe = { .opcode = nvme_admin_identify,
					.prp1 = pointers[i].prp1,
					.prp2 = pointers[i].prp2,
					.cdw10 = 1 };
		struct fx_result got = fx_run(fx, sqe);

		if (got.status != pointers[i].want)
			fail_msg("%s: %x", pointers[i].name, got.status);
	}
}

static struct fx_result
abort_cmd(struct fx *fx, uint16_t sqid, uint16_t cid)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_abort_cmd,
				.cdw10 = (uint32_t)cid << 16 | sqid };

	return fx_run(fx, sqe);
}

static void
aborts_nothing(void **state)
{
	struct fx *fx = *state;
	static const struct {
		uint16_t sqid, cid;
	} rows[] = { { 0, 0x7777 }, { 1, 0 },	   { 128, 1 },
		     { 129, 1 },    { 0xffff, 1 }, { 0xffff, 0xffff } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fx_result got = abort_cmd(fx, rows[i].sqid, rows[i].cid);

		assert_int_equal(got.status, 0);
		assert_int_equal(got.dw0, 1);
	}
	/* Itself: not aborted, and not forgotten. */
	assert_int_equal(abort_cmd(fx, 0, (uint16_t)(fx->cid + 1)).dw0, 1);
}

static void
aborts_an_event_request(void **state)
{
	struct nvme_sqe aer = { .opcode = nvme_admin_async_event };
	struct nvme_sqe abort = { .opcode = nvme_admin_abort_cmd };
	struct fx *fx = *state;
	struct fx_result got;
	uint16_t cid;

	cid = fx_submit(fx, aer);
	assert_false(fx_poll(fx, &got));
	abort.cdw10 = (uint32_t)cid << 16;
	fx_submit(fx, abort);
	assert_true(fx_poll(fx, &got));
	assert_int_equal(got.cid, cid);
	assert_int_equal(got.status, NVME_SC_ABORT_REQ);
	assert_true(fx_poll(fx, &got));
	assert_int_equal(got.status, 0);
	assert_int_equal(got.dw0, 0);
	assert_int_equal(abort_cmd(fx, 0, cid).dw0, 1); /* only once */
}

/*
 * Memory that goes for a moment: the command waits and is then run from its
 * start, so nothing may have happened before (here: the log was not read).
 */
static void
waits_for_memory(void **state)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.prp1 = FX_EXTRA,
				.cdw10 = 1023 << 16 | 4 };
	struct fx *fx = *state;
	const uint32_t *ns = fx_data(fx);
	struct fx_result got = { .status = 0xffff };

	memset(fx_data(fx), 0xa5, 4096);
	aer_ns_changed(fx->ctrl, 3);
	fx_map_extra(fx, true);
	fx_map_extra(fx, false);
	fx_submit(fx, sqe);
	fx_step(fx, 10);
	assert_int_equal(fx->ctrl->changed_ns_n, 1);
	fx_map_extra(fx, true);
	for (unsigned i = 0; i < 1000 && !fx_poll(fx, &got); i++)
		usleep(1000);
	assert_int_equal(got.status, 0);
	assert_int_equal(ns[0], 3);
	assert_int_equal(ns[1], 0);
	assert_int_equal(fx->ctrl->changed_ns_n, 0);

	/* It does not come back. */
	aer_ns_changed(fx->ctrl, 5);
	fx_map_extra(fx, false);
	fx_submit(fx, sqe);
	got.status = 0;
	for (unsigned i = 0; i < 1000 && !fx_poll(fx, &got); i++)
		usleep(1000);
	assert_int_equal(got.status, NVME_SC_DATA_XFER_ERROR);
	assert_int_equal(fx->ctrl->changed_ns_n, 1);
}

static void
keeps_alive(void **state)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_keep_alive };
	struct fx *fx = *state;

	assert_int_equal(fx_run(fx, sqe).status, 0);
}

/* Announced, in the log, and working: all or none. */
static void
offers_doorbell_buffers(void **state)
{
	static const struct {
		bool map, shadow, want;
	} rows[] = { { true, true, false },
		     { true, false, false },
		     { false, false, false },
		     { false, true, true } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct fx_opts opts = { rows[i].map, rows[i].shadow, 4,
					      5 };
		struct nvme_sqe id = { .opcode = nvme_admin_identify,
				       .cdw10 = 1 };
		struct nvme_sqe log = { .opcode = nvme_admin_get_log_page,
					.cdw10 = 1023 << 16 | 5 };
		struct nvme_sqe db = { .opcode = nvme_admin_dbbuf,
				       .prp1 = FX_QUEUES,
				       .prp2 = FX_QUEUES + 4096 };
		struct fx *fx = fx_new(&opts);
		const struct nvme_id_ctrl *ctrl = fx_data(fx);
		const struct nvme_cmd_effects_log *fxl = fx_data(fx);

		assert_int_equal(fx_run_data(fx, id).status, 0);
		assert_int_equal(ctrl->oacs, rows[i].want << 8);
		assert_int_equal(fx_run_data(fx, log).status, 0);
		assert_int_equal(fxl->acs[nvme_admin_dbbuf] & 1, rows[i].want);
		assert_int_equal(fx_run(fx, db).status,
				 rows[i].want ? 0 : NVME_SC_INVALID_OPCODE);
		fx_free(fx);
	}
}

int
admin_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_unknown_opcodes),
		cmocka_unit_test(checks_flags),
		cmocka_unit_test(checks_data_pointers),
		cmocka_unit_test(aborts_nothing),
		cmocka_unit_test(aborts_an_event_request),
		cmocka_unit_test(waits_for_memory),
		cmocka_unit_test(keeps_alive),
	};
	const struct CMUnitTest alone[] = {
		cmocka_unit_test(offers_doorbell_buffers),
	};

	return cmocka_run_group_tests_name("nvme admin", tests, fx_setup,
					   fx_teardown) +
	       cmocka_run_group_tests_name("nvme admin, alone", alone, NULL,
					   NULL);
}
