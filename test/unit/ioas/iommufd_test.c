/* SPDX-License-Identifier: BSD-3-Clause */
/* Address spaces whose IOVAs the server chooses. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

static struct ioas_ctx *
ctx_attached(const struct ioas_limits *l)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, l);
	struct wait_op w = { .op.done = op_done };
	uint32_t id, dev;

	assert_int_equal(ioas_alloc(ctx, &id), 0);
	assert_int_equal(id, 1);
	assert_int_equal(ioas_bind(ctx, &dev), 0);
	assert_int_equal(op_wait(&w, ioas_attach(ctx, id, &w.op)), 0);
	return ctx;
}

/* Of a file of 4 MiB + 4 KiB. */
static const struct map_case {
	const char *name;
	uint64_t len, off;
	uint32_t id, prot;
	int want;
} cases[] = {
	{ "a page", 4096, 0, 1, RW, 0 },
	{ "three pages from the second on", KiB(12), 4096, 1, RW, 0 },
	{ "all", MiB(4) + 4096, 0, 1, RW, 0 },
	{ "2 MiB at an odd place", MiB(2), KiB(36), 1, RW, 0 },
	{ "more than 2 MiB, to the end", MiB(3), MiB(1) + 4096, 1, RW, 0 },
	{ "offset within a page", KiB(8), 4096 + 512, 1, RW, 0 },
	{ "last byte of a page", 4096, 4095, 1, IOAS_READ, 0 },
	{ "to be written only", 4096, 0, 1, IOAS_WRITE, 0 },
	{ "no length", 0, 0, 1, RW, -EINVAL },
	{ "half a page", 2048, 0, 1, RW, -EINVAL },
	{ "no permission", 4096, 0, 1, 0, -EINVAL },
	{ "a page past the end", 4096, MiB(4) + 4096, 1, RW, -EINVAL },
	{ "a byte past the end", 4096, MiB(4) + 1, 1, RW, -EINVAL },
	{ "offset and length overflow", 4096, INT64_MAX, 1, RW, -EINVAL },
	{ "unknown space", 4096, 0, 2, RW, -ENOENT },
	{ "space 0", 4096, 0, 0, RW, -ENOENT },
};

static void
maps(void **state)
{
	struct ioas_ctx *ctx = ctx_attached(NULL);
	int fd = mem_create(MiB(4) + 4096, 1);
	struct ioas_hit hit = { 0 };
	iova_t iova;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct map_case *c = &cases[i];
		uint64_t v;
		int err;

		err = map_wait(ctx, c->id, 0, c->len, fd, c->off, c->prot,
			       &iova);
		if (err != c->want)
			print_error("%s: %d\n", c->name, err);
		assert_int_equal(err, c->want);
		if (err)
			continue;
		assert_int_equal(iova % 4096, c->off % 4096);
		assert_ptr_equal(host_of(ctx, iova, c->len, c->prot),
				 (void *)iova);
		assert_null(host_of(ctx, iova - 1, 1, c->prot));
		assert_null(host_of(ctx, iova + c->len, 1, c->prot));
		assert_null(host_of(ctx, iova, c->len + 1, c->prot));
		for (uint64_t off = 0; off + 8 <= c->len; off += 4088) {
			uint64_t want;

			assert_int_equal(
				pread(fd, &want, 8, (off_t)(c->off + off)), 8);
			memcpy(&v, (void *)(iova + off), 8);
			assert_int_equal(v, want);
		}
		(void)ioas_translate(ioas_ctx_view(ctx), &hit, iova, 1,
				     c->prot);
		assert_int_equal(unmap_wait(ctx, 1, iova, c->len), 0);
		assert_null(ioas_translate(ioas_ctx_view(ctx), &hit, iova, 1,
					   c->prot));
	}
	assert_int_equal(map_wait(ctx, 1, 0, 4096, -1, 0, RW, NULL), -EINVAL);
	close(fd);
	ctx_end(ctx);
}

