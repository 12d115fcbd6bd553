/* SPDX-License-Identifier: BSD-3-Clause */
/* Get and Set Features: values, their checks, defaults, who may ask. */
#include "admin_fx.h"

int feature_tests(void);

#define ALL NVME_NSID_ALL
#define SV (1u << 31)

static const uint8_t have[] = { 0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08,
				0x09, 0x0a, 0x0b, 0x0e, 0x0f, 0x16, 0x19 };

static struct fx_result
run(struct fx *fx, bool set, uint32_t cdw10, uint32_t nsid, uint32_t val)
{
	struct nvme_sqe sqe = { .opcode = set ? nvme_admin_set_features
					      : nvme_admin_get_features,
				.nsid = nsid,
				.cdw10 = cdw10,
				.cdw11 = val };

	return fx_run_data(fx, sqe);
}

static int
start(void **state)
{
	struct fx *fx = *state;

	fx_disable(fx);
	fx_enable(fx);
	return 0;
}

/* Exactly those, by both commands and in the log. */
static void
knows_its_features(void **state)
{
	struct fx *fx = *state;
	uint32_t fids[256] = { 0 };

	feature_effects(fids);
	for (unsigned fid = 0; fid < 256; fid++) {
		bool known = memchr(have, (int)fid, sizeof(have));
		uint32_t caps = fid == 5 ? 6 : 4;
		struct fx_result got = run(fx, false, 3 << 8 | fid, 0, 0);

		if (got.status != (known ? 0 : 2) ||
		    (known && got.dw0 != caps) || (fids[fid] & 1) != known)
			fail_msg("%02x: %x, %x", fid, got.status, got.dw0);
		got = run(fx, true, SV | fid, 0, 0);
		if (got.status != (known ? CMD(0x0d) : 2))
			fail_msg("%02x saved: %x", fid, got.status);
		for (uint32_t sel = 4; sel < 8; sel++)
			assert_int_equal(
				run(fx, false, sel << 8 | fid, 1, 0).status, 2);
	}
}

/* Set, then what Get finds; the default is there again after a reset. */
static const struct value_case {
	const char *name;
	uint8_t fid;
	uint32_t nsid, def, set, got;
} values[] = {
	{ "arbitration", 1, 0, 6, 0xffffffff, 0xffffff07 },
	{ "power: workload", 2, 0, 0, 0x20, 0x20 },
	{ "error recovery", 5, 1, 0, 100, 100 },
	{ "write cache off", 6, 0, 1, 0, 0 },
	{ "write cache, other bits", 6, 0, 1, 0xfffffffe, 0 },
	{ "coalescing", 8, 0, 0, 0x10ff, 0x10ff },
	{ "atomicity", 10, 0, 0, 3, 1 },
	{ "events: what is offered", 11, 0, 0, 0xffffffff, 0x11f },
	{ "keep alive, rounded up", 15, 0, 0, 1, 1000 },
	{ "keep alive, exact", 15, 0, 0, 120000, 120000 },
	{ "keep alive, huge", 15, 0, 0, 0xffffffff, 4294967000 },
	{ "keep alive, off", 15, 0, 0, 0, 0 },
	{ "profile 0", 0x19, 0, 0, 0, 0 },
	{ "NSID of all", 6, ALL, 1, 0, 0 },
};

static void
keeps_values(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const struct value_case *c = &values[i];
		uint32_t def = run(fx, false, c->fid, c->nsid, 0).dw0;
		uint32_t set, got, sel_def, saved;

		set = run(fx, true, c->fid, c->nsid, c->set).status;
		got = run(fx, false, c->fid, c->nsid, 0).dw0;
		sel_def = run(fx, false, 1 << 8 | c->fid, c->nsid, 0).dw0;
		saved = run(fx, false, 2 << 8 | c->fid, c->nsid, 0).dw0;
		if (set || def != c->def || got != c->got ||
		    sel_def != c->def || saved != c->def)
			fail_msg("%s: %x: %x %x %x %x", c->name, set, def, got,
				 sel_def, saved);
		start(state);
	}
}

