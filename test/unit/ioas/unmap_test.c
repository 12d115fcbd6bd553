/* SPDX-License-Identifier: BSD-3-Clause */
/* Unmaps: which ranges, when they are answered, and who is told. */
#include <errno.h>
#include <unistd.h>

#include "unit.h"

#define TOP (-4096ull)

/* Mapped: [64 KiB, +16 KiB), [80 KiB, +4 KiB), [1 MiB, +8 KiB) without fd, the top page. */
static const struct unmap_case {
	const char *name;
	iova_t iova;
	uint64_t len;
	int want;
	unsigned left; /* of the four */
} cases[] = {
	{ "the first", KiB(64), KiB(16), 0, 3 },
	{ "the second", KiB(80), KiB(4), 0, 3 },
	{ "both, adjacent", KiB(64), KiB(20), 0, 2 },
	{ "three, with holes", 0, MiB(2), 0, 1 },
	{ "without fd", MiB(1), KiB(8), 0, 3 },
	{ "the top page", TOP, 4096, 0, 3 },
	{ "from the middle to 2^64 exactly", MiB(2), -MiB(2), 0, 3 },
	{ "all but the last byte of the space", 0, UINT64_MAX, -EINVAL, 4 },
	{ "all from 1 on", 1, UINT64_MAX, 0, 0 },
	{ "nothing there", MiB(4), MiB(1), 0, 4 },
	{ "nothing there, 2^47", 1ull << 47, 1ull << 47, 0, 4 },
	{ "nothing there, 2^63", 1ull << 62, 1ull << 63, 0, 4 },
	{ "one byte of nothing", 77, 1, 0, 4 },
	{ "no length", KiB(64), 0, -EINVAL, 4 },
	{ "wraps by a byte", TOP, 4097, -EINVAL, 4 },
	{ "wraps by far", MiB(2), UINT64_MAX, -EINVAL, 4 },
	{ "first page of the first", KiB(64), 4096, -EINVAL, 4 },
	{ "last page of the first", KiB(76), 4096, -EINVAL, 4 },
	{ "inside the first", KiB(68), 4096, -EINVAL, 4 },
	{ "from below into the first", 0, KiB(68), -EINVAL, 4 },
	{ "from the first on", KiB(68), MiB(8), -EINVAL, 4 },
	{ "the first and half of the one without fd", 0, MiB(1) + 4096, -EINVAL,
	  4 },
	{ "all but a byte of the first", KiB(64), KiB(16) - 1, -EINVAL, 4 },
};

static void
ranges(void **state)
{
	int fd = mem_create(KiB(64), 0);

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct unmap_case *c = &cases[i];
		struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
		struct ioas_usage u;
		int err;

		assert_int_equal(
			map_wait(ctx, 1, KiB(64), KiB(16), fd, 0, RW, NULL), 0);
		assert_int_equal(
			map_wait(ctx, 1, KiB(80), KiB(4), fd, 0, RW, NULL), 0);
		assert_int_equal(
			map_wait(ctx, 1, MiB(1), KiB(8), -1, 0, RW, NULL), 0);
		assert_int_equal(map_wait(ctx, 1, TOP, 4096, fd, 0, RW, NULL),
				 0);
		err = unmap_wait(ctx, 1, c->iova, c->len);
		ioas_ctx_usage(ctx, &u);
		if (err != c->want || u.extents != c->left)
			print_error("%s: %d\n", c->name, err);
		assert_int_equal(err, c->want);
		assert_int_equal(u.extents, c->left);
		ctx_end(ctx);
	}
	close(fd);
}

struct spy {
	struct ioas_listener l;
	bool hold; /* acks come later */
	unsigned maps, unmaps, calls, n;
	struct ioas_extent last;
	struct ioas_unmap *owed[64];
};

static void
spy_map(struct ioas_listener *l, const struct ioas_extent *e)
{
	struct spy *s = container_of(l, struct spy, l);

	s->maps++;
	s->last = *e;
}

static void
spy_unmap(struct ioas_listener *l, const struct ioas_extent *e, uint32_t n,
	  struct ioas_unmap *u)
{
	struct spy *s = container_of(l, struct spy, l);

	assert_true(n > 0);
	for (uint32_t i = 1; i < n; i++)
		assert_true(e[i].iova - e[i - 1].iova >= e[i - 1].len);
	s->calls++;
	s->unmaps += n;
	s->last = e[n - 1];
	if (!s->hold)
		ioas_unmap_ack(u);
	else
		s->owed[s->n++] = u;
}

static struct spy
spy_init(bool hold)
{
	return (struct spy){ .l = { .map = spy_map, .unmap = spy_unmap },
			     .hold = hold };
}

static void
spy_ack(struct spy *s)
{
	assert_true(s->n > 0);
	ioas_unmap_ack(s->owed[--s->n]);
}