static void
huge_pages(void **state)
{
	struct ioas_ctx *ctx = ctx_attached(NULL), *leg;
	int fd = memfd_create("huge", MFD_HUGETLB | 21u << 26);
	iova_t iova;
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)MiB(4)) ||
	    (p = mmap(NULL, MiB(4), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      0)) == MAP_FAILED) {
		print_message("no huge pages here\n");
		if (fd >= 0) /* they may be lacking until touched */
			close(fd);
		ctx_end(ctx);
		skip();
	}
	for (uint64_t off = 0; off < MiB(4); off += 8)
		*(uint64_t *)((char *)p + off) = off;
	assert_int_equal(
		map_wait(ctx, 1, 0, KiB(8), fd, MiB(2) + 4096, RW, &iova), 0);
	assert_int_equal(*(uint64_t *)iova, MiB(2) + 4096);
	assert_null(host_of(ctx, iova + KiB(8), 1, RW));
	assert_null(host_of(ctx, iova - 1, 1, RW));
	assert_int_equal(unmap_wait(ctx, 1, iova, KiB(8)), 0);
	leg = ctx_new(IOAS_LEGACY, NULL);
	assert_int_equal(map_wait(leg, 1, 0, 4096, fd, KiB(12), RW, NULL), 0);
	assert_int_equal(*(uint64_t *)host_of(leg, 0, 8, RW), KiB(12));
	ctx_end(leg);
	ctx_end(ctx);
	munmap(p, MiB(4));
	close(fd);
}

/* Random maps and unmaps of all sizes never overlap, and the arena heals. */
static void
fragments(void **state)
{
	struct ioas_limits l = { .arena_len = GiB(1) };
	struct ioas_ctx *ctx = ctx_attached(&l);
	int fd = mem_create(GiB(1), 0);
	struct {
		iova_t at;
		uint64_t len;
	} m[64] = { 0 };
	unsigned full = 0;
	iova_t all;

	srand(7);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned at = (unsigned)rand() % 64;
		int err;

		if (m[at].len) {
			assert_int_equal(
				unmap_wait(ctx, 1, m[at].at, m[at].len), 0);
			m[at].len = 0;
			continue;
		}
		m[at].len = 4096ull << rand() % 17;
		m[at].len += (uint64_t)rand() % 3 * 4096;
		err = map_wait(ctx, 1, 0, m[at].len, fd,
			       (uint64_t)(rand() % 1000) * 4096, RW, &m[at].at);
		if (err) {
			assert_int_equal(err, -ENOSPC);
			m[at].len = 0;
			full++;
			continue;
		}
		for (unsigned j = 0; j < 64; j++)
			assert_true(j == at || !m[j].len ||
				    m[j].at + m[j].len <= m[at].at ||
				    m[at].at + m[at].len <= m[j].at);
	}
	assert_true(full > 0);
	for (unsigned j = 0; j < 64; j++)
		if (m[j].len)
			assert_int_equal(unmap_wait(ctx, 1, m[j].at, m[j].len),
					 0);
	assert_int_equal(ftruncate(fd, (off_t)GiB(2)), 0);
	assert_int_equal(map_wait(ctx, 1, 0, GiB(1) + 4096, fd, 0, RW, &all),
			 -ENOSPC);
	assert_int_equal(map_wait(ctx, 1, 0, GiB(1), fd, 0, RW, &all), 0);
	assert_int_equal(map_wait(ctx, 1, 0, 4096, fd, 0, RW, NULL), -ENOSPC);
	assert_int_equal(unmap_wait(ctx, 1, all, GiB(1)), 0);
	close(fd);
	ctx_end(ctx);
}

static void
only_the_attached(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_IOMMUFD, NULL);
	struct wait_op w[12];
	int fd = mem_create(KiB(64), 10);
	uint32_t a, b, dev;
	iova_t ia, ib;

	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		w[i] = (struct wait_op){ .op.done = op_done };
	assert_int_equal(ioas_alloc(ctx, &a), 0);
	assert_int_equal(ioas_alloc(ctx, &b), 0);
	assert_int_equal(map_wait(ctx, a, 0, 4096, fd, 0, RW, &ia), 0);
	assert_int_equal(map_wait(ctx, b, 0, 4096, fd, 4096, RW, &ib), 0);
	assert_int_not_equal(ia, ib);
	assert_null(host_of(ctx, ia, 8, RW));
	assert_int_equal(ioas_attach(ctx, a, &w[0].op), -EINVAL);
	assert_int_equal(ioas_detach(ctx, &w[0].op), -EINVAL);
	assert_int_equal(ioas_bind(ctx, &dev), 0);
	assert_int_equal(ioas_bind(ctx, &dev), -EEXIST);
	assert_int_equal(ioas_detach(ctx, &w[0].op), -EINVAL);
	assert_int_equal(ioas_attach(ctx, 3, &w[0].op), -ENOENT);
	assert_int_equal(ioas_attach(ctx, 0, &w[0].op), -ENOENT);
	assert_int_equal(op_wait(&w[1], ioas_attach(ctx, a, &w[1].op)), 0);
	assert_non_null(host_of(ctx, ia, 8, RW));
	assert_null(host_of(ctx, ib, 8, RW));
	assert_int_equal(ioas_attach(ctx, 3, &w[0].op), -ENOENT);
	assert_non_null(host_of(ctx, ia, 8, RW));
	assert_int_equal(ioas_destroy(ctx, a, &w[0].op), -EBUSY);
	assert_int_equal(op_wait(&w[2], ioas_attach(ctx, b, &w[2].op)), 0);
	assert_null(host_of(ctx, ia, 8, RW));
	assert_non_null(host_of(ctx, ib, 8, RW));
	assert_int_equal(op_wait(&w[3], ioas_destroy(ctx, a, &w[3].op)), 0);
	assert_int_equal(ioas_destroy(ctx, a, &w[0].op), -ENOENT);
	assert_int_equal(op_wait(&w[4], ioas_detach(ctx, &w[4].op)), 0);
	assert_null(host_of(ctx, ib, 8, RW));
	assert_int_equal(op_wait(&w[5], ioas_attach(ctx, b, &w[5].op)), 0);
	assert_int_equal(*(uint64_t *)host_of(ctx, ib, 8, RW), 11);
	assert_int_equal(w[0].done, 0);
	close(fd);
	ctx_end(ctx);
}

