/* SPDX-License-Identifier: BSD-3-Clause */
/* Log pages: one bound for all of them, and true contents. */
#include "admin_fx.h"

int log_page_tests(void);

#define ALL NVME_NSID_ALL
#define RAE (1u << 15)
#define OT (1u << 23)

static struct fx_result
get(struct fx *fx, uint32_t lid, uint32_t nsid, uint64_t off, uint64_t dwords)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.nsid = nsid,
				.cdw10 = (uint32_t)(dwords - 1) << 16 | lid,
				.cdw11 = (uint32_t)(dwords - 1) >> 16,
				.cdw12 = (uint32_t)off,
				.cdw13 = (uint32_t)(off >> 32) };

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

static const struct page {
	uint8_t lid;
	uint32_t len;
} pages[] = { { 0x00, 1024 }, { 0x01, 4096 }, { 0x02, 512 },  { 0x03, 512 },
	      { 0x04, 4096 }, { 0x05, 4096 }, { 0x12, 1024 }, { 0x13, 4096 } };

static void
knows_its_pages(void **state)
{
	struct fx *fx = *state;
	uint32_t lids[256];

	assert_int_equal(get(fx, 0, 0, 0, 256).status, 0);
	memcpy(lids, fx_data(fx), sizeof(lids));
	for (unsigned lid = 0; lid < 256; lid++) {
		bool known = false;
		struct fx_result got = get(fx, lid, 0, 0, 128);

		for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
			known |= pages[i].lid == lid;
		if (got.status != (known ? 0 : CMD(9)) || lids[lid] != known)
			fail_msg("%02x: %x", lid, got.status);
	}
}

/* Each page at its edges; what is read beyond its end is zeros. */
static void
bounds_every_page(void **state)
{
	struct fx *fx = *state;
	uint8_t *data = fx_data(fx);

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		uint8_t lid = pages[i].lid;
		uint32_t len = pages[i].len;

		memset(data, 0xa5, 8192);
		assert_int_equal(get(fx, lid | RAE, 0, 0, len / 4).status, 0);
		assert_int_equal(data[len], 0xa5);
		assert_int_equal(get(fx, lid | RAE, 0, len - 4, 1).status, 0);
		assert_int_equal(get(fx, lid | RAE, 0, len - 4, 3).status, 0);
		assert_int_equal(data[4] | data[11], 0);
		assert_int_equal(get(fx, lid | RAE, 0, len, 2).status, 0);
		assert_int_equal(data[0] | data[7], 0);
		assert_int_equal(data[len], 0xa5);
		assert_int_equal(get(fx, lid, 0, len + 4, 1).status, 2);
		assert_int_equal(get(fx, lid, 0, 2, 1).status, 2);
		assert_int_equal(get(fx, lid, 0, 1ull << 32, 1).status, 2);
		assert_int_equal(get(fx, lid, 0, ~3ull, 1).status, 2);
		assert_int_equal(get(fx, lid, 0, ~0ull, 1).status, 2);
	}
}

/* Longer than any page: no more is written than there is. */
static void
writes_no_more_than_a_page(void **state)
{
	struct fx *fx = *state;
	uint8_t *data = fx_data(fx);

	memset(data, 0xa5, 8192);
	assert_int_equal(get(fx, 2 | RAE, 0, 0, 8192 / 4).status, 0);
	for (unsigned i = 512; i < 8192; i++)
		assert_int_equal(data[i], i < 4096 ? 0 : 0xa5);
}

static const struct row {
	const char *name;
	uint32_t lid, nsid;
	uint64_t dwords;
	uint32_t cdw14;
	uint16_t want;
} rows[] = {
	{ "largest transfer", 2 | RAE, 0, 1 << 18, 0, 0 },
	{ "above MDTS", 2, 0, (1 << 18) + 1, 0, 2 },
	{ "16 GiB", 2, 0, 1ull << 32, 0, 2 },
	{ "index offset", 0, 0, 16, OT, 2 },
	{ "UUID index is nobody's", 2, 0, 16, 1, 0 },
	{ "effects of another command set", 5, 0, 16, 2u << 24, 2 },
	{ "error log, all", 1, ALL, 16, 0, 0 },
	{ "error log of a namespace", 1, 1, 16, 0, 2 },
	{ "changed namespaces of one", 4, 1, 16, 0, 2 },
	{ "effects of a namespace", 5, 3, 16, 0, 2 },
	{ "SMART of a namespace", 2, 1, 16, 0, 0 },
	{ "SMART of an inactive one", 2, 2, 16, 0, 2 },
	{ "SMART above NN", 2, 9, 16, 0, 0x0b },
	{ "SMART of fffffffe", 2, ALL - 1, 16, 0, 0x0b },
	{ "lsp is nobody's", 2 | 0x7f00, 0, 16, 0, 0 },
	{ "reserved page", 0x7e, 0, 16, 0, CMD(9) },
	{ "telemetry", 7, 0, 16, 0, CMD(9) },
	{ "sanitize", 0x81, 0, 16, 0, CMD(9) },
};