/* An unmap waits for its listeners; another one, and maps, do not wait for it. */
static void
waits_for_acks(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	struct spy a = spy_init(true), b = spy_init(false), c = spy_init(true);
	struct wait_op w1 = { .op.done = op_done }, w2 = w1;
	int fd = mem_create(KiB(64), 3);
	uint64_t *p;

	ioas_listen(ctx, &a.l);
	assert_int_equal(map_wait(ctx, 1, 0, KiB(4), fd, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, KiB(4), KiB(4), fd, KiB(8), RW, NULL),
			 0);
	assert_int_equal(map_wait(ctx, 1, MiB(1), KiB(4), fd, 0, RW, NULL), 0);
	assert_int_equal(a.maps, 3);
	assert_int_equal(a.last.iova, MiB(1));
	ioas_listen(ctx, &b.l);
	ioas_listen(ctx, &c.l);
	assert_int_equal(b.maps, 3);
	p = host_of(ctx, 0, 8, RW);
	assert_int_equal(ioas_unmap(ctx, 1, 0, KiB(8), &w1.op), -EINPROGRESS);
	assert_null(host_of(ctx, 0, 8, IOAS_READ)); /* out of the view */
	assert_int_equal(*p, 3);		    /* still there */
	assert_int_equal(a.unmaps, 2);
	assert_int_equal(b.unmaps, 2);
	/* The same place again, while the old still goes. */
	assert_int_equal(map_wait(ctx, 1, 0, KiB(4), fd, KiB(4), RW, NULL), 0);
	assert_int_equal(*(uint64_t *)host_of(ctx, 0, 8, RW), 4);
	a.hold = false;
	assert_int_equal(ioas_unmap(ctx, 1, MiB(1), KiB(4), &w2.op),
			 -EINPROGRESS); /* c's */
	spy_ack(&c);
	assert_int_equal(w2.done, 1);
	assert_int_equal(w1.done, 0);
	spy_ack(&a);
	assert_int_equal(a.n, 0); /* one for the call, not for each extent */
	assert_int_equal(w1.done, 0);
	for (unsigned i = 0; i < 10; i++)
		step();
	assert_int_equal(w1.done, 0);
	assert_int_equal(c.n, 1);
	ioas_unlisten(ctx, &c.l); /* acks what it owes */
	assert_int_equal(w1.done, 1);
	assert_int_equal(w1.err, 0);
	ioas_unlisten(ctx, &a.l);
	ioas_unlisten(ctx, &b.l);
	close(fd);
	ctx_end(ctx);
}

/* A listener is told once, however many extents go, and sees them in order. */
static void
told_once(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	struct spy a = spy_init(true);
	struct wait_op w = { .op.done = op_done };
	int fd = mem_create(KiB(64), 3);

	ioas_listen(ctx, &a.l);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(map_wait(ctx, 1, i * 7 % 500 * KiB(8), KiB(4),
					  fd, i % 16 * KiB(4), RW, NULL),
				 0);
	assert_int_equal(ioas_unmap(ctx, 1, 0, MiB(4), &w.op), -EINPROGRESS);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.unmaps, 500);
	assert_int_equal(a.last.iova, 499 * KiB(8));
	spy_ack(&a);
	assert_int_equal(w.done, 1);
	ioas_unlisten(ctx, &a.l);
	close(fd);
	ctx_end(ctx);
}

/* Memory stands until the last ack, however many windows come and go meanwhile. */
static void
memory_stands(void **state)
{
	struct ioas_limits l = { .arena_len = GiB(2) };
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, &l);
	struct spy a = spy_init(true);
	struct wait_op w = { .op.done = op_done };
	int fd = mem_create(KiB(64), 3), other = mem_create(KiB(64), 9);
	int third = mem_create(KiB(64), 20);
	uint64_t *p;

	assert_int_equal(map_wait(ctx, 1, 0, KiB(4), fd, 0, RW, NULL), 0);
	ioas_listen(ctx, &a.l);
	p = host_of(ctx, 0, 8, RW);
	assert_int_equal(ioas_unmap_all(ctx, 1, &w.op), -EINPROGRESS);
	a.hold = false;
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(map_wait(ctx, 1, 0, KiB(4),
					  i & 1 ? other : third, 0, RW, NULL),
				 0);
		assert_int_equal(unmap_wait(ctx, 1, 0, KiB(4)), 0);
		assert_int_equal(*p, 3);
	}
	spy_ack(&a);
	assert_int_equal(w.done, 1);
	ioas_unlisten(ctx, &a.l);
	close(fd);
	close(other);
	close(third);
	ctx_end(ctx);
}