static const struct bad_case {
	const char *name;
	bool set;
	uint32_t cdw10, nsid, val;
	uint16_t want;
} bads[] = {
	{ "power state 1", true, 2, 0, 1, 2 },
	{ "power state 31", true, 2, 0, 31, 2 },
	{ "DULBE", true, 5, 1, 1 << 16, 2 },
	{ "error recovery of all", true, 5, ALL, 7, 0 },
	{ "error recovery of inactive", true, 5, 2, 7, 2 },
	{ "error recovery of 0", true, 5, 0, 7, 0x0b },
	{ "error recovery above NN", true, 5, 9, 7, 0x0b },
	{ "got of all", false, 5, ALL, 0, 0x0b },
	{ "got of 0", false, 5, 0, 0, 0x0b },
	{ "got of inactive", false, 5, 2, 0, 2 },
	{ "got above NN", false, 5, 1025, 0, 0x0b },
	{ "default of fffffffe", false, 1 << 8 | 5, ALL - 1, 0, 0x0b },
	{ "no SQ", true, 7, 0, 0xffff, 2 },
	{ "no CQ", true, 7, 0, 0xffff0000, 2 },
	{ "vector of the admin queue", true, 9, 0, 1 << 16, 2 },
	{ "vector of no queue", true, 9, 0, 1 << 16 | 1, 2 },
	{ "vector above", true, 9, 0, 5, 2 },
	{ "vector ffff", true, 9, 0, 0x1ffff, 2 },
	{ "got vector above", false, 9, 0, 5, 2 },
	{ "got vector ffff", false, 9, 0, 0xffff, 2 },
	{ "profile 1", true, 0x19, 0, 1, CMD(0x2b) },
	{ "profile 511", true, 0x19, 0, 511, CMD(0x2b) },
	{ "not per namespace", true, 6, 1, 0, CMD(0x0f) },
	{ "not per namespace, inactive", true, 6, 2, 0, CMD(0x0f) },
	{ "not per namespace, above NN", true, 6, 9, 0, 0x0b },
	{ "got, not per namespace", false, 6, 1, 0, 0 },
	{ "sensor 2", true, 4, 0, 2 << 16 | 400, 2 },
	{ "sensor 14", true, 4, 0, 14 << 16 | 400, 2 },
	{ "threshold type 2", true, 4, 0, 2 << 20 | 400, 2 },
	{ "got sensor 2", false, 4, 0, 2 << 16, 2 },
	{ "got all sensors", false, 4, 0, 15 << 16, 2 },
	{ "got threshold type 3", false, 4, 0, 3 << 20, 2 },
};

static void
refuses(void **state)
{
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bads); i++) {
		const struct bad_case *c = &bads[i];
		struct fx_result got =
			run(fx, c->set, c->cdw10, c->nsid, c->val);

		if (got.status != c->want)
			fail_msg("%s: %x", c->name, got.status);
	}
}

static void
keeps_namespaces_apart(void **state)
{
	struct fx *fx = *state;

	run(fx, true, 5, 3, 9);
	assert_int_equal(run(fx, false, 5, 1, 0).dw0, 0);
	assert_int_equal(run(fx, false, 5, 3, 0).dw0, 9);
	run(fx, true, 5, ALL, 4);
	assert_int_equal(run(fx, false, 5, 1, 0).dw0, 4);
	assert_int_equal(run(fx, false, 5, 5, 0).dw0, 4);
}

static const struct count_case {
	uint32_t ask, get;
} counts[] = {
	{ 0, 0 },
	{ 0x00010000, 0x00010000 },
	{ 0x00030003, 0x00030003 },
	{ 0x00040004, 0x00030003 },
	{ 0xfffefffe, 0x00030003 },
	{ 0x00000002, 0x00000002 },
};

static void
allocates_queues(void **state)
{
	struct fx *fx = *state;

	assert_int_equal(fx_get_feature(fx, 7, 0).dw0, 0x00030003);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct fx_result got = fx_set_feature(fx, 7, counts[i].ask);

		assert_int_equal(got.status, 0);
		assert_int_equal(got.dw0, counts[i].get);
		assert_int_equal(fx_get_feature(fx, 7, 0).dw0, counts[i].get);
		/* What was allocated stays. */
		assert_int_equal(fx_set_feature(fx, 7, 0x00010001).dw0,
				 counts[i].get);
		start(state);
	}
}

static uint16_t
queue_cmd(struct fx *fx, uint8_t opcode, uint32_t qid, uint32_t cdw11)
{
	struct nvme_sqe sqe = { .opcode = opcode,
				.prp1 = FX_QUEUES,
				.cdw10 = 15 << 16 | qid,
				.cdw11 = cdw11 };

	return fx_run(fx, sqe).status;
}

