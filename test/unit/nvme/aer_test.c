/* SPDX-License-Identifier: BSD-3-Clause */
/* Asynchronous events: the limit, masking until the log was read, gating. */
#include "admin_fx.h"

int aer_tests(void);

#define NS_CHANGED (2u | 0u << 8 | 4u << 16)
#define BAD_DOORBELL (0u | 1u << 8 | 1u << 16)

static const struct nvme_sqe aer = { .opcode = nvme_admin_async_event };

/* The dw0 of the next event, ~0: none comes. */
static uint32_t
event(struct fx *fx)
{
	struct fx_result got;

	if (!fx_poll(fx, &got))
		return ~0u;
	assert_int_equal(got.status, 0);
	return got.dw0;
}

static void
read_log(struct fx *fx, uint8_t lid, bool retain)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.cdw10 = 127u << 16 | retain << 15 | lid };

	assert_int_equal(fx_run_data(fx, sqe).status, 0);
}

static int
start(void **state)
{
	struct fx *fx = *state;

	fx_disable(fx);
	fx_enable(fx);
	log_page_reset(fx->ctrl); /* of what the test before left */
	return 0;
}

static void
limits_requests(void **state)
{
	struct fx *fx = *state;
	struct fx_result got;

	for (unsigned i = 0; i < NVME_AER_MAX; i++)
		fx_submit(fx, aer);
	assert_false(fx_poll(fx, &got));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fx_run(fx, aer).status, CMD(5));
	aer_event(fx->ctrl, 0, 1, 1);
	assert_int_equal(event(fx), BAD_DOORBELL);
	fx_submit(fx, aer); /* room for one more */
	assert_false(fx_poll(fx, &got));
	assert_int_equal(fx_run(fx, aer).status, CMD(5));
}

static void
holds_events_for_requests(void **state)
{
	struct fx *fx = *state;

	aer_event(fx->ctrl, 0, 1, 1);
	assert_int_equal(event(fx), ~0u);
	fx_submit(fx, aer);
	assert_int_equal(event(fx), BAD_DOORBELL);
}

static void
masks_a_type_until_its_log_is_read(void **state)
{
	struct fx *fx = *state;

	fx_submit(fx, aer);
	fx_submit(fx, aer);
	aer_event(fx->ctrl, 0, 1, 1);
	assert_int_equal(event(fx), BAD_DOORBELL);
	aer_event(fx->ctrl, 0, 1, 1);
	assert_int_equal(event(fx), ~0u);
	read_log(fx, 1, true); /* RAE: stays masked */
	assert_int_equal(event(fx), ~0u);
	read_log(fx, 2, false); /* another log */
	assert_int_equal(event(fx), ~0u);
	read_log(fx, 1, false); /* settles the second one too */
	assert_int_equal(event(fx), ~0u);
	aer_event(fx->ctrl, 0, 0, 1);
	assert_int_equal(event(fx), 1u << 16);
}

static void
keeps_types_apart(void **state)
{
	struct fx *fx = *state;

	fx_submit(fx, aer);
	fx_submit(fx, aer);
	aer_event(fx->ctrl, 0, 1, 1);
	aer_event(fx->ctrl, 1, 1, 2);
	assert_int_equal(event(fx), BAD_DOORBELL);
	assert_int_equal(event(fx), 1u | 1u << 8 | 2u << 16);
}

/* A doorbell without a queue: the log that the event names has an entry of it. */
static void
logs_bad_doorbells(void **state)
{
	static const uint32_t queue_3 = 0x1000 + 4 * 6, val = 1;
	struct fx *fx = *state;
	const struct nvme_error_log_page *e = fx_data(fx);

	fx_submit(fx, aer);
	read_log(fx, 1, false);
	assert_int_equal(e->error_count, 0);
	nvme_ctrl_write(fx->ctrl, queue_3, &val, sizeof(val));
	assert_int_equal(event(fx), 1u << 16);
	read_log(fx, 1, false);
	assert_int_not_equal(e->error_count, 0);
	assert_int_equal(e->sqid, 0xffff);
	assert_int_equal(e->cmdid, 0xffff);
	assert_int_equal(e->status_field >> 1, NVME_SC_INVALID_FIELD);
}