/* Detach waits; what happens to the space meanwhile waits for the same I/O. */
static void
detach_waits(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, NULL);
	struct spy a = spy_init(true);
	struct wait_op w[8];
	int fd = mem_create(KiB(64), 3);
	uint32_t s1, s2, dev;
	iova_t i1, i2, i3;

	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		w[i] = (struct wait_op){ .op.done = op_done };
	assert_int_equal(ioas_alloc(ctx, &s1), 0);
	assert_int_equal(ioas_alloc(ctx, &s2), 0);
	assert_int_equal(ioas_bind(ctx, &dev), 0);
	assert_int_equal(map_wait(ctx, s1, 0, KiB(4), fd, 0, RW, &i1), 0);
	assert_int_equal(map_wait(ctx, s1, 0, KiB(4), fd, 0, RW, &i2), 0);
	assert_int_equal(map_wait(ctx, s2, 0, KiB(4), fd, 4096, RW, &i3), 0);
	ioas_listen(ctx, &a.l);
	assert_int_equal(a.maps, 0);
	assert_int_equal(ioas_attach(ctx, s1, &w[0].op), 0);
	assert_int_equal(a.maps, 2);
	/* Another one instead: the old extents go, the new come. */
	assert_int_equal(ioas_attach(ctx, s2, &w[1].op), -EINPROGRESS);
	assert_int_equal(a.unmaps, 2);
	assert_int_equal(a.maps, 3);
	assert_int_equal(a.last.iova, i3);
	assert_null(host_of(ctx, i1, 8, IOAS_READ));
	assert_non_null(host_of(ctx, i3, 8, IOAS_READ));
	/* The old space's memory is in use until the acks. */
	assert_int_equal(ioas_unmap(ctx, s1, i1, KiB(4), &w[2].op),
			 -EINPROGRESS);
	assert_int_equal(ioas_destroy(ctx, s1, &w[3].op), -EINPROGRESS);
	assert_int_equal(*(uint64_t *)i1, 3);
	assert_int_equal(*(uint64_t *)i2, 3);
	assert_int_equal(w[1].done + w[2].done + w[3].done, 0);
	spy_ack(&a);
	assert_int_equal(w[1].done, 1);
	assert_int_equal(w[2].done, 1);
	assert_int_equal(w[3].done, 1);
	assert_int_equal(w[3].err, 0);
	assert_int_equal(ioas_detach(ctx, &w[4].op), -EINPROGRESS);
	assert_int_equal(*(uint64_t *)i3, 4);
	ioas_unlisten(ctx, &a.l);
	assert_int_equal(w[4].done, 1);
	close(fd);
	ctx_end(ctx);
}

/* Without an answer in between: each sees what those before it did. */
static void
pipelined(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(KiB(64), 30);
	struct wait_op w[100][2];
	uint64_t *p;

	for (unsigned i = 0; i < 100; i++) {
		int err;

		for (unsigned j = 0; j < 2; j++)
			w[i][j] = (struct wait_op){ .op.done = op_done };
		err = ioas_map(ctx, 1, 0, KiB(4), dup(fd), i % 16 * KiB(4),
			       i & 32 ? IOAS_READ : RW, &w[i][0].op);
		assert_true(!err || err == -EINPROGRESS);
		w[i][0].done += !err;
		if (i == 99)
			break;
		err = ioas_unmap(ctx, 1, 0, i & 1 ? KiB(4) : UINT64_MAX,
				 &w[i][1].op);
		assert_true(!err || err == -EINPROGRESS);
		w[i][1].done += !err;
	}
	step_until(&w[99][0].done);
	for (unsigned i = 0; i < 99; i++) {
		assert_int_equal(w[i][0].done, 1);
		assert_int_equal(w[i][1].done, 1);
		assert_int_equal(w[i][0].err, 0);
		assert_int_equal(w[i][1].err, 0);
	}
	p = host_of(ctx, 0, 8, IOAS_READ);
	assert_int_equal(*p, 30 + 99 % 16);
	close(fd);
	ctx_end(ctx);
}

#define MANY 20000u

/* @n extents of a page, a page apart. */
static void
map_many(struct ioas_ctx *ctx, int fd, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(map_wait(ctx, 1, KiB(8) * i, KiB(4), fd,
					  i % 16 * KiB(4), RW, NULL),
				 0);
}