/* A mapping of 16 KiB, readable, from the file's second page; space 2 is empty. */
static const struct copy_case {
	const char *name;
	uint64_t at, len; /* of the mapping */
	uint32_t src, dst, prot;
	int want;
} copies[] = {
	{ "all of it", 0, KiB(16), 1, 2, IOAS_READ, 0 },
	{ "a part", 4096, 4096, 1, 2, IOAS_READ, 0 },
	{ "an odd part", 512, 4096, 1, 2, IOAS_READ, 0 },
	{ "into itself", 0, KiB(16), 1, 1, IOAS_READ, 0 },
	{ "to be written", 0, 4096, 1, 2, RW, -EPERM },
	{ "to be written only", 0, 4096, 1, 2, IOAS_WRITE, -EPERM },
	{ "past its end", KiB(12), KiB(8), 1, 2, IOAS_READ, -ENOENT },
	{ "before it", -4096ull, KiB(8), 1, 2, IOAS_READ, -ENOENT },
	{ "unknown source", 0, 4096, 9, 2, IOAS_READ, -ENOENT },
	{ "unknown destination", 0, 4096, 1, 9, IOAS_READ, -ENOENT },
	{ "not in that space", 0, 4096, 2, 1, IOAS_READ, -ENOENT },
	{ "no length", 0, 0, 1, 2, IOAS_READ, -EINVAL },
	{ "no permission", 0, 4096, 1, 2, 0, -EINVAL },
	{ "half a page", 0, 2048, 1, 2, IOAS_READ, -EINVAL },
	{ "wraps", 0, -4096ull, 1, 2, IOAS_READ, -EINVAL },
};

static void
copies_are_apart(void **state)
{
	struct ioas_ctx *ctx = ctx_attached(NULL);
	int fd = mem_create(KiB(64), 50);
	struct ioas_usage u;
	iova_t src;
	uint32_t id;

	for (unsigned i = 0; i < ARRAY_SIZE(copies); i++) {
		const struct copy_case *c = &copies[i];
		struct wait_op w = { .op.done = op_done };
		int err;

		assert_int_equal(map_wait(ctx, 1, 0, KiB(16), fd, 4096,
					  IOAS_READ, &src),
				 0);
		if (!i)
			assert_int_equal(ioas_alloc(ctx, &id), 0);
		err = ioas_copy(ctx, c->src, src + c->at, c->len, c->dst,
				c->prot, &w.op);
		err = op_wait(&w, err);
		if (err != c->want)
			print_error("%s: %d\n", c->name, err);
		assert_int_equal(err, c->want);
		assert_int_equal(unmap_wait(ctx, 1, src, KiB(16)), 0);
		if (err)
			continue;
		assert_int_not_equal(w.op.iova, src);
		/* It lives on without the first. */
		assert_int_equal(*(uint64_t *)align_up(w.op.iova, 4096),
				 51 + align_up(c->at, 4096) / 4096);
		assert_int_equal(unmap_wait(ctx, c->dst, w.op.iova, c->len), 0);
	}
	for (unsigned i = 0; i < 20000; i++) {
		step();
		ioas_ctx_usage(ctx, &u);
		if (!u.vmas)
			break;
		usleep(50);
	}
	assert_int_equal(u.vmas, 0);
	assert_int_equal(u.fds, 0);
	close(fd);
	ctx_end(ctx);
}

int
iommufd_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(fragments),
		cmocka_unit_test(only_the_attached),
		cmocka_unit_test(copies_are_apart),
	};

	return cmocka_run_group_tests_name("iommufd", tests, NULL, NULL);
}
