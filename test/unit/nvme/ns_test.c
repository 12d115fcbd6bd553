/* SPDX-License-Identifier: BSD-3-Clause */
/* The subsystem and its namespaces: names, ids, hot add, remove and resize. */
#include "unit.h"

static const struct nqn_case {
	const char *nqn;
	int want;
} nqns[] = {
	{ "nqn.2016-06.io.spdk:cnode1", 0 },
	{ "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
	  0 },
	{ "", -EINVAL },
	{ "nqn", -EINVAL },
	{ "nqn.2016-06.io.spdk", -EINVAL },
	{ "nqn.2016-06.io.spdk:", -EINVAL },
	{ "nqn.2016-06.:x", -EINVAL },
	{ "nqn.2016.io.spdk:x", -EINVAL },
	{ "nqn.20160-6.io.spdk:x", -EINVAL },
	{ "nqn.2016-06.io/spdk:x", -EINVAL },
	{ "NQN.2016-06.io.spdk:x", -EINVAL },
	{ "nqn.2016-06.io.spdk:a\nb", -EINVAL },
	{ "nqn.2014-08.org.nvmexpress:uuid:f81d4fae", -EINVAL },
};

static void
test_nqn(void **state)
{
	char longest[256];

	for (size_t i = 0; i < ARRAY_SIZE(nqns); i++) {
		struct nvme_subsys_config cfg = { .nqn = nqns[i].nqn,
						  .serial = "s",
						  .model = "m",
						  .max_namespaces = 1,
						  .min_cntlid = 1,
						  .max_cntlid = 2 };
		struct nvme_subsys *s = NULL;
		int err = nvme_subsys_create(&cfg, &s);

		if (err != nqns[i].want)
			fail_msg("%s: %d", nqns[i].nqn, err);
		nvme_subsys_destroy(s);
	}
	for (unsigned len = 222; len < 227; len++) {
		struct nvme_subsys_config cfg = { .nqn = longest,
						  .serial = "s",
						  .model = "m",
						  .max_namespaces = 1,
						  .min_cntlid = 1,
						  .max_cntlid = 2 };
		struct nvme_subsys *s = NULL;

		memset(longest, 'x', sizeof(longest));
		memcpy(longest, "nqn.2016-06.io.spdk:", 20);
		longest[len] = '\0';
		assert_int_equal(nvme_subsys_create(&cfg, &s),
				 len <= 223 ? 0 : -EINVAL);
		nvme_subsys_destroy(s);
	}
}

static const struct subsys_case {
	const char *name, *serial, *model;
	uint32_t max_ns;
	uint16_t min, max;
} bad[] = {
	{ "serial of 21", "123456789012345678901", "m", 1, 1, 2 },
	{ "model of 41", "s", "12345678901234567890123456789012345678901", 1, 1,
	  2 },
	{ "control character", "s\t", "m", 1, 1, 2 },
	{ "no namespaces", "s", "m", 0, 1, 2 },
	{ "1025 namespaces", "s", "m", 1025, 1, 2 },
	{ "cntlid 0", "s", "m", 1, 0, 2 },
	{ "cntlids backwards", "s", "m", 1, 3, 2 },
	{ "cntlid fff0h", "s", "m", 1, 1, 0xfff0 },
};

static void
test_subsys(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct nvme_subsys_config cfg = { .nqn = "nqn.2016-06.io.x:y",
						  .serial = bad[i].serial,
						  .model = bad[i].model,
						  .max_namespaces =
							  bad[i].max_ns,
						  .min_cntlid = bad[i].min,
						  .max_cntlid = bad[i].max };
		struct nvme_subsys *s = NULL;

		if (nvme_subsys_create(&cfg, &s) != -EINVAL)
			fail_msg("%s", bad[i].name);
	}
}

static struct nvme_sqe
rd(struct guest *g, uint32_t nsid, uint64_t slba)
{
	struct nvme_sqe sqe = guest_rw(g, 2, slba, 1, GUEST_IOVA, 512);

	sqe.nsid = nsid;
	return sqe;
}

