/* SPDX-License-Identifier: BSD-3-Clause */
/* Lookups: one pointer, pieces over adjacent extents, and what left lately. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#define TOP (-8192ull)

/*
 * IOVA       file page  permission       IOVA       file page  permission
 * 0x10000    0, 1       rw               0x16000    7          rw (a hole at 0x15000)
 * 0x12000    2, 3       rw (continues)   0x17000    -          no fd
 * 0x14000    9          r                TOP        4, 5       rw, to the end of the space
 */
static struct ioas_ctx *
setup(int fd)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);

	assert_int_equal(map_wait(ctx, 1, 0x10000, KiB(8), fd, 0, RW, NULL), 0);
	assert_int_equal(
		map_wait(ctx, 1, 0x12000, KiB(8), fd, KiB(8), RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, 0x14000, KiB(4), fd, KiB(36),
				  IOAS_READ, NULL),
			 0);
	assert_int_equal(
		map_wait(ctx, 1, 0x16000, KiB(4), fd, KiB(28), RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, 0x17000, KiB(4), -1, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, TOP, KiB(8), fd, KiB(16), RW, NULL),
			 0);
	return ctx;
}

static const struct look_case {
	const char *name;
	iova_t iova;
	uint64_t len;
	uint32_t prot;
	bool one;   /* ioas_translate finds it */
	int want;   /* of ioas_iov, with two pieces of room */
	unsigned n; /* pieces */
} looks[] = {
	{ "a byte", 0x10000, 1, RW, true, 0, 1 },
	{ "an extent", 0x10000, 0x2000, RW, true, 0, 1 },
	{ "last byte of an extent", 0x11fff, 1, RW, true, 0, 1 },
	{ "to the end of the space", TOP, 0x2000, RW, true, 0, 1 },
	{ "last byte of the space", UINT64_MAX, 1, RW, true, 0, 1 },
	{ "read-only, to be read", 0x14000, 0x1000, IOAS_READ, true, 0, 1 },
	{ "two extents, one piece", 0x11000, 0x2000, RW, false, 0, 1 },
	{ "two extents, two pieces", 0x13ff0, 0x20, IOAS_READ, false, 0, 2 },
	{ "three extents, two pieces", 0x11ff0, 0x2020, IOAS_READ, false, 0,
	  2 },
	{ "below the first", 0xffff, 1, RW, false, -EFAULT, 0 },
	{ "into the first", 0xffff, 2, RW, false, -EFAULT, 0 },
	{ "0", 0, 4096, RW, false, -EFAULT, 0 },
	{ "a hole", 0x15000, 1, IOAS_READ, false, -EFAULT, 0 },
	{ "into a hole", 0x14fff, 2, IOAS_READ, false, -EFAULT, 0 },
	{ "over a hole", 0x14000, 0x3000, IOAS_READ, false, -EFAULT, 0 },
	{ "read-only, to be written", 0x14000, 1, IOAS_WRITE, false, -EFAULT,
	  0 },
	{ "on into read-only", 0x13000, 0x1001, RW, false, -EFAULT, 0 },
	{ "no fd", 0x17000, 1, IOAS_READ, false, -EFAULT, 0 },
	{ "on into no fd", 0x16000, 0x1001, RW, false, -EFAULT, 0 },
	{ "past no fd", 0x18000, 1, RW, false, -EFAULT, 0 },
	{ "wraps", TOP, 0x2001, RW, false, -EFAULT, 0 },
	{ "wraps by far", 0x10000, UINT64_MAX, RW, false, -EFAULT, 0 },
	{ "larger than all", 0x10000, 1ull << 60, RW, false, -EFAULT, 0 },
};

