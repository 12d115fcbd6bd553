/* SPDX-License-Identifier: BSD-3-Clause */
/* Contexts come and go: nothing is left behind, and nothing can be guessed. */
#include <errno.h>
#include <unistd.h>

#include "unit.h"

static void
cycle(unsigned i, int fd)
{
	struct ioas_ctx *ctx =
		ctx_new(i & 1 ? IOAS_IOMMUFD : IOAS_LEGACY, NULL);
	struct wait_op w = { .op.done = op_done };
	uint32_t id = 1;

	if (i & 1)
		assert_int_equal(ioas_alloc(ctx, &id), 0);
	for (unsigned j = 0; j < i % 5; j++)
		assert_int_equal(map_wait(ctx, id, j * MiB(16), MiB(1), fd,
					  j * MiB(1), RW, NULL),
				 0);
	if (i % 3 == 0) { /* a map under way, and one behind it */
		struct wait_op w2 = w;
		int e1, e2, n = mem_create(MiB(1), 0);

		e1 = ioas_map(ctx, id, GiB(1), MiB(1), dup(n), 0, RW, &w.op);
		e2 = ioas_map(ctx, id, GiB(2), 4096, n, 0, RW, &w2.op);
		assert_int_equal(e1, -EINPROGRESS);
		assert_int_equal(e2, -EINPROGRESS);
		ctx_end(ctx);
		assert_int_equal(w.done, 1);
		assert_int_equal(w2.done, 1);
		assert_int_equal(w.err, -ECANCELED);
		assert_int_equal(w2.err, -ECANCELED);
		return;
	}
	ctx_end(ctx);
}

static void
settle(void)
{
	for (unsigned i = 0; i < 200; i++) {
		step();
		usleep(50);
	}
}

#if defined(__has_feature)
#define ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#else
#define ASAN 0
#endif

static void
no_growth(void **state)
{
	int fd = mem_create(MiB(8), 1);
	unsigned vmas, fds;
	uint64_t rss;

	for (unsigned i = 0; i < 60; i++)
		cycle(i, fd);
	settle();
	vmas = vma_count();
	fds = fd_count();
	rss = rss_bytes();
	for (unsigned i = 0; i < 1000; i++)
		cycle(i, fd);
	settle();
	fds_settle(fds);
	assert_true(vma_count() <= vmas + 4); /* malloc's */
#if !ASAN /* it keeps freed memory for a while */
	assert_true(rss_bytes() < rss + MiB(2));
#endif
	(void)rss;
	close(fd);
}

/* Unmapped memory leaves the process while the connection lives on. */
static void
given_back(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(MiB(64), 1);
	unsigned vmas = vma_count();
	uint64_t rss = rss_bytes();
	struct ioas_usage u;

	assert_int_equal(map_wait(ctx, 1, 0, MiB(64), fd, 0, RW, NULL), 0);
	for (uint64_t i = 0; i < MiB(64); i += 4096)
		assert_int_equal(*(uint64_t *)host_of(ctx, i, 8, RW),
				 1 + i / 4096);
	assert_true(rss_bytes() > rss + MiB(60));
	assert_int_equal(unmap_wait(ctx, 1, 0, UINT64_MAX), 0);
	for (unsigned i = 0; i < 20000; i++) {
		step();
		ioas_ctx_usage(ctx, &u);
		if (!u.vmas)
			break;
		usleep(50);
	}
	assert_int_equal(u.vmas, 0);
	assert_true(rss_bytes() < rss + MiB(4));
	assert_true(vma_count() <= vmas + 2);
	close(fd);
	ctx_end(ctx);
}

/* Fragments merge again: the reservation is one VMA before and after. */
static void
arena_heals(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, NULL);
	int fd = mem_create(MiB(8), 0);
	unsigned vmas = vma_count();
	struct ioas_usage u;
	iova_t at[200];
	uint32_t id;

	assert_int_equal(ioas_alloc(ctx, &id), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		assert_int_equal(map_wait(ctx, id, 0, KiB(4) * (1 + i % 7), fd,
					  i % 31 * KiB(4), RW, &at[i]),
				 0);
	for (unsigned k = 0; k < 3; k++)
		for (unsigned i = k; i < ARRAY_SIZE(at); i += 3)
			assert_int_equal(unmap_wait(ctx, id, at[i],
						    KiB(4) * (1 + i % 7)),
					 0);
	for (unsigned i = 0; i < 20000; i++) {
		step();
		ioas_ctx_usage(ctx, &u);
		if (!u.vmas)
			break;
		usleep(50);
	}
	assert_int_equal(u.vmas, 0);
	assert_true(vma_count() <= vmas + 2);
	close(fd);
	ctx_end(ctx);
}

static void
bases_are_random(void **state)
{
	struct ioas_limits l = { .arena_len = GiB(4) };
	int fd = mem_create(4096, 0);
	iova_t at[16];

	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, &l);
		uint32_t id;

		assert_int_equal(ioas_alloc(ctx, &id), 0);
		assert_int_equal(map_wait(ctx, id, 0, 4096, fd, 0, RW, &at[i]),
				 0);
		assert_int_equal(at[i] % GiB(1), 0);
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(at[i], at[j]);
		ctx_end(ctx);
	}
	close(fd);
}

static void
no_room(void **state)
{
	struct ioas_limits huge = { .arena_len = 1ull << 47 };
	struct ioas_limits wrap = { .arena_len = UINT64_MAX };
	struct ioas_ctx *ctx;

	assert_int_equal(ioas_ctx_create(reactor_get(0), IOAS_LEGACY, &huge,
					 &ctx),
			 -ENOMEM);
	assert_true(ioas_ctx_create(reactor_get(0), IOAS_IOMMUFD, &wrap, &ctx) <
		    0);
	ioas_ctx_destroy(NULL, NULL, NULL);
}

int
life_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_growth),
		cmocka_unit_test(given_back),
		cmocka_unit_test(arena_heals),
		cmocka_unit_test(bases_are_random),
		cmocka_unit_test(no_room),
	};

	return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}