/* A storm of events costs one slot a kind. */
static void
bounds_the_queue(void **state)
{
	struct fx *fx = *state;
	unsigned n = 0;

	for (unsigned i = 0; i < 100000; i++)
		aer_event(fx->ctrl, (uint8_t)i, (uint8_t)(i >> 3), 1);
	assert_true(fx->ctrl->events.queued <= NVME_EVENTS_MAX);
	aer_reset(fx->ctrl);
	for (unsigned i = 0; i < 1000; i++)
		aer_event(fx->ctrl, 0, 1, 1);
	fx_submit(fx, aer);
	fx_submit(fx, aer);
	while (event(fx) != ~0u)
		n++;
	assert_int_equal(n, 1);
}

static void
gates_namespace_notices(void **state)
{
	struct fx *fx = *state;

	fx_submit(fx, aer);
	aer_ns_changed(fx->ctrl, 3);
	assert_int_equal(event(fx), ~0u);
	assert_int_equal(
		fx_set_feature(fx, NVME_FEAT_FID_ASYNC_EVENT, 1 << 8).status,
		0);
	aer_ns_changed(fx->ctrl, 3);
	assert_int_equal(event(fx), NS_CHANGED);
}

static void
lists_changed_namespaces(void **state)
{
	struct fx *fx = *state;
	const uint32_t *ns = fx_data(fx);
	static const uint32_t come[] = { 5, 1, 5, 3, 1 };

	for (size_t i = 0; i < ARRAY_SIZE(come); i++)
		aer_ns_changed(fx->ctrl, come[i]);
	read_log(fx, 4, true);
	assert_int_equal(ns[0], 1);
	assert_int_equal(ns[1], 3);
	assert_int_equal(ns[2], 5);
	assert_int_equal(ns[3], 0);
	read_log(fx, 4, false);
	assert_int_equal(ns[0], 1); /* RAE kept it */
	read_log(fx, 4, false);
	assert_int_equal(ns[0], 0);
	/* More than fit. */
	for (uint32_t i = 1; i <= 1025; i++)
		aer_ns_changed(fx->ctrl, i);
	read_log(fx, 4, true);
	assert_int_equal(ns[0], NVME_NSID_ALL);
	assert_int_equal(ns[1], 0);
}

/* The real way: a namespace is added and removed. */
static void
tells_of_hot_plug(void **state)
{
	struct fx *fx = *state;
	const uint32_t *ns = fx_data(fx);

	fx_set_feature(fx, NVME_FEAT_FID_ASYNC_EVENT, 1 << 8);
	fx_submit(fx, aer);
	fx_submit(fx, aer);
	fx_add_ns(fx, 7, 512);
	assert_int_equal(event(fx), NS_CHANGED);
	read_log(fx, 4, false);
	assert_int_equal(ns[0], 7);
	fx_remove_ns(fx, 7);
	assert_int_equal(event(fx), NS_CHANGED);
	read_log(fx, 4, false);
	assert_int_equal(ns[0], 7);
	assert_int_equal(ns[1], 0);
}

static void
forgets_at_reset(void **state)
{
	struct fx *fx = *state;

	for (unsigned i = 0; i < NVME_AER_MAX; i++)
		fx_submit(fx, aer);
	assert_int_equal(event(fx), ~0u);
	fx_disable(fx);
	assert_int_equal(fx->ctrl->events.aers, 0);
	aer_event(fx->ctrl, 0, 1, 1);
	fx_enable(fx);
	for (unsigned i = 0; i < NVME_AER_MAX; i++)
		fx_submit(fx, aer);
	assert_int_equal(event(fx), ~0u);
}

int
aer_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(limits_requests, start),
		cmocka_unit_test_setup(holds_events_for_requests, start),
		cmocka_unit_test_setup(masks_a_type_until_its_log_is_read,
				       start),
		cmocka_unit_test_setup(keeps_types_apart, start),
		cmocka_unit_test_setup(logs_bad_doorbells, start),
		cmocka_unit_test_setup(bounds_the_queue, start),
		cmocka_unit_test_setup(gates_namespace_notices, start),
		cmocka_unit_test_setup(lists_changed_namespaces, start),
		cmocka_unit_test_setup(tells_of_hot_plug, start),
		cmocka_unit_test_setup(forgets_at_reset, start),
	};

	return cmocka_run_group_tests_name("nvme aer", tests, fx_setup,
					   fx_teardown);
}
