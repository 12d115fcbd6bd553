/* SPDX-License-Identifier: BSD-3-Clause */
/* What one connection may take, and that others do not feel it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "unit.h"

/* 60 000 maps of a page, each of a file of its own. */
static void
many_files(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	struct ioas_ctx *other = ctx_new(IOAS_LEGACY, NULL);
	unsigned vmas = vma_count(), taken = 0, i;
	int mine = mem_create(MiB(1), 0);
	struct ioas_usage u;

	for (i = 0; i < 60000; i++) {
		int fd = mem_create(4096, 0);
		int err = map_wait(ctx, 1, i * KiB(4), 4096, fd, 0, RW, NULL);

		close(fd);
		if (!err)
			taken++;
		else
			assert_int_equal(err, -ENOSPC);
		if (i >= 2000) /* the rest is no different */
			i += 97;
		assert_int_equal(map_wait(other, 1, i * KiB(4), 4096, mine, 0,
					  RW, NULL),
				 0);
	}
	assert_int_equal(taken, 256); /* GiBs of the arena */
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.vmas, 256);
	assert_int_equal(u.extents, 256);
	assert_true(vma_count() <=
		    vmas + 2 * 257 + 16 /* stacks of workers, malloc's */);
	ctx_end(ctx);
	ctx_end(other);
	close(mine);
}

static void
many_maps(void **state)
{
	struct ioas_limits l = { .max_extents = 60000 };
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, &l);
	int fd = mem_create(MiB(1), 0);
	unsigned vmas = vma_count();
	struct ioas_usage u;

	for (uint64_t i = 0; i < 60000; i++)
		assert_int_equal(map_wait(ctx, 1, i * KiB(8), 4096, fd,
					  i % 256 * KiB(4), RW, NULL),
				 0);
	assert_int_equal(map_wait(ctx, 1, GiB(64), 4096, fd, 0, RW, NULL),
			 -ENOSPC);
	assert_int_equal(map_wait(ctx, 1, GiB(64), 4096, -1, 0, RW, NULL),
			 -ENOSPC);
	assert_true(vma_count() <= vmas + 2);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.extents, 60000);
	assert_int_equal(u.maps, 60000);
	assert_int_equal(unmap_wait(ctx, 1, KiB(8), 4096), 0);
	assert_int_equal(map_wait(ctx, 1, GiB(64), 4096, -1, 0, RW, NULL), 0);
	assert_int_equal(unmap_wait(ctx, 1, 0, UINT64_MAX), 0);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.extents, 0);
	assert_int_equal(u.unmaps, 60001);
	close(fd);
	ctx_end(ctx);
}

/* The same file once more: mappings of this one are no continuation of those of the other. */
static int
reopened(int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* A file that grows, each piece of it by a descriptor of its own: a window of many VMAs, which count like windows. */
static void
growing_file(void **state)
{
	struct ioas_limits l = { .max_vmas = 32 };
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, &l);
	unsigned vmas = vma_count(), taken = 0, round;
	int fd = mem_create(4096, 0);
	struct ioas_usage u;

	for (round = 0; round < 3; round++) {
		for (uint64_t i = round ? 1 : 0; i < 300; i++) {
			int again = reopened(fd), err;

			assert_int_equal(ftruncate(fd, KiB(4) * (i + 1)), 0);
			err = map_wait(ctx, 1, KiB(4) * i, 4096, again,
				       KiB(4) * i, RW, NULL);
			close(again);
			if (!err)
				taken++;
			else
				assert_int_equal(err, -ENOSPC);
		}
		ioas_ctx_usage(ctx, &u);
		assert_in_range(u.vmas, 1, 32);
		assert_true(vma_count() <= vmas + 2 * 33 + 16);
		assert_true(taken >= 32 && taken < 300);
		/* All but the first may go: the window stands, as it is. */
		assert_int_equal(unmap_wait(ctx, 1, KiB(4), MiB(2)), 0);
		taken = 32;
	}
	/* With the window goes what it was charged with. */
	assert_int_equal(unmap_wait(ctx, 1, 0, MiB(2)), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(map_wait(ctx, 1, 0, KiB(4), fd, KiB(4) * i, RW,
					  NULL),
				 0);
		assert_int_equal(unmap_wait(ctx, 1, 0, KiB(4)), 0);
		usleep(200);
		step();
	}
	close(fd);
	ctx_end(ctx);
}