/* Not once there were queues, though they are gone; one that could not be made was none. */
static void
allocates_before_queues(void **state)
{
	const uint16_t late = NVME_SC_CMD_SEQ_ERROR;
	struct fx *fx = *state;

	assert_int_not_equal(queue_cmd(fx, nvme_admin_create_cq, 5, 1), 0);
	assert_int_equal(fx_set_feature(fx, 7, 0x00030003).status, 0);
	fx_create_queues(fx, 1);
	assert_int_equal(fx_set_feature(fx, 7, 0).status, late);
	assert_int_equal(fx_set_feature(fx, 7, 0xffff).status, late);
	assert_int_equal(queue_cmd(fx, nvme_admin_delete_sq, 1, 0), 0);
	assert_int_equal(fx_set_feature(fx, 7, 0).status, late);
	assert_int_equal(queue_cmd(fx, nvme_admin_delete_cq, 1, 0), 0);
	assert_int_equal(fx_set_feature(fx, 7, 0).status, late);
	assert_int_equal(fx_get_feature(fx, 7, 0).dw0, 0x00030003);
	start(state);
	assert_int_equal(fx_set_feature(fx, 7, 0).status, 0);
}

/* A vector has settings from its first I/O completion queue on. */
static void
configures_vectors(void **state)
{
	const uint32_t cd = 1 << 16;
	struct fx *fx = *state;

	assert_int_equal(queue_cmd(fx, nvme_admin_create_cq, 1, 2 << 16 | 3),
			 0);
	/* without interrupts: its vector means nothing */
	assert_int_equal(queue_cmd(fx, nvme_admin_create_cq, 2, 3 << 16 | 1),
			 0);
	for (uint32_t iv = 0; iv < 4; iv++)
		assert_int_equal(fx_set_feature(fx, 9, cd | iv).status,
				 iv == 2 ? 0 : 2);
	assert_int_equal(run(fx, false, 9, 0, 2).dw0, cd | 2);
	assert_int_equal(run(fx, false, 1 << 8 | 9, 0, 2).dw0, 2);
	assert_int_equal(run(fx, false, 9, 0, 3).dw0, 3);
	assert_int_equal(queue_cmd(fx, nvme_admin_create_cq, 3, 3), 0);
	assert_int_equal(fx_set_feature(fx, 9, cd).status, 0);
	assert_int_equal(queue_cmd(fx, nvme_admin_delete_cq, 1, 0), 0);
	assert_int_equal(fx_set_feature(fx, 9, 2).status, 2);
}

static bool
too_warm(struct fx *fx)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.cdw10 = 127 << 16 | 2 };
	const struct nvme_smart_log *log = fx_data(fx);

	assert_int_equal(fx_run_data(fx, sqe).status, 0);
	return log->critical_warning & NVME_SMART_CRIT_TEMPERATURE;
}

/* CDW11 of feature 04h, and whether 313 K is then a warning. */
static const struct temp_case {
	const char *name;
	uint32_t val;
	bool warm;
} temps[] = {
	{ "over, above", 314, false },
	{ "over, exactly", 313, true },
	{ "over, below", 300, true },
	{ "under, below", 1 << 20 | 312, false },
	{ "under, exactly", 1 << 20 | 313, true },
	{ "under, above", 1 << 20 | 350, true },
	{ "sensor 1 over", 1 << 16 | 313, true },
	{ "sensor 1 under", 1 << 20 | 1 << 16 | 314, true },
	{ "all sensors over", 15 << 16 | 200, true },
	{ "all sensors high", 15 << 16 | 0xffff, false },
};

static void
watches_temperature(void **state)
{
	const struct nvme_sqe aer = { .opcode = nvme_admin_async_event };
	struct fx *fx = *state;
	struct fx_result got;

	assert_int_equal(fx_get_feature(fx, 4, 0).dw0, 343);
	for (size_t i = 0; i < ARRAY_SIZE(temps); i++) {
		const struct temp_case *c = &temps[i];
		bool told;

		start(state);
		assert_false(too_warm(fx));
		fx_set_feature(fx, 0x0b, 2);
		fx_submit(fx, aer);
		fx_submit(fx,
			  (struct nvme_sqe){ .opcode = nvme_admin_set_features,
					     .cdw10 = 4,
					     .cdw11 = c->val });
		assert_true(fx_poll(fx, &got));
		told = got.dw0 != 0;
		if (told) {
			assert_int_equal(got.dw0, 1 | 1 << 8 | 2 << 16);
			assert_true(fx_poll(fx, &got));
		}
		assert_int_equal(got.status, 0);
		if (told != c->warm || too_warm(fx) != c->warm)
			fail_msg("%s", c->name);
	}
}

