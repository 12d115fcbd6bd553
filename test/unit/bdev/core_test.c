/* SPDX-License-Identifier: BSD-3-Clause */
/* Registry, descriptors, claims, deletion, checks of submit, statistics. */
#include "unit.h"

#include <stdio.h>

#define LEN (100 * 512)

static int
null_create(const char *name, uint32_t block_len, uint64_t blocks,
	    uint32_t phys, struct unit_ctl *u)
{
	struct bdev_null_params p = { .name = name,
				      .block_len = block_len,
				      .num_blocks = blocks,
				      .phys_block_len = phys };

	return bdev_null_create(&p, unit_ctl(u));
}

static void
refuses_to_create(void **state)
{
	static const struct {
		const char *name, *bdev;
		uint32_t block_len;
		uint64_t blocks;
		uint32_t phys;
		int want;
		const char *says;
	} cases[] = {
		{ "fine", "n0", 512, 1, 0, 0, "" },
		{ "fine, 4 KiB", "n1", 4096, 8, 4096, 0, "" },
		{ "name taken", "n0", 512, 1, 0, -EEXIST, "n0" },
		{ "no name", NULL, 512, 1, 0, -EINVAL, "name" },
		{ "empty name", "", 512, 1, 0, -EINVAL, "name" },
		{ "block 0", "x", 0, 1, 0, -EINVAL, "block_size 0" },
		{ "block 513", "x", 513, 1, 0, -EINVAL, "513" },
		{ "block 1024", "x", 1024, 1, 0, -EINVAL, "1024" },
		{ "no blocks", "x", 512, 0, 0, -EINVAL, "num_blocks 0" },
		{ "too many", "x", 512, 1ull << 54, 0, -EINVAL, "num_blocks" },
		{ "wraps", "x", 4096, UINT64_MAX, 0, -EINVAL, "num_blocks" },
		{ "odd phys", "x", 512, 1, 700, -EINVAL, "700" },
		{ "phys below", "x", 4096, 1, 512, -EINVAL, "512" },
	};
	struct unit_ctl u;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = null_create(cases[i].bdev, cases[i].block_len,
				      cases[i].blocks, cases[i].phys, &u);

		if (err != cases[i].want || !strstr(u.c.error, cases[i].says))
			fail_msg("%s: %d %s", cases[i].name, err, u.c.error);
	}
	assert_string_equal(bdev_null_params_of(bdev_first())->name, "n0");
	assert_null(bdev_malloc_params_of(bdev_first()));
	assert_null(bdev_next(bdev_next(bdev_first())));
}

static void
finds_by_name_and_uuid(void **state)
{
	uuid_t uuid = { 1, 2, 3 };
	struct bdev_null_params p = {
		.name = "b", .block_len = 512, .num_blocks = 9, .uuid = &uuid
	};
	struct unit_ctl u;
	char text[UUID_STR_LEN];

	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), 0);
	uuid_unparse(uuid, text);
	assert_ptr_equal(bdev_find("b"), u.c.bdev);
	assert_ptr_equal(bdev_find(text), u.c.bdev);
	assert_null(bdev_find("c"));
	assert_null(bdev_find(""));
	p.name = "c";
	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), -EEXIST);
	assert_non_null(strstr(u.c.error, text));
	p.name = text; /* two would answer to it, either way */
	p.uuid = NULL;
	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), -EEXIST);
	assert_non_null(strstr(u.c.error, "give another name"));
	p.name = "00000000-0000-0000-0000-0000000000ff";
	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), 0);
	p.name = "d";
	p.uuid = &uuid;
	assert_int_equal(
		uuid_parse("00000000-0000-0000-0000-0000000000ff", uuid), 0);
	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), -EEXIST);
}

static void
delete_names_the_module(void **state)
{
	struct unit_ctl u;

	assert_int_equal(null_create("n", 512, 8, 0, &u), 0);
	assert_int_equal(bdev_delete("m", NULL, unit_ctl(&u)), -ENODEV);
	assert_int_equal(bdev_delete(NULL, NULL, unit_ctl(&u)), -ENODEV);
	assert_int_equal(bdev_delete("n", "aio", unit_ctl(&u)), -ENODEV);
	assert_non_null(strstr(u.c.error, "null"));
	assert_int_equal(bdev_delete("n", "null", unit_ctl(&u)), 0);
	assert_int_equal(bdev_delete("n", "null", unit_ctl(&u)), -ENODEV);
	assert_null(bdev_first());
}

