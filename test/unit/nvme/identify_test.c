/* SPDX-License-Identifier: BSD-3-Clause */
/* Identify: what each CNS takes, and what the structures say. */
#include "admin_fx.h"

int identify_tests(void);

#define ALL NVME_NSID_ALL
#define CNT(id) ((uint32_t)(id) << 16)
#define CSI(id) ((uint32_t)(id) << 24)

static struct fx_result
run(struct fx *fx, uint32_t cdw10, uint32_t nsid, uint32_t cdw11)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_identify,
				.nsid = nsid,
				.cdw10 = cdw10,
				.cdw11 = cdw11 };

	memset(fx_data(fx), 0xa5, 4096);
	return fx_run_data(fx, sqe);
}

static bool
is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* Namespaces 1, 3, 5 are active, NN is 8. */
static const struct case_ {
	const char *name;
	uint32_t cdw10, nsid, cdw11;
	uint16_t want;
	bool zeros;
} cases[] = {
	{ "namespace", 0x00, 1, 0, 0, false },
	{ "namespace inactive", 0x00, 2, 0, 0, true },
	{ "namespace NN, inactive", 0x00, 8, 0, 0, true },
	{ "namespace 0", 0x00, 0, 0, 0x0b, false },
	{ "namespace above NN", 0x00, 9, 0, 0x0b, false },
	{ "namespace 1025", 0x00, 1025, 0, 0x0b, false },
	{ "namespace of all", 0x00, ALL, 0, 0x0b, false },
	{ "namespace fffffffe", 0x00, ALL - 1, 0, 0x0b, false },
	{ "controller", 0x01, 0, 0, 0, false },
	{ "controller, NSID is nobody's", 0x01, ALL, 0, 0, false },
	{ "list", 0x02, 0, 0, 0, false },
	{ "list behind the last", 0x02, 5, 0, 0, true },
	{ "list behind NN", 0x02, 1025, 0, 0, true },
	{ "list from fffffffd", 0x02, ALL - 2, 0, 0, true },
	{ "list from fffffffe", 0x02, ALL - 1, 0, 0x0b, false },
	{ "list from ffffffff", 0x02, ALL, 0, 0x0b, false },
	{ "descriptors", 0x03, 1, 0, 0, false },
	{ "descriptors inactive", 0x03, 2, 0, 2, false },
	{ "descriptors of 0", 0x03, 0, 0, 0x0b, false },
	{ "descriptors above NN", 0x03, 9, 0, 0x0b, false },
	{ "descriptors of all", 0x03, ALL, 0, 0x0b, false },
	{ "no NVM sets", 0x04, 0, 0, 2, false },
	{ "NVM namespace", 0x05, 1, 0, 0, true },
	{ "NVM namespace inactive", 0x05, 2, 0, 0, true },
	{ "NVM namespace 0", 0x05, 0, 0, 0x0b, false },
	{ "NVM namespace of all", 0x05, ALL, 0, 0x0b, false },
	{ "zoned namespace", 0x05, 1, CSI(2), 2, false },
	{ "NVM controller", 0x06, 0, 0, 0, false },
	{ "zoned controller", 0x06, 0, CSI(2), 2, false },
	{ "controller of ff", 0x06, 0, CSI(255), 2, false },
	{ "NVM list", 0x07, 0, 0, 0, false },
	{ "NVM list behind the last", 0x07, 5, 0, 0, true },
	{ "NVM list from all", 0x07, ALL, 0, 0x0b, false },
	{ "key value list", 0x07, 0, CSI(1), 2, false },
	{ "independent", 0x08, 1, 0, 0, false },
	{ "independent inactive", 0x08, 4, 0, 0, true },
	{ "independent of 0", 0x08, 0, 0, 0x0b, false },
	{ "independent of all", 0x08, ALL, 0, 0x0b, false },
	{ "no allocated list", 0x10, 0, 0, 2, false },
	{ "no allocated namespace", 0x11, 1, 0, 2, false },
	{ "no attached list", 0x12, 1, 0, 2, false },
	{ "controller list", 0x13, 0, 0, 0, false },
	{ "controller list behind", 0x13 | CNT(0xffff), 0, 0, 0, true },
	{ "no primary", 0x14, 0, 0, 2, false },
	{ "no UUIDs", 0x17, 0, 0, 2, false },
	{ "command sets", 0x1c | CNT(0xffff), 0, 0, 0, false },
	{ "command sets of nobody", 0x1c | CNT(0x1234), 0, 0, 2, false },
	{ "reserved", 0x1d, 0, 0, 2, false },
	{ "ff", 0xff, 0, 0, 2, false },
};