static void
checks_fields(void **state)
{
	struct fx *fx = *state;

	/* A list of pages for the largest. */
	for (uint64_t i = 0; i < 255; i++)
		((uint64_t *)(fx->mem + 0x10000))[i] = FX_DATA + (i + 1) * 4096;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *c = &rows[i];
		struct nvme_sqe sqe = {
			.opcode = nvme_admin_get_log_page,
			.nsid = c->nsid,
			.prp1 = FX_DATA,
			.prp2 = c->dwords > 2048 ? FX_IOVA + 0x10000
						 : FX_DATA + 4096,
			.cdw10 = (uint32_t)(c->dwords - 1) << 16 | c->lid,
			.cdw11 = (uint32_t)((c->dwords - 1) >> 16),
			.cdw14 = c->cdw14
		};
		struct fx_result got = fx_run(fx, sqe);

		if (got.status != c->want)
			fail_msg("%s: %x", c->name, got.status);
	}
}

static void
logs_errors_newest_first(void **state)
{
	const struct nvme_sqe bad = { .opcode = 0xc7, .nsid = 77 };
	struct fx *fx = *state;
	const struct nvme_error_log_page *e = fx_data(fx);
	uint64_t first = fx->ctrl->error_count;
	uint16_t cid = 0;

	log_page_reset(fx->ctrl);
	assert_int_equal(get(fx, 1, 0, 0, 1024).status, 0);
	assert_int_equal(e[0].error_count, 0);
	for (unsigned i = 0; i < 3; i++)
		cid = fx_run(fx, bad).cid;
	assert_int_equal(get(fx, 1, 0, 0, 1024).status, 0);
	assert_int_equal(e[0].error_count, first + 3);
	assert_int_equal(e[1].error_count, first + 2);
	assert_int_equal(e[2].error_count, first + 1);
	assert_int_equal(e[3].error_count, 0);
	assert_int_equal(e[0].sqid, 0);
	assert_int_equal(e[0].cmdid, cid);
	assert_int_equal(e[0].nsid, 77);
	assert_int_equal(e[0].trtype, 0);
	assert_int_equal(e[0].status_field >> 1 & 0x7ff,
			 NVME_SC_INVALID_OPCODE);
	for (unsigned i = 0; i < 100; i++)
		fx_run(fx, bad);
	assert_int_equal(get(fx, 1, 0, 0, 1024).status, 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(e[i].error_count, first + 103 - i);
	/* The count goes on over a reset, the entries do not. */
	log_page_reset(fx->ctrl);
	assert_int_equal(get(fx, 1, 0, 0, 1024).status, 0);
	assert_int_equal(e[0].error_count, 0);
	fx_run(fx, bad);
	assert_int_equal(get(fx, 1, 0, 0, 1024).status, 0);
	assert_int_equal(e[0].error_count, first + 104);
	assert_int_equal(e[1].error_count, 0);
}

static void
logs_an_error_of_no_command(void **state)
{
	struct fx *fx = *state;
	const struct nvme_error_log_page *e = fx_data(fx);

	log_page_error(&fx->ctrl->group, NULL, NVME_SC_INTERNAL);
	assert_int_equal(get(fx, 1, 0, 0, 16).status, 0);
	assert_int_equal(e->sqid, 0xffff);
	assert_int_equal(e->cmdid, 0xffff);
}

/* More: the entry is there, with the status field as it was completed. */
static void
tells_of_more(void **state)
{
	const struct nvme_sqe bad = { .opcode = 0xc7 };
	const struct nvme_sqe good = { .opcode = nvme_admin_identify,
				       .cdw10 = 1 };
	struct fx *fx = *state;
	const struct nvme_error_log_page *e = fx_data(fx);
	struct fx_result got = fx_run(fx, bad);

	assert_true(got.more);
	assert_true(got.dnr);
	assert_int_equal(get(fx, 1, 0, 0, 16).status, 0);
	assert_int_equal(e->cmdid, got.cid);
	assert_int_equal(e->status_field >> 1,
			 NVME_SC_DNR | NVME_SC_MORE | NVME_SC_INVALID_OPCODE);
	got = fx_run_data(fx, good);
	assert_false(got.more);
	assert_false(got.dnr);
}

static uint64_t
u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

static const struct unit_case {
	uint64_t units, want;
} units[] = { { 0, 0 },
	      { 1, 1 },
	      { 999, 1 },
	      { 1000, 1 },
	      { 1001, 2 },
	      { 2000000, 2000 },
	      { ~0ull, ~0ull / 1000 + 1 } };

static void
counts_io(void **state)
{
	struct fx *fx = *state;
	const struct nvme_smart_log *log = fx_data(fx);
	struct nvme_nsref *one = ctrl_ns(fx->ctrl, 1);
	struct nvme_nsref *three = ctrl_ns(fx->ctrl, 3);

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		one->read_units = units[i].units;
		assert_int_equal(get(fx, 2, ALL, 0, 128).status, 0);
		assert_int_equal(u64(log->data_units_read), units[i].want);
	}
	one->read_units = three->read_units = 600;
	one->write_units = 5;
	one->read_cmds = 7;
	three->read_cmds = 8;
	three->write_cmds = 9;
	fx->ctrl->group.past.read_cmds = 100;
	assert_int_equal(get(fx, 2, 0, 0, 128).status, 0);
	assert_int_equal(u64(log->data_units_read), 2); /* 1200, rounded once */
	assert_int_equal(u64(log->data_units_written), 1);
	assert_int_equal(u64(log->host_reads), 115);
	assert_int_equal(u64(log->host_writes), 9);
	assert_int_equal(log->temperature[0] | log->temperature[1] << 8, 313);
	assert_int_equal(log->avail_spare, 100);
	assert_int_equal(u64(log->num_err_log_entries), fx->ctrl->error_count);
	assert_int_equal(get(fx, 2, 3, 0, 128).status, 0);
	assert_int_equal(u64(log->host_reads), 8);
	assert_int_equal(u64(log->host_writes), 9);
	fx->ctrl->group.past.read_cmds = 0;
	one->read_units = three->read_units = one->write_units = 0;
	one->read_cmds = three->read_cmds = three->write_cmds = 0;
}