static void
delete_waits_for_users(void **state)
{
	struct unit_dev a, b;
	struct unit_ctl u, v;
	struct bdev_desc *d;
	uint8_t buf[512];

	null_create("n", 512, 8, 0, &u);
	unit_open(&a, "n");
	unit_open(&b, "n");
	assert_ptr_equal(a.ch, b.ch);
	assert_int_equal(bdev_open_count(bdev_find("n")), 2);
	b.close_on_remove = true;
	assert_int_equal(bdev_delete("n", NULL, unit_ctl(&u)), -EINPROGRESS);
	assert_int_equal(a.removes, 1);
	assert_int_equal(b.removes, 1);
	assert_null(bdev_find("n"));
	assert_null(bdev_first());
	assert_int_equal(bdev_open("n", false, NULL, NULL, &d), -ENODEV);
	assert_int_equal(bdev_delete("n", NULL, unit_ctl(&v)), -ENODEV);
	assert_int_equal(null_create("n", 512, 8, 0, &v), -EEXIST);
	assert_non_null(strstr(v.c.error, "being deleted"));
	assert_int_equal(unit_rw(a.ch, BDEV_READ, 0, buf, 512), -ENODEV);
	assert_int_equal(u.done, 0);
	unit_close(&a);
	assert_int_equal(u.done, 1);
	assert_int_equal(u.err, 0);
	assert_int_equal(null_create("n", 512, 8, 0, &v), 0);
}

static void
claim_excludes_writers(void **state)
{
	struct bdev_desc *a, *b, *c;
	struct unit_ctl u;

	null_create("n", 512, 8, 0, &u);
	assert_int_equal(bdev_open("n", true, NULL, NULL, &a), 0);
	assert_int_equal(bdev_open("n", true, NULL, NULL, &b), 0);
	assert_int_equal(bdev_claim(a, "x"), -EPERM); /* b may write */
	bdev_close(b);
	assert_int_equal(bdev_claim(a, "x"), 0);
	assert_string_equal(bdev_claimed_by(bdev_find("n")), "x");
	assert_int_equal(bdev_claim(a, "y"), -EPERM);
	assert_int_equal(bdev_open("n", true, NULL, NULL, &b), -EPERM);
	assert_int_equal(bdev_open("n", false, NULL, NULL, &c), 0);
	assert_int_equal(bdev_claim(c, "y"), -EPERM);
	bdev_close(a);
	assert_null(bdev_claimed_by(bdev_find("n")));
	assert_int_equal(bdev_claim(c, "y"), 0);
	bdev_close(c);
	bdev_close(NULL);
}

static void
submit_checks_bounds(void **state)
{
	static const struct {
		const char *name;
		uint8_t op;
		uint64_t off, len;
		uint16_t iovcnt;
		int want;
	} cases[] = {
		{ "all of it", BDEV_READ, 0, LEN, 1, 0 },
		{ "last block", BDEV_WRITE, LEN - 512, 512, 1, 0 },
		{ "flush has no range", BDEV_FLUSH, 1, 0, 0, 0 },
		{ "discard", BDEV_DISCARD, 512, 512, 0, 0 },
		{ "empty read", BDEV_READ, 0, 0, 1, -EINVAL },
		{ "empty zeroing", BDEV_WRITE_ZEROES, 0, 0, 0, -EINVAL },
		{ "empty discard", BDEV_DISCARD, 0, 0, 0, -EINVAL },
		{ "no iov, read", BDEV_READ, 0, 512, 0, -EINVAL },
		{ "no iov, write", BDEV_WRITE, 0, 512, 0, -EINVAL },
		{ "odd length", BDEV_READ, 0, 511, 1, -EINVAL },
		{ "odd offset", BDEV_WRITE, 1, 512, 1, -EINVAL },
		{ "one too far", BDEV_READ, 512, LEN, 1, -ERANGE },
		{ "behind the end", BDEV_READ, LEN, 512, 1, -ERANGE },
		{ "wraps to 0", BDEV_WRITE, -512ull, 512, 1, -ERANGE },
		{ "wraps past 0", BDEV_WRITE, -512ull, 1024, 1, -ERANGE },
		{ "huge length", BDEV_READ, 512, -512ull, 1, -ERANGE },
		{ "huge zeroing", BDEV_WRITE_ZEROES, 0, -512ull, 0, -ERANGE },
		{ "huge discard", BDEV_DISCARD, LEN - 512, 1024, 0, -ERANGE },
		{ "no such op", BDEV_OPS, 0, 512, 1, -EINVAL },
		{ "no such op, 255", 255, 0, 512, 1, -EINVAL },
	};
	uint8_t buf[LEN];
	struct unit_dev d;

	assert_non_null(fake_bdev_create("f", 512, 100, FAKE_BDEV_ALL_CAPS));
	unit_open(&d, "f");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct unit_io u;

		unit_io(&u, d.ch, cases[i].op, cases[i].off, buf, cases[i].len);
		u.io.iovcnt = cases[i].iovcnt;
		bdev_submit(&u.io);
		if (u.done != 1 || u.io.err != cases[i].want)
			fail_msg("%s: %d", cases[i].name, u.io.err);
	}
	assert_int_equal(bdev_inflight(), 0);
	unit_close(&d);
}