static void
check_look(struct ioas_view *v, const struct look_case *c, struct ioas_hit *hit)
{
	struct iovec iov[4] = { { (void *)0x123000, 0x1000 } };
	unsigned cnt = 1, i;
	size_t sum = 0;
	int err;

	assert_int_equal(!!ioas_translate(v, hit, c->iova, c->len, c->prot),
			 c->one);
	err = ioas_iov(v, hit, c->iova, c->len, c->prot, iov, 3, &cnt);
	assert_int_equal(err, c->want);
	assert_int_equal(iov[0].iov_len, 0x1000);
	assert_int_equal(cnt, 1 + c->n);
	for (i = 1; i < cnt; i++)
		sum += iov[i].iov_len;
	assert_int_equal(sum, err ? 0 : c->len);
}

static void
looks_are_right(void **state)
{
	int fd = mem_create(KiB(64), 1);
	struct ioas_ctx *ctx = setup(fd);
	struct ioas_view *v = ioas_ctx_view(ctx);
	struct ioas_hit old = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(looks); i++) {
		struct ioas_hit fresh = { 0 };

		check_look(v, &looks[i], &fresh);
		check_look(v, &looks[i], &fresh);
		check_look(v, &looks[i], &old);
	}
	close(fd);
	ctx_end(ctx);
}

static void
pieces(void **state)
{
	int fd = mem_create(KiB(64), 1);
	struct ioas_ctx *ctx = setup(fd);
	struct ioas_view *v = ioas_ctx_view(ctx);
	struct ioas_hit hit = { 0 };
	struct iovec iov[2];
	unsigned cnt = 0;

	/* Goes on where the last call ended: one piece. */
	assert_int_equal(ioas_iov(v, &hit, 0x10000, 0x1000, RW, iov, 1, &cnt),
			 0);
	assert_int_equal(ioas_iov(v, &hit, 0x11000, 0x3000, RW, iov, 1, &cnt),
			 0);
	assert_int_equal(cnt, 1);
	assert_int_equal(iov[0].iov_len, 0x4000);
	assert_int_equal(*(uint64_t *)((char *)iov[0].iov_base + 0x3000), 4);
	/* Fails after a part that merged: all is as before. */
	iov[0].iov_len = 0x1000;
	assert_int_equal(ioas_iov(v, &hit, 0x11000, 0x4000, IOAS_READ, iov, 1,
				  &cnt),
			 -E2BIG);
	assert_int_equal(iov[0].iov_len, 0x1000);
	assert_int_equal(cnt, 1);
	assert_int_equal(ioas_iov(v, &hit, 0x11000, 0x5000, IOAS_READ, iov, 2,
				  &cnt),
			 -EFAULT);
	assert_int_equal(iov[0].iov_len, 0x1000);
	assert_int_equal(cnt, 1);
	assert_int_equal(ioas_iov(v, &hit, 0x14000, 1, IOAS_READ, iov, 1, &cnt),
			 -E2BIG);
	close(fd);
	ctx_end(ctx);
}

/* A remembered extent is not believed once anything has left. */
static void
hits_die(void **state)
{
	int fd = mem_create(KiB(64), 1);
	struct ioas_ctx *ctx = setup(fd);
	struct ioas_view *v = ioas_ctx_view(ctx);
	struct ioas_hit hit = { 0 };
	void *p;

	assert_non_null(ioas_translate(v, &hit, 0x10000, 8, RW));
	assert_int_equal(unmap_wait(ctx, 1, 0x10000, 0x2000), 0);
	assert_null(ioas_translate(v, &hit, 0x10000, 8, IOAS_READ));
	assert_int_equal(
		map_wait(ctx, 1, 0x10000, KiB(4), fd, KiB(60), RW, NULL), 0);
	p = ioas_translate(v, &hit, 0x10000, 8, IOAS_READ);
	assert_int_equal(*(uint64_t *)p, 16);
	assert_null(ioas_translate(v, &hit, 0x11000, 8, IOAS_READ));
	close(fd);
	ctx_end(ctx);
}