static void
drop_disk(const char *name)
{
	struct bdev_ctl c = { 0 };

	bdev_delete(name, NULL, &c);
	for (unsigned i = 0; i < 1000 && bdev_find(name); i++)
		reactor_step(reactor_get(0));
	assert_null(bdev_find(name));
}

static void
ctl_done(struct bdev_ctl *c, int err)
{
}

static void
test_hot(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_ns_info info;

	assert_non_null(fake_bdev_create("two", 4096, 100, FAKE_BDEV_ALL_CAPS));
	assert_int_equal(guest_add_ns(g, "nothing", 0), -ENODEV);
	assert_int_equal(guest_add_ns(g, "two", 1), -EEXIST);
	assert_int_equal(guest_add_ns(g, "two", 1025), -EINVAL);
	assert_int_equal(guest_add_ns(g, "disk", 0), -EPERM); /* claimed */
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 0), NULL),
			 NVME_SC_INVALID_FIELD);
	assert_int_equal(guest_add_ns(g, "two", 0), 0);
	assert_int_equal(nvme_subsys_next_ns(g->subsys, 1, &info), 2);
	assert_int_equal(info.bdev.block_len, 4096);
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 99), NULL), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 100), NULL), 0x80);
	assert_int_equal(g->ctrl->changed_ns_n, 1);
	assert_int_equal(g->ctrl->changed_ns[0], 2);
	assert_int_equal(guest_remove_ns(g, 2), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 0), NULL),
			 NVME_SC_INVALID_FIELD);
	assert_int_equal(guest_remove_ns(g, 2), -ENOENT);
	assert_int_equal(guest_remove_ns(g, 0), -ENOENT);
	assert_int_equal(guest_remove_ns(g, 0xffffffff), -ENOENT);
	assert_int_equal(guest_add_ns(g, "two", 1024), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1024, 0), NULL), 0);
	assert_int_equal(guest_remove_ns(g, 1024), 0);
	assert_int_equal(g->ctrl->group.past.read_cmds, 2);
	drop_disk("two");
}

static void
removed(struct nvme_op *op, int err)
{
	op->nsid = 0x1000 + (uint32_t)-err;
}

/* A removal waits for the commands that run; new ones are refused at once. */
static void
test_remove_waits(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_op op = { .done = removed };
	struct nvme_cqe cqe;

	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, rd(g, 1, 0));
	guest_step(g, 5);
	assert_int_equal(nvme_subsys_remove_ns(g->subsys, 1, &op),
			 -EINPROGRESS);
	guest_step(g, 20);
	assert_int_equal(op.nsid, 1);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 0), NULL),
			 NVME_SC_INVALID_FIELD);
	assert_int_equal(guest_add_ns(g, "disk", 1), -EEXIST);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 20);
	assert_int_equal(op.nsid, 0x1000);
	assert_false(guest_take(g, 1, &cqe) && cqe.status >> 1);
	assert_int_equal(bdev_open_count(bdev_find("disk")), 0);
	assert_int_equal(guest_add_ns(g, "disk", 1), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 0), NULL), 0);
}

/* The controller goes while a removal waits for it. */
static void
test_remove_and_destroy(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_op op = { .done = removed };

	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, rd(g, 1, 0));
	guest_step(g, 5);
	assert_int_equal(nvme_subsys_remove_ns(g->subsys, 1, &op),
			 -EINPROGRESS);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_destroy_ctrl(g);
	guest_step(g, 20);
	assert_int_equal(op.nsid, 0x1000);
}

static void
test_resize(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 4096), NULL), 0x80);
	fake_bdev_resize(w->disk, 5000);
	guest_step(g, 20);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 4999), NULL), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 5000), NULL), 0x80);
	fake_bdev_resize(w->disk, 10);
	guest_step(g, 20);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 10), NULL), 0x80);
	/* The device knows before we do. */
	fake_bdev_fail(w->disk, BDEV_READ, -ERANGE, 1);
	assert_int_equal(guest_cmd(g, 1, rd(g, 1, 9), NULL), 0x80);
	assert_int_equal(g->ctrl->changed_ns_n, 1);
}