static void
submit_checks_caps(void **state)
{
	struct fake_bdev *f = fake_bdev_create("f", 512, 8, 0);
	uint8_t buf[512] = { 0 };
	struct unit_dev d;

	unit_open(&d, "f");
	for (unsigned op = BDEV_FLUSH; op < BDEV_OPS; op++)
		assert_int_equal(unit_rw(d.ch, op, 0, buf, 512), -EOPNOTSUPP);
	fake_bdev_set_read_only(f, true);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 512), -EROFS);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	assert_int_equal(fake_bdev_count(f, BDEV_WRITE), 0);
	unit_close(&d);
}

static void
resize_tells_and_bounds(void **state)
{
	struct fake_bdev *f = fake_bdev_create("f", 512, 8, 0);
	struct bdev_info info;
	uint8_t buf[512];
	struct unit_dev d;

	unit_open(&d, "f");
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 8 * 512, buf, 512), -ERANGE);
	fake_bdev_resize(f, 16);
	assert_int_equal(d.resizes, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 8 * 512, buf, 512), 0);
	fake_bdev_resize(f, 16);
	assert_int_equal(d.resizes, 1); /* no news */
	fake_bdev_resize(f, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 512, buf, 512), -ERANGE);
	bdev_get_info(d.desc, &info);
	assert_int_equal(info.num_blocks, 1);
	unit_close(&d);
}

static void
counts(void **state)
{
	struct fake_bdev *f = fake_bdev_create("f", 512, 8, FAKE_BDEV_ALL_CAPS);
	struct bdev *b = bdev_find("f");
	uint8_t buf[1024] = { 0 };
	struct bdev_stats s;
	struct unit_dev d;
	struct unit_io u;

	bdev_get_stats(b, &s);
	assert_int_equal(s.ops[BDEV_READ] + s.min_ns[BDEV_READ], 0);
	assert_int_equal(bdev_get_ch_stats(b, 0, &s), -ENOENT);
	assert_int_equal(bdev_get_ch_stats(b, 100, &s), -ENOENT);
	unit_open(&d, "f");
	fake_bdev_hold(f, true);
	unit_io(&u, d.ch, BDEV_READ, 0, buf, 1024);
	reactor_step(reactor_get(0)); /* latencies are on the loop's clock */
	bdev_submit(&u.io);
	bdev_get_stats(b, &s);
	assert_int_equal(s.inflight, 1);
	assert_int_equal(bdev_inflight(), 1);
	usleep(50000);
	reactor_step(reactor_get(0));
	fake_bdev_hold(f, false);
	assert_int_equal(fake_bdev_release(f, 5, 0), 1);
	fake_bdev_fail(f, BDEV_WRITE, -EIO, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 512), -EIO);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 512), 0);
	bdev_get_stats(b, &s);
	assert_int_equal(s.inflight, 0);
	assert_int_equal(s.ops[BDEV_READ], 1);
	assert_int_equal(s.bytes[BDEV_READ], 1024);
	assert_true(s.latency_ns[BDEV_READ] >= 50000000);
	assert_int_equal(s.min_ns[BDEV_READ], s.max_ns[BDEV_READ]);
	assert_int_equal(s.ops[BDEV_WRITE], 1);
	assert_int_equal(s.errors[BDEV_WRITE], 1);
	bdev_reset_stats(b, BDEV_RESET_NONE);
	bdev_reset_stats(b, BDEV_RESET_MAXMIN);
	bdev_get_stats(b, &s);
	assert_int_equal(s.max_ns[BDEV_READ], 0);
	assert_int_equal(s.errors[BDEV_WRITE], 1);
	bdev_reset_stats(b, BDEV_RESET_ERROR);
	bdev_get_stats(b, &s);
	assert_int_equal(s.errors[BDEV_WRITE], 0);
	assert_int_equal(s.ops[BDEV_WRITE], 1);
	bdev_reset_stats(b, BDEV_RESET_ALL);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	assert_int_equal(bdev_get_ch_stats(b, 0, &s), 0);
	assert_int_equal(s.ops[BDEV_READ], 1);
	assert_int_equal(s.ops[BDEV_WRITE], 0);
	assert_true(s.max_ns[BDEV_READ] < 50000000);
	unit_close(&d);
}