static void
recently(void **state)
{
	int fd = mem_create(KiB(64), 1);
	struct ioas_ctx *ctx = setup(fd);
	struct ioas_view *v = ioas_ctx_view(ctx);

	assert_false(ioas_recently_unmapped(v, 0, UINT64_MAX));
	assert_int_equal(unmap_wait(ctx, 1, 0x10000, 0x4000), 0);
	assert_true(ioas_recently_unmapped(v, 0x10000, 1));
	assert_true(ioas_recently_unmapped(v, 0x13fff, 1));
	assert_true(ioas_recently_unmapped(v, 0xffff, 2));
	assert_true(ioas_recently_unmapped(v, 0, UINT64_MAX));
	assert_true(ioas_recently_unmapped(v, 1, UINT64_MAX));
	assert_false(ioas_recently_unmapped(v, 0x14000, 0x1000));
	assert_false(ioas_recently_unmapped(v, 0xffff, 1));
	assert_false(ioas_recently_unmapped(v, 0x10000, 0));
	usleep(110000);
	assert_false(ioas_recently_unmapped(v, 0x10000, 1));
	/* More than it can remember: then it had better say yes. */
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(map_wait(ctx, 1, GiB(1) + i * KiB(16), KiB(4),
					  fd, 0, RW, NULL),
				 0);
		assert_int_equal(
			unmap_wait(ctx, 1, GiB(1) + i * KiB(16), KiB(4)), 0);
	}
	assert_true(ioas_recently_unmapped(v, GiB(1), 1));
	assert_true(ioas_recently_unmapped(v, GiB(1) + 999 * KiB(16), 1));
	usleep(110000);
	assert_false(ioas_recently_unmapped(v, GiB(1), 1));
	close(fd);
	ctx_end(ctx);
}

static void
replica(void **state)
{
	struct ioas_extent a = { MiB(1), KiB(8), 0x1000, RW };
	struct ioas_extent b = { MiB(1) + KiB(4), KiB(8), 0, RW };
	struct ioas_hit hit = { 0 };
	struct ioas_view *v;

	assert_int_equal(ioas_replica_create(&v), 0);
	assert_null(ioas_translate(v, &hit, MiB(1), 1, RW));
	assert_int_equal(ioas_replica_map(v, &a), 0);
	assert_int_equal(ioas_replica_map(v, &b), -EEXIST);
	assert_ptr_equal(ioas_translate(v, &hit, MiB(1) + 8, 8, RW),
			 (void *)(MiB(1) + 0x1008));
	ioas_replica_unmap(v, &b); /* not there */
	assert_non_null(ioas_translate(v, &hit, MiB(1), 8, RW));
	ioas_replica_unmap(v, &a);
	assert_null(ioas_translate(v, &hit, MiB(1), 8, RW));
	assert_true(ioas_recently_unmapped(v, MiB(1), 8));
	assert_int_equal(ioas_replica_map(v, &b), 0);
	ioas_replica_destroy(v);
	ioas_replica_destroy(NULL);
}

/* A hit that slept while the view changed as often as 32 bits can count; a client may do that in some hours. */
static void
generations_do_not_wrap(void **state)
{
	struct ioas_extent e = { MiB(1), KiB(8), 0x1000, RW };
	struct ioas_hit hit = { 0 };
	struct ioas_view *v;

	assert_int_equal(ioas_replica_create(&v), 0);
	assert_int_equal(ioas_replica_map(v, &e), 0);
	assert_non_null(ioas_translate(v, &hit, MiB(1), 8, RW));
	ioas_replica_unmap(v, &e);
	((struct ioas_view_head *)v)->gen += (1ull << 32) - 1;
	assert_null(ioas_translate(v, &hit, MiB(1), 8, RW));
	ioas_replica_destroy(v);
}

int
view_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looks_are_right),
		cmocka_unit_test(pieces),
		cmocka_unit_test(hits_die),
		cmocka_unit_test(recently),
		cmocka_unit_test(replica),
		cmocka_unit_test(generations_do_not_wrap),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