/* The device is deleted under the namespace. */
static void
test_bdev_goes(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct bdev_ctl c = { .done = ctl_done };
	struct nvme_ns_info info;

	assert_non_null(fake_bdev_create("two", 512, 100, FAKE_BDEV_ALL_CAPS));
	assert_int_equal(guest_add_ns(g, "two", 2), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 0), NULL), 0);
	bdev_delete("two", NULL, &c);
	guest_step(g, 50);
	assert_null(bdev_find("two"));
	assert_int_equal(nvme_subsys_next_ns(g->subsys, 1, &info), 0);
	assert_int_equal(guest_cmd(g, 1, rd(g, 2, 0), NULL),
			 NVME_SC_INVALID_FIELD);
}

/* Reports to the control reactor; ids of controllers are given in turn. */
static void
test_reports(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_ctrl_info ctrls[4];
	struct nvme_qpair_info qs[16];
	uint16_t first;

	guest_step(g, 10);
	assert_int_equal(nvme_subsys_ctrls(g->subsys, ctrls, 4), 1);
	first = ctrls[0].cntlid;
	assert_int_equal(ctrls[0].num_io_qpairs, 1);
	assert_int_equal(ctrls[0].csts, 1);
	assert_int_equal(nvme_subsys_qpairs(g->subsys, qs, 16), 2);
	assert_int_equal(qs[1].qid, 1);
	assert_int_equal(qs[1].depth, 64);
	assert_int_equal(nvme_subsys_qpairs(g->subsys, qs, 1), 1);
	assert_int_equal(nvme_subsys_ctrls(g->subsys, ctrls, 0), 0);
	guest_destroy_ctrl(g);
	assert_int_equal(nvme_subsys_ctrls(g->subsys, ctrls, 4), 0);
	guest_create_ctrl(g);
	guest_step(g, 10);
	assert_int_equal(nvme_subsys_ctrls(g->subsys, ctrls, 4), 1);
	assert_int_equal(ctrls[0].cntlid, first + 1);
	assert_int_equal(ctrls[0].num_io_qpairs, 0);
}

struct ns_wait {
	struct nvme_op op;
	bool done;
	int err;
};

static void
ns_waited(struct nvme_op *op, int err)
{
	struct ns_wait *w = container_of(op, struct ns_wait, op);

	w->done = true;
	w->err = err;
}

/* A removal takes what the adding left: it is asked for while that is on its way, and as the controller comes or goes. */
static void
test_remove_at_once(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	for (unsigned round = 0; round < 32; round++) {
		struct nvme_ns_config cfg = { .bdev_name = "disk", .nsid = 1 };
		struct ns_wait add = { .op.done = ns_waited }, rem = add;
		int err;

		if (g->ctrl && round % 4 == 3)
			guest_destroy_ctrl(g);
		assert_int_equal(guest_remove_ns(g, 1), 0);
		err = nvme_subsys_add_ns(g->subsys, &cfg, &add.op);
		assert_int_equal(err, g->ctrl ? -EINPROGRESS : 0);
		guest_step(g, round % 3);
		if (round % 4 == 2) /* goes while the adding does */
			guest_destroy_ctrl(g);
		err = nvme_subsys_remove_ns(g->subsys, 1, &rem.op);
		assert_true(!err || err == -EINPROGRESS);
		rem.done |= !err;
		if (!g->ctrl)
			guest_create_ctrl(g);
		guest_step(g, 10);
		assert_true(rem.done);
		assert_null(g->ctrl->group.ns[0]);
		assert_int_equal(guest_add_ns(g, "disk", 1), 0);
		assert_non_null(g->ctrl->group.ns[0]);
	}
}

int
ns_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nqn),
		cmocka_unit_test(test_subsys),
		cmocka_unit_test_setup_teardown(test_hot, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_remove_waits, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_remove_and_destroy,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_resize, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_remove_at_once,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_bdev_goes, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_reports, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("ns", tests, NULL, NULL);
}