/* A comparison that differs is logged, but is no fault of the medium. */
static void
counts_media_errors(void **state)
{
	struct fx *fx = *state;
	struct nvme_req req = { .sq = fx->ctrl->group.sqs[0] };
	uint64_t before = fx->ctrl->media_errors;

	log_page_error(&fx->ctrl->group, &req,
		       NVME_MEDIA_SC(NVME_SC_COMPARE_FAILED));
	log_page_error(&fx->ctrl->group, &req,
		       NVME_DNR(NVME_MEDIA_SC(NVME_SC_COMPARE_FAILED)));
	log_page_error(&fx->ctrl->group, &req, NVME_SC_INTERNAL);
	assert_int_equal(fx->ctrl->media_errors, before);
	log_page_error(&fx->ctrl->group, &req,
		       NVME_MEDIA_SC(NVME_SC_READ_ERROR));
	log_page_error(&fx->ctrl->group, &req,
		       NVME_DNR(NVME_MEDIA_SC(NVME_SC_WRITE_FAULT)));
	assert_int_equal(fx->ctrl->media_errors, before + 2);
}

static void
names_the_firmware(void **state)
{
	struct fx *fx = *state;
	const struct nvme_firmware_slot *log = fx_data(fx);
	char want[9] = "";

	assert_int_equal(get(fx, 3, 0, 0, 128).status, 0);
	snprintf(want, sizeof(want), "%-8s", BELFRY_VERSION);
	assert_int_equal(log->afi, 1);
	assert_memory_equal(log->frs[0], want, 8);
	assert_int_equal(log->frs[1][0], 0);
}

/* What is supported has a scope; what is not has nothing. */
static void
tells_effects(void **state)
{
	struct fx *fx = *state;
	const struct nvme_cmd_effects_log *log = fx_data(fx);
	unsigned n = 0;

	assert_int_equal(get(fx, 5, ALL, 0, 1024).status, 0);
	for (unsigned i = 0; i < 512; i++) {
		uint32_t e = i < 256 ? log->acs[i] : log->iocs[i - 256];

		n += e & 1;
		if (e & 1 ? !(e >> 20) : e)
			fail_msg("%u: %x", i, e);
	}
	assert_int_equal(n, 11 + 7);
	assert_int_equal(log->iocs[nvme_cmd_write] & 3, 3);
	assert_int_equal(log->iocs[nvme_cmd_read] & 3, 1);
}

/* A page that cannot be delivered was not read. */
static void
keeps_what_was_not_delivered(void **state)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.prp1 = FX_HOLE,
				.cdw10 = 1023 << 16 | 4 };
	struct fx *fx = *state;

	aer_ns_changed(fx->ctrl, 3);
	assert_int_equal(fx_run(fx, sqe).status, 4);
	assert_int_equal(fx->ctrl->changed_ns_n, 1);
	assert_int_equal(get(fx, 4, 0, 8, 1).status, 0);
	assert_int_equal(fx->ctrl->changed_ns_n, 0);
}

int
log_page_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(knows_its_pages, start),
		cmocka_unit_test_setup(bounds_every_page, start),
		cmocka_unit_test_setup(writes_no_more_than_a_page, start),
		cmocka_unit_test_setup(checks_fields, start),
		cmocka_unit_test_setup(logs_errors_newest_first, start),
		cmocka_unit_test_setup(logs_an_error_of_no_command, start),
		cmocka_unit_test_setup(tells_of_more, start),
		cmocka_unit_test_setup(counts_io, start),
		cmocka_unit_test_setup(counts_media_errors, start),
		cmocka_unit_test_setup(names_the_firmware, start),
		cmocka_unit_test_setup(tells_effects, start),
		cmocka_unit_test_setup(keeps_what_was_not_delivered, start),
	};

	return cmocka_run_group_tests_name("nvme log_page", tests, fx_setup,
					   fx_teardown);
}