static void
takes_what_it_should(void **state)
{
	struct fx *fx = *state;
	const uint8_t *data = fx_data(fx);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct case_ *c = &cases[i];
		struct fx_result got = run(fx, c->cdw10, c->nsid, c->cdw11);

		if (got.status != c->want)
			fail_msg("%s: %x", c->name, got.status);
		if (got.status && data[0] != 0xa5)
			fail_msg("%s: wrote data", c->name);
		if (!got.status && is_zero(data, 4096) != c->zeros)
			fail_msg("%s: zeros?", c->name);
	}
}

static void
describes_the_controller(void **state)
{
	struct fx *fx = *state;
	const struct nvme_id_ctrl *id = fx_data(fx);
	char fr[9] = "";

	assert_int_equal(run(fx, 1, 0, 0).status, 0);
	assert_int_equal(id->vid, 0x1234);
	assert_int_equal(id->ssvid, 0x5678);
	assert_memory_equal(id->sn, "SN123               ", 20);
	assert_memory_equal(id->mn, "A model                                 ",
			    40);
	snprintf(fr, sizeof(fr), "%-8s", BELFRY_VERSION);
	assert_memory_equal(id->fr, fr, 8);
	assert_int_equal(id->mdts, 8); /* 1 MiB */
	assert_int_equal(id->cntlid, fx->ctrl->cntlid);
	assert_int_equal(id->ver, 0x20000);
	assert_int_equal(id->cntrltype, 1);
	assert_int_equal(id->cmic, 3); /* ports, controllers */
	assert_int_equal(id->oacs, 0);
	assert_int_equal(id->aerl, NVME_AER_MAX - 1);
	assert_int_equal(id->elpe, NVME_ERRLOG_ENTRIES - 1);
	assert_int_equal(id->lpa, 0x27);
	assert_int_equal(id->sqes, 0x66);
	assert_int_equal(id->cqes, 0x44);
	assert_int_equal(id->nn, FX_NN);
	assert_int_equal(id->vwc, 7);
	assert_int_equal(id->npss, 0);
	assert_int_equal(id->fuses, 0);
	assert_int_equal(id->sgls, 1 | 1 << 16 | 1 << 18);
	assert_string_equal(id->subnqn, "nqn.2024-01.io.belfry:unit");
	assert_int_equal(id->subnqn[255], 0);
}