/* At the limit, what is just being given back is waited for. */
static void
full_then_free(void **state)
{
	struct ioas_limits l = { .arena_len = GiB(2), .max_vmas = 8 };
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, &l);
	int fd[4];

	for (unsigned i = 0; i < 4; i++)
		fd[i] = mem_create(MiB(1), 100 * (i + 1));
	for (unsigned round = 0; round < 50; round++) {
		struct wait_op w = { .op.done = op_done };
		unsigned a = round % 4, b = (round + 1) % 4,
			 c = (round + 2) % 4;

		assert_int_equal(map_wait(ctx, 1, 0, 4096, fd[a], 0, RW, NULL),
				 0);
		assert_int_equal(
			map_wait(ctx, 1, MiB(1), 4096, fd[b], 0, RW, NULL), 0);
		assert_int_equal(map_wait(ctx, 1, MiB(2), 4096, fd[c], 0, RW,
					  NULL),
				 -ENOSPC);
		assert_int_equal(ioas_unmap(ctx, 1, 0, 4096, &w.op), 0);
		assert_int_equal(
			map_wait(ctx, 1, MiB(2), 4096, fd[c], 0, RW, NULL), 0);
		assert_int_equal(*(uint64_t *)host_of(ctx, MiB(2), 8, RW),
				 100 * (c + 1));
		assert_int_equal(*(uint64_t *)host_of(ctx, MiB(1), 8, RW),
				 100 * (b + 1));
		assert_int_equal(ioas_unmap_all(ctx, 1, &w.op), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
	ctx_end(ctx);
}

static void
many_spaces(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, NULL);
	struct wait_op w = { .op.done = op_done };
	unsigned taken = 0;
	uint32_t id, last = 0;

	for (unsigned i = 0; i < 1000; i++) {
		int err = ioas_alloc(ctx, &id);

		if (err) {
			assert_int_equal(err, -ENOSPC);
			continue;
		}
		assert_int_equal(id, last + 1);
		last = id;
		taken++;
	}
	assert_int_equal(taken, 64);
	assert_int_equal(op_wait(&w, ioas_destroy(ctx, 5, &w.op)), 0);
	assert_int_equal(ioas_alloc(ctx, &id), 0);
	assert_int_equal(id, 65); /* not 5 again */
	ctx_end(ctx);
}

static void
mappings(void **state)
{
	struct ioas_limits l = { .max_vmas = 10, .max_extents = 8 };
	struct ioas_ctx *ctx;
	int fd = mem_create(MiB(1), 0);
	struct ioas_usage u;
	uint32_t id;

	for (unsigned pass = 0; pass < 2; pass++) {
		unsigned most = pass ? 10 : 8, i;

		if (pass)
			l.max_extents = 100;
		ctx = ctx_new(IOAS_IOMMUFD, &l);
		assert_int_equal(ioas_alloc(ctx, &id), 0);
		for (i = 0; i < 20; i++)
			assert_int_equal(map_wait(ctx, id, 0, 4096, fd, 0, RW,
						  NULL),
					 i < most ? 0 : -ENOSPC);
		ioas_ctx_usage(ctx, &u);
		assert_int_equal(u.vmas, most);
		assert_int_equal(u.fds, 1);
		ctx_end(ctx);
	}
	close(fd);
}

int
quota_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_files),
		cmocka_unit_test(many_maps),
		cmocka_unit_test(growing_file),
		cmocka_unit_test(full_then_free),
		cmocka_unit_test(many_spaces),
		cmocka_unit_test(mappings),
	};

	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