/* Enabled too late: told as soon as it is. */
static void
tells_a_standing_warning(void **state)
{
	const struct nvme_sqe aer = { .opcode = nvme_admin_async_event };
	struct fx *fx = *state;
	struct fx_result got;

	fx_submit(fx, aer);
	assert_int_equal(fx_set_feature(fx, 4, 200).status, 0);
	assert_false(fx_poll(fx, &got));
	fx_submit(fx, (struct nvme_sqe){ .opcode = nvme_admin_set_features,
					 .cdw10 = 0x0b,
					 .cdw11 = 2 });
	assert_true(fx_poll(fx, &got));
	assert_int_equal(got.dw0, 1 | 1 << 8 | 2 << 16);
	assert_true(fx_poll(fx, &got));
}

static void
keeps_time(void **state)
{
	struct fx *fx = *state;
	const uint64_t want = 0x018f00000000;
	uint64_t got = 0;
	uint8_t *data = fx_data(fx);

	memset(data, 0xff, 16);
	assert_int_equal(fx_get_feature(fx, 0x0e, 0).status, 0);
	assert_int_equal(data[6], 0); /* origin: reset */
	assert_int_equal(data[8], 0xff);
	memcpy(data, &want, 8);
	data[6] = data[7] = 0xff; /* reserved: not taken */
	assert_int_equal(fx_set_feature(fx, 0x0e, 0).status, 0);
	memset(data, 0xff, 16);
	assert_int_equal(fx_get_feature(fx, 0x0e, 0).status, 0);
	memcpy(&got, data, 6);
	assert_in_range(got, want, want + 60000);
	assert_int_equal(data[6], 2); /* origin: Set Features */
	assert_int_equal(data[7], 0);
	assert_int_equal(fx_get_feature(fx, 0x0e, 1).status, 0);
	memcpy(&got, data, 6);
	assert_int_equal(got, 0);
}

static void
takes_host_behavior(void **state)
{
	struct fx *fx = *state;
	uint8_t *data = fx_data(fx);

	memset(data, 0, 512);
	data[0] = data[2] = 1;
	data[3] = data[511] = 0xff; /* reserved */
	assert_int_equal(fx_set_feature(fx, 0x16, 0).status, 0);
	memset(data, 0xee, 513);
	assert_int_equal(fx_get_feature(fx, 0x16, 0).status, 0);
	assert_int_equal(data[0], 1);
	assert_int_equal(data[1], 0);
	assert_int_equal(data[2], 1);
	assert_int_equal(data[3] | data[511], 0);
	assert_int_equal(data[512], 0xee);
	for (unsigned i = 0; i < 3; i++) {
		memset(data, 0, 512);
		data[i] = 2;
		assert_int_equal(fx_set_feature(fx, 0x16, 0).status, 2);
	}
	fx_get_feature(fx, 0x16, 0);
	assert_int_equal(data[0], 1); /* as before */
}

/* A data pointer that is not there must not change anything. */
static void
needs_its_data(void **state)
{
	static const uint8_t with_data[] = { 0x0e, 0x16 };
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(with_data); i++) {
		struct nvme_sqe sqe = { .opcode = nvme_admin_set_features,
					.prp1 = FX_HOLE,
					.cdw10 = with_data[i] };

		assert_int_equal(fx_run(fx, sqe).status, 4);
		sqe.opcode = nvme_admin_get_features;
		assert_int_equal(fx_run(fx, sqe).status, 4);
		sqe.prp1 = 0;
		assert_int_equal(fx_run(fx, sqe).status, 4);
		sqe.prp1 = FX_DATA + 1;
		assert_int_equal(fx_run(fx, sqe).status, 0x13);
	}
	assert_int_equal(fx->ctrl->feat.timestamp_origin, 0);
}

int
feature_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(knows_its_features, start),
		cmocka_unit_test_setup(keeps_values, start),
		cmocka_unit_test_setup(refuses, start),
		cmocka_unit_test_setup(keeps_namespaces_apart, start),
		cmocka_unit_test_setup(allocates_queues, start),
		cmocka_unit_test_setup(allocates_before_queues, start),
		cmocka_unit_test_setup(configures_vectors, start),
		cmocka_unit_test_setup(watches_temperature, start),
		cmocka_unit_test_setup(tells_a_standing_warning, start),
		cmocka_unit_test_setup(keeps_time, start),
		cmocka_unit_test_setup(takes_host_behavior, start),
		cmocka_unit_test_setup(needs_its_data, start),
	};

	return cmocka_run_group_tests_name("nvme feature", tests, fx_setup,
					   fx_teardown);
}