/* ONCS and the I/O commands of the effects log are two words for one thing. */
static void
announces_what_io_serves(void **state)
{
	static const struct {
		uint8_t opcode;
		uint16_t oncs; /* 0: mandatory */
	} rows[] = {
		{ nvme_cmd_flush, 0 },
		{ nvme_cmd_write, 0 },
		{ nvme_cmd_read, 0 },
		{ nvme_cmd_write_uncor, NVME_CTRL_ONCS_WRITE_UNCORRECTABLE },
		{ nvme_cmd_compare, NVME_CTRL_ONCS_COMPARE },
		{ nvme_cmd_write_zeroes, NVME_CTRL_ONCS_WRITE_ZEROES },
		{ nvme_cmd_dsm, NVME_CTRL_ONCS_DSM },
		{ nvme_cmd_verify, NVME_CTRL_ONCS_VERIFY },
		{ nvme_cmd_resv_register, NVME_CTRL_ONCS_RESERVATIONS },
		{ nvme_cmd_resv_report, NVME_CTRL_ONCS_RESERVATIONS },
		{ nvme_cmd_copy, NVME_CTRL_ONCS_COPY },
	};
	struct fx *fx = *state;
	const struct nvme_id_ctrl *id = fx_data(fx);
	uint32_t iocs[256] = { 0 };

	io_effects(iocs);
	assert_int_equal(run(fx, 1, 0, 0).status, 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool want = !rows[i].oncs || id->oncs & rows[i].oncs;

		if ((iocs[rows[i].opcode] & 1) != want)
			fail_msg("opcode %02x", rows[i].opcode);
	}
}

static void
lists_namespaces(void **state)
{
	static const struct {
		uint32_t cns, after, want[4];
	} rows[] = {
		{ 2, 0, { 1, 3, 5, 0 } }, { 2, 1, { 3, 5, 0, 0 } },
		{ 2, 2, { 3, 5, 0, 0 } }, { 2, 4, { 5, 0, 0, 0 } },
		{ 7, 3, { 5, 0, 0, 0 } },
	};
	struct fx *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run(fx, rows[i].cns, rows[i].after, 0).status,
				 0);
		assert_memory_equal(fx_data(fx), rows[i].want, 16);
		assert_true(is_zero((uint8_t *)fx_data(fx) + 16, 4080));
	}
}

static void
describes_a_namespace(void **state)
{
	static const uint8_t nguid[16] = { [0 ... 15] = 0x11 };
	static const uint8_t eui64[8] = { [0 ... 7] = 0x22 };
	struct fx *fx = *state;
	const struct nvme_id_ns *id = fx_data(fx);

	assert_int_equal(run(fx, 0, 5, 0).status, 0);
	assert_int_equal(id->nsze, 1024);
	assert_int_equal(id->ncap, 1024);
	assert_int_equal(id->nuse, 1024);
	assert_int_equal(id->nlbaf, 0);
	assert_int_equal(id->flbas, 0);
	assert_int_equal(id->lbaf[0].ds, 12);
	assert_int_equal(id->lbaf[0].ms, 0);
	assert_int_equal(id->dlfeat, 9);
	assert_int_equal(id->nmic, 1);
	assert_int_equal(id->nsattr, 0);
	assert_true(is_zero(id->nguid, 24));

	assert_int_equal(run(fx, 0, 3, 0).status, 0);
	assert_int_equal(id->lbaf[0].ds, 9);
	assert_memory_equal(id->nguid, nguid, 16);
	assert_memory_equal(id->eui64, eui64, 8);
}

/* The identifiers of CNS 03h, each type at most once, in one pass. */
static void
describes_identifiers(void **state)
{
	static const struct {
		uint32_t nsid, types; /* a bit each */
	} rows[] = { { 1, 1 << 3 | 1 << 4 },
		     { 3, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 } };
	static const uint8_t lens[] = { 0, 8, 16, 16, 1 };
	struct fx *fx = *state;
	const uint8_t *p = fx_data(fx);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t seen = 0;
		size_t at = 0;

		assert_int_equal(run(fx, 3, rows[i].nsid, 0).status, 0);
		while (p[at + 1]) {
			assert_in_range(p[at], 1, 4);
			assert_int_equal(seen >> p[at] & 1, 0);
			assert_int_equal(p[at + 1], lens[p[at]]);
			seen |= 1u << p[at];
			at += 4u + p[at + 1];
		}
		assert_int_equal(seen, rows[i].types);
		assert_true(is_zero(p + at, 4096 - at));
	}
}