/* A sharer that did not see the failure must not be told that all is well. */
static void
failed_flush_reaches_all_sharers(void **state)
{
	struct fake_bdev *f = fake_bdev_create("f", 512, 8, FAKE_BDEV_ALL_CAPS);
	uint32_t seen_a, seen_b;
	struct unit_dev a, b;
	struct unit_io ua, ub, plain;
	uint8_t buf[512] = { 0 };

	unit_open(&a, "f");
	unit_open(&b, "f");
	seen_a = seen_b = bdev_flush_seq(a.desc);
	unit_io(&ua, a.ch, BDEV_FLUSH, 0, NULL, 0);
	unit_io(&ub, b.ch, BDEV_FLUSH, 0, NULL, 0);
	unit_io(&plain, b.ch, BDEV_FLUSH, 0, NULL, 0);
	ua.io.flush_seen = &seen_a;
	ub.io.flush_seen = &seen_b;
	fake_bdev_fail(f, BDEV_FLUSH, -EIO, 1);
	assert_int_equal(unit_run(&ua), -EIO);
	assert_int_equal(unit_run(&ua), 0);
	ub.io.op = BDEV_WRITE;
	ub.io.len = 512;
	ub.iov[0] = (struct iovec){ buf, 512 };
	assert_int_equal(unit_run(&ub), 0); /* a plain write promises nothing */
	ub.io.flags = BDEV_IO_FUA;
	assert_int_equal(unit_run(&ub), -EIO);
	assert_int_equal(unit_run(&ub), 0);
	assert_int_equal(unit_run(&plain), -EIO); /* keeps no mark */
	assert_int_equal(unit_run(&plain), -EIO);
	/* What loses no data is nobody else's business. */
	fake_bdev_fail(f, BDEV_FLUSH, -EINVAL, 1);
	assert_int_equal(unit_run(&ua), -EINVAL);
	assert_int_equal(unit_run(&ub), 0);
	unit_close(&a);
	unit_close(&b);
	unit_open(&a, "f");
	plain.io.ch = a.ch;
	assert_int_equal(unit_run(&plain), 0);
	unit_close(&a);
}

/* The oldest notices make room, and the numbers say so. */
static void
notices_are_the_last_ones(void **state)
{
	struct bdev_notice n;
	struct unit_ctl c;
	char name[16];

	assert_false(bdev_notice_from(0, &n));
	for (unsigned i = 0; i < BDEV_NOTICES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		null_create(name, 512, 8, 0, &c);
		assert_true(bdev_notice_from(2 * i, &n));
		assert_int_equal(n.id, 2 * i);
		assert_false(n.gone);
		assert_string_equal(n.name, name);
		unit_delete(name);
		assert_true(bdev_notice_from(2 * i + 1, &n));
		assert_true(n.gone);
		assert_string_equal(n.name, name);
		assert_false(bdev_notice_from(2 * i + 2, &n));
	}
	assert_true(bdev_notice_from(0, &n));
	assert_int_equal(n.id, BDEV_NOTICES);
	assert_string_equal(n.name, "n512");
	assert_true(bdev_notice_from(2 * BDEV_NOTICES - 1, &n));
	assert_int_equal(n.id, 2 * BDEV_NOTICES - 1);
	assert_false(bdev_notice_from(UINT64_MAX, &n));
}

/* A disk that hangs is named and left; the rest is freed. */
static void
fini_leaves_what_is_busy(void **state)
{
	struct fake_bdev *f = fake_bdev_create("hung", 512, 8, 0);
	uint8_t buf[512];
	struct unit_ctl c;
	struct unit_dev d;
	struct unit_io u;

	null_create("n", 512, 8, 0, &c);
	unit_open(&d, "hung");
	fake_bdev_hold(f, true);
	unit_io(&u, d.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	bdev_fini();
	assert_non_null(bdev_find("hung"));
	assert_null(bdev_find("n"));
	assert_int_equal(bdev_init(), -EBUSY);
	assert_int_equal(fake_bdev_release(f, 1, 0), 1);
	assert_int_equal(u.io.err, 0);
	unit_close(&d);
}

int
core_tests(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)
	const struct CMUnitTest tests[] = {
		T(refuses_to_create),
		T(finds_by_name_and_uuid),
		T(delete_names_the_module),
		T(delete_waits_for_users),
		T(claim_excludes_writers),
		T(submit_checks_bounds),
		T(submit_checks_caps),
		T(resize_tells_and_bounds),
		T(counts),
		T(failed_flush_reaches_all_sharers),
		T(notices_are_the_last_ones),
		T(fini_leaves_what_is_busy),
	};

	return cmocka_run_group_tests_name("bdev/core", tests, NULL, NULL);
}