/* Not all in one round; what comes behind waits; answered when all listeners have acked all of it. */
static void
many_go_in_slices(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	struct wait_op w[3] = { { .op.done = op_done },
				{ .op.done = op_done },
				{ .op.done = op_done } };
	struct spy a = spy_init(true), b = spy_init(false);
	int fd = mem_create(KiB(64), 3);
	struct ioas_usage u;
	unsigned rounds;

	map_many(ctx, fd, MANY);
	assert_int_equal(map_wait(ctx, 1, GiB(1), KiB(4), fd, 0, RW, NULL), 0);
	ioas_listen(ctx, &a.l);
	ioas_listen(ctx, &b.l);
	/* One that would be split: nothing goes. */
	assert_int_equal(ioas_unmap(ctx, 1, 0, GiB(1) + 1, &w[0].op), -EINVAL);
	assert_int_equal(a.unmaps, 0);
	assert_int_equal(ioas_unmap(ctx, 1, 0, GiB(1), &w[0].op), -EINPROGRESS);
	assert_int_equal(ioas_map(ctx, 1, 0, KiB(8), dup(fd), 0, RW, &w[1].op),
			 -EINPROGRESS);
	assert_int_equal(ioas_unmap(ctx, 1, GiB(1), KiB(4), &w[2].op),
			 -EINPROGRESS);
	assert_true(a.unmaps < MANY / 2);
	for (rounds = 0; b.unmaps < MANY; rounds++) {
		assert_true(rounds < 100);
		step();
	}
	assert_true(rounds > 3);
	step_until(&w[1].done);
	assert_int_equal(w[1].err, 0);
	assert_non_null(host_of(ctx, 0, KiB(8), RW));
	assert_null(host_of(ctx, KiB(8) * (MANY - 1), 1, IOAS_READ));
	assert_null(host_of(ctx, GiB(1), 1, IOAS_READ));
	assert_int_equal(w[0].done + w[2].done, 0);
	while (a.n)
		spy_ack(&a);
	assert_int_equal(w[0].done + w[2].done, 2);
	assert_int_equal(w[0].err, 0);
	assert_int_equal(a.unmaps, MANY + 1);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.extents, 1);
	ioas_unlisten(ctx, &a.l);
	ioas_unlisten(ctx, &b.l);
	close(fd);
	ctx_end(ctx);
}

/* The client, or a listener, goes before the last slice has. */
static void
gone_between_slices(void **state)
{
	unsigned fds = fd_count();

	for (unsigned rounds = 0; rounds < 3; rounds++) {
		struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
		struct wait_op w = { .op.done = op_done }, w2 = w;
		struct spy a = spy_init(true), b = spy_init(true);
		int fd = mem_create(KiB(64), 3);

		map_many(ctx, fd, MANY);
		ioas_listen(ctx, &a.l);
		ioas_listen(ctx, &b.l);
		assert_int_equal(ioas_unmap_all(ctx, 1, &w.op), -EINPROGRESS);
		assert_int_equal(ioas_unmap_all(ctx, 1, &w2.op), -EINPROGRESS);
		for (unsigned i = 0; i < rounds; i++)
			step();
		ioas_unlisten(ctx, &a.l);
		if (rounds & 1)
			step();
		ioas_unlisten(ctx, &b.l);
		assert_int_equal(w.done, 0);
		close(fd);
		ctx_end(ctx);
		assert_int_equal(w.done, 1);
		assert_int_equal(w2.done, 1);
		assert_int_equal(w2.err, -ECANCELED);
	}
	fds_settle(fds);
}

/*
 * Who begins to listen before the last slice has gone, as a group on another reactor does when its first queue is made, is
 * left with what stays, and nothing else.
 */
static void
joined_between_slices(void **state)
{
	for (unsigned rounds = 0; rounds < 4; rounds++) {
		struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
		struct wait_op w = { .op.done = op_done };
		struct spy a = spy_init(false), late = spy_init(false);
		int fd = mem_create(KiB(64), 3), err;

		map_many(ctx, fd, MANY);
		assert_int_equal(
			map_wait(ctx, 1, GiB(1), KiB(4), fd, 0, RW, NULL), 0);
		ioas_listen(ctx, &a.l);
		/* the first extent and the last stay */
		err = rounds & 1 ? ioas_unmap(ctx, 1, KiB(8), GiB(1) - KiB(8),
					      &w.op)
				 : ioas_unmap_all(ctx, 1, &w.op);
		assert_int_equal(err, -EINPROGRESS);
		for (unsigned i = 0; i < rounds; i++)
			step();
		assert_int_equal(w.done, 0);
		ioas_listen(ctx, &late.l);
		step_until(&w.done);
		assert_int_equal(late.maps - late.unmaps, rounds & 1 ? 2 : 0);
		assert_int_equal(a.maps - a.unmaps, rounds & 1 ? 2 : 0);
		ioas_unlisten(ctx, &a.l);
		ioas_unlisten(ctx, &late.l);
		close(fd);
		ctx_end(ctx);
	}
}

int
unmap_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(waits_for_acks),
		cmocka_unit_test(told_once),
		cmocka_unit_test(memory_stands),
		cmocka_unit_test(detach_waits),
		cmocka_unit_test(pipelined),
		cmocka_unit_test(many_go_in_slices),
		cmocka_unit_test(gone_between_slices),
		cmocka_unit_test(joined_between_slices),
	};

	return cmocka_run_group_tests_name("unmap", tests, NULL, NULL);
}