static void
describes_the_rest(void **state)
{
	struct fx *fx = *state;
	const struct nvme_id_ctrl_nvm *nvm = fx_data(fx);
	const struct nvme_id_independent_id_ns *ind = fx_data(fx);
	const struct nvme_ctrl_list *list = fx_data(fx);
	const struct nvme_id_iocs *iocs = fx_data(fx);

	assert_int_equal(run(fx, 6, 0, 0).status, 0);
	assert_int_equal(nvm->vsl, 8);
	assert_int_equal(nvm->wzsl, 8);
	assert_int_equal(run(fx, 8, 1, 0).status, 0);
	assert_int_equal(ind->nstat, 1);
	assert_int_equal(ind->nmic, 1);
	assert_int_equal(run(fx, 0x13, 0, 0).status, 0);
	assert_in_range(list->num, 1, 2047);
	assert_int_equal(list->identifier[0], fx->ctrl->cntlid);
	assert_int_equal(run(fx, 0x1c | CNT(fx->ctrl->cntlid), 0, 0).status, 0);
	assert_int_equal(iocs->iocsc[0], 1);
	assert_int_equal(iocs->iocsc[1], 0);
}

static void
come(void *arg, struct nvme_ctrl *ctrl, int err)
{
	assert_int_equal(err, 0);
	*(struct nvme_ctrl **)arg = ctrl;
}

static void
gone(void *arg)
{
	*(bool *)arg = true;
}

/* Those of other clients of the subsystem too, as long as they are there. */
static void
lists_controllers(void **state)
{
	struct fx *fx = *state;
	struct nvme_ctrl_config cfg = fx->ctrl->cfg;
	const struct nvme_ctrl_list *list = fx_data(fx);
	uint16_t first = fx->ctrl->cntlid;
	struct nvme_ctrl *other = NULL;
	bool end = false;

	assert_int_equal(ioas_ctx_create(fx->r, IOAS_LEGACY, NULL, &cfg.ioas),
			 0);
	nvme_ctrl_create(&cfg, come, &other);
	for (unsigned i = 0; i < 1000 && !other; i++)
		fx_step(fx, 1);
	assert_non_null(other);
	assert_int_equal(run(fx, 0x13, 0, 0).status, 0);
	assert_int_equal(list->num, 2);
	assert_int_equal(list->identifier[0], first);
	assert_int_equal(list->identifier[1], other->cntlid);
	assert_int_equal(run(fx, 0x13 | CNT(first + 1), 0, 0).status, 0);
	assert_int_equal(list->num, 1);
	assert_int_equal(list->identifier[0], other->cntlid);
	assert_int_equal(list->identifier[1], 0);
	nvme_ctrl_destroy(other, gone, &end);
	fx_wait(fx, &end);
	assert_int_equal(run(fx, 0x13, 0, 0).status, 0);
	assert_int_equal(list->num, 1);
	end = false;
	ioas_ctx_destroy(cfg.ioas, gone, &end);
	fx_wait(fx, &end);
}

static void
follows_a_resize(void **state)
{
	struct fx *fx = *state;
	const struct nvme_id_ns *id = fx_data(fx);

	fake_bdev_resize(fx->bdev[1], 2048);
	fx_step(fx, 100);
	assert_int_equal(run(fx, 0, 1, 0).status, 0);
	assert_int_equal(id->nsze, 2048);
	fake_bdev_resize(fx->bdev[1], 1024);
	fx_step(fx, 100);
}

int
identify_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_it_should),
		cmocka_unit_test(describes_the_controller),
		cmocka_unit_test(announces_what_io_serves),
		cmocka_unit_test(lists_namespaces),
		cmocka_unit_test(describes_a_namespace),
		cmocka_unit_test(describes_identifiers),
		cmocka_unit_test(describes_the_rest),
		cmocka_unit_test(lists_controllers),
		cmocka_unit_test(follows_a_resize),
	};

	return cmocka_run_group_tests_name("nvme identify", tests, fx_setup,
					   fx_teardown);
}
