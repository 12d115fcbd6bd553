/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA_MAP: which maps are taken, where they lead, and what they cost. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

enum what {
	MEM,
	MEM_RO,
	MEM_WO,
	SEALED,
	PIPE,
	DISK,
	SOCK,
	DEVZERO,
	NONE,
	PATH
};

static int
open_what(enum what what, uint64_t len)
{
	char path[64];
	int fd, p[2];

	switch (what) {
	case NONE:
		return -1;
	case PIPE:
		assert_int_equal(pipe(p), 0);
		close(p[1]);
		return p[0];
	case SOCK:
		return socket(AF_UNIX, SOCK_STREAM, 0);
	case DEVZERO:
		return open("/dev/zero", O_RDWR);
	case DISK: /* /proc/self/exe's file system is a disk's, or the like */
		return open("/proc/self/exe", O_RDONLY);
	default:
		break;
	}
	fd = mem_create(len, 0);
	if (what == MEM)
		return fd;
	if (what == SEALED) {
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
		return fd;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	p[0] = open(path, what == MEM_RO   ? O_RDONLY
			  : what == MEM_WO ? O_WRONLY
					   : O_PATH);
	assert_true(p[0] >= 0);
	close(fd);
	return p[0];
}

#define TOP (-4096ull)

/* The file has 64 KiB; [0x10000, 0x14000) is mapped already, of another file. */
static const struct map_case {
	const char *name;
	enum what what;
	iova_t iova;
	uint64_t len, off;
	uint32_t prot;
	int want;
} map_cases[] = {
	{ "one page", MEM, 0, 4096, 0, RW, 0 },
	{ "all of it", MEM, 0x40000, 65536, 0, RW, 0 },
	{ "the last page", MEM, 0, 4096, 61440, RW, 0 },
	{ "read-only fd, to be read", MEM_RO, 0, 4096, 0, IOAS_READ, 0 },
	{ "to be written only", MEM, 0, 4096, 0, IOAS_WRITE, 0 },
	{ "no fd", NONE, 0, 4096, 0, RW, 0 },
	{ "no fd, half of all", NONE, 1ull << 63, 1ull << 62, 0, RW, 0 },
	{ "the top page", MEM, TOP, 4096, 0, RW, 0 },
	{ "right below another", MEM, 0xf000, 4096, 0, RW, 0 },
	{ "right above another", MEM, 0x14000, 4096, 0, RW, 0 },
	{ "sealed, to be read", SEALED, 0, 4096, 0, IOAS_READ, 0 },
	{ "sealed, to be written", SEALED, 0, 4096, 0, RW, -EPERM },
	{ "no length", MEM, 0, 0, 0, RW, -EINVAL },
	{ "no length, no fd", NONE, 0, 0, 0, RW, -EINVAL },
	{ "no permission", MEM, 0, 4096, 0, 0, -EINVAL },
	{ "odd permission", MEM, 0, 4096, 0, 8 | RW, -EINVAL },
	{ "asks to be unreachable", MEM, 0, 4096, 0, RW | IOAS_NOHOST,
	  -EINVAL },
	{ "half a page", MEM, 0, 2048, 0, RW, -EINVAL },
	{ "a page and a byte", MEM, 0, 4097, 0, RW, -EINVAL },
	{ "iova within a page", MEM, 512, 4096, 0, RW, -EINVAL },
	{ "offset within a page", MEM, 0, 4096, 512, RW, -EINVAL },
	{ "wraps", MEM, TOP, 8192, 0, RW, -EINVAL },
	{ "wraps, no fd", NONE, TOP, 8192, 0, RW, -EINVAL },
	{ "length wraps", MEM, 4096, TOP, 0, RW, -EINVAL },
	{ "one page past the end", MEM, 0, 4096, 65536, RW, -EINVAL },
	{ "reaches past the end", MEM, 0, 8192, 61440, RW, -EINVAL },
	{ "far past the end", MEM, 0, 4096, 1ull << 40, RW, -EINVAL },
	{ "offset is negative", MEM, 0, 4096, 1ull << 63, RW, -EINVAL },
	{ "offset and length overflow", MEM, 0, 4096, INT64_MAX - 4095, RW,
	  -EINVAL },
	{ "larger than any file", MEM, 0, 1ull << 62, 0, RW, -EINVAL },
	{ "overlaps, whole", MEM, 0x10000, 0x4000, 0, RW, -EEXIST },
	{ "overlaps, its first page", MEM, 0x10000, 4096, 0, RW, -EEXIST },
	{ "overlaps, its last page", MEM, 0x13000, 4096, 0, RW, -EEXIST },
	{ "overlaps, from below", MEM, 0xf000, 8192, 0, RW, -EEXIST },
	{ "overlaps, around", MEM, 0xf000, 0x6000, 0, RW, -EEXIST },
	{ "overlaps, no fd", NONE, 0x13000, 8192, 0, RW, -EEXIST },
	{ "overlaps, no fd, all", NONE, 0, TOP, 0, RW, -EEXIST },
	{ "read-only fd, to be written", MEM_RO, 0, 4096, 0, RW, -EACCES },
	{ "write-only fd", MEM_WO, 0, 4096, 0, IOAS_WRITE, -EACCES },
	{ "O_PATH fd", PATH, 0, 4096, 0, IOAS_READ, -EINVAL },
	{ "a pipe", PIPE, 0, 4096, 0, IOAS_READ, -EINVAL },
	{ "a socket", SOCK, 0, 4096, 0, RW, -EINVAL },
	{ "a device", DEVZERO, 0, 4096, 0, RW, -EINVAL },
	{ "a file on disk", DISK, 0, 4096, 0, IOAS_READ, -EINVAL },
};

static void
maps(void **state)
{
	int other = mem_create(KiB(64), 0);
	unsigned fds = fd_count(), i;

	for (i = 0; i < ARRAY_SIZE(map_cases); i++) {
		const struct map_case *c = &map_cases[i];
		struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
		struct ioas_usage before, after;
		int fd = open_what(c->what, KiB(64)), err;

		assert_int_equal(map_wait(ctx, 1, 0x10000, 0x4000, other, 0, RW,
					  NULL),
				 0);
		ioas_ctx_usage(ctx, &before);
		err = map_wait(ctx, 1, c->iova, c->len, fd, c->off, c->prot,
			       NULL);
		if (err != c->want)
			print_error("%s: %d, not %d\n", c->name, err, c->want);
		assert_int_equal(err, c->want);
		ioas_ctx_usage(ctx, &after);
		assert_int_equal(after.extents, before.extents + !c->want);
		if (c->want) /* nothing half-done */
			assert_int_equal(after.vmas, before.vmas);
		else
			assert_int_equal(!host_of(ctx, c->iova, c->len,
						  c->prot),
					 c->what == NONE);
		close(fd);
		ctx_end(ctx);
		fds_settle(fds);
	}
	close(other);
}

/* After a 16 KiB map of the file's second page on, at 1 MiB. */
static const struct dup_case {
	const char *name;
	iova_t iova;
	uint64_t len, off;
	uint32_t prot;
	bool same_file;
	int want;
} dup_cases[] = {
	{ "the same again", MiB(1), KiB(16), 4096, RW, true, 0 },
	{ "another file", MiB(1), KiB(16), 4096, RW, false, -EEXIST },
	{ "another offset", MiB(1), KiB(16), 0, RW, true, -EEXIST },
	{ "another length", MiB(1), KiB(12), 4096, RW, true, -EEXIST },
	{ "a greater length", MiB(1), KiB(20), 4096, RW, true, -EEXIST },
	{ "less permission", MiB(1), KiB(16), 4096, IOAS_READ, true, -EEXIST },
	{ "a part, with its pages", MiB(1) + 4096, KiB(12), 8192, RW, true,
	  -EEXIST },
	{ "from before", MiB(1) - 4096, KiB(20), 0, RW, true, -EEXIST },
};

static void
duplicates(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(KiB(64), 0), other = mem_create(KiB(64), 0);
	struct ioas_usage u;

	assert_int_equal(map_wait(ctx, 1, MiB(1), KiB(16), fd, 4096, RW, NULL),
			 0);
	for (unsigned i = 0; i < ARRAY_SIZE(dup_cases); i++) {
		const struct dup_case *c = &dup_cases[i];

		assert_int_equal(map_wait(ctx, 1, c->iova, c->len,
					  c->same_file ? fd : other, c->off,
					  c->prot, NULL),
				 c->want);
	}
	assert_int_equal(map_wait(ctx, 1, MiB(2), KiB(8), -1, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, MiB(2), KiB(8), -1, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, MiB(2), KiB(8), fd, 0, RW, NULL),
			 -EEXIST);
	assert_int_equal(map_wait(ctx, 1, MiB(1), KiB(16), -1, 0, RW, NULL),
			 -EEXIST);
	assert_int_equal(map_wait(ctx, 2, MiB(8), 4096, fd, 0, RW, NULL),
			 -ENOENT);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.extents, 2);
	assert_int_equal(u.vmas, 1);
	close(fd);
	close(other);
	ctx_end(ctx);
}

/* With the window there, a map is done at once and makes no VMA. */
static void
window_is_shared(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(MiB(4), 1000);
	unsigned vmas;

	assert_int_equal(map_wait(ctx, 1, 0, 4096, fd, 0, RW, NULL), 0);
	vmas = vma_count();
	for (unsigned i = 1; i < 1024; i++) { /* backwards in the file */
		struct wait_op w = { .op.done = op_done };
		uint64_t *p;

		assert_int_equal(ioas_map(ctx, 1, i * KiB(8), 4096, dup(fd),
					  MiB(4) - i * KiB(4), RW, &w.op),
				 0);
		p = host_of(ctx, i * KiB(8), 4096, RW);
		assert_non_null(p);
		assert_int_equal(*p, 1000 + 1024 - i);
		assert_null(host_of(ctx, i * KiB(8) + KiB(4), 1, IOAS_READ));
	}
	assert_int_equal(vma_count(), vmas);
	for (unsigned i = 1; i < 1024; i++) {
		struct wait_op w = { .op.done = op_done };

		assert_int_equal(ioas_unmap(ctx, 1, i * KiB(8), 4096, &w.op),
				 0);
	}
	assert_null(host_of(ctx, KiB(8), 4096, IOAS_READ));
	assert_non_null(host_of(ctx, 0, 4096, IOAS_READ));
	close(fd);
	ctx_end(ctx);
}

/* The last extent goes, and the same comes right behind: nothing stale, nothing lost. */
static void
window_comes_back(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(MiB(1), 7);
	struct ioas_usage u;
	uint64_t end;

	assert_int_equal(map_wait(ctx, 1, 0, MiB(1), fd, 0, RW, NULL), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct wait_op w = { .op.done = op_done };
		uint64_t *p;

		assert_int_equal(ioas_unmap(ctx, 1, 0, MiB(1), &w.op), 0);
		assert_null(host_of(ctx, 0, 8, IOAS_READ));
		if (i % 3 == 1) /* the release is under way, or over */
			usleep(i % 7 * 3000);
		if (i % 3)
			step();
		assert_int_equal(map_wait(ctx, 1, 0, MiB(1), fd, 0, RW, NULL),
				 0);
		p = host_of(ctx, 4096, 8, RW);
		assert_int_equal(*p, 8);
	}
	assert_int_equal(unmap_wait(ctx, 1, 0, UINT64_MAX), 0);
	for (end = util_now_ns() + 5000000000ull; util_now_ns() < end;) {
		step();
		ioas_ctx_usage(ctx, &u);
		if (!u.vmas)
			break;
	}
	assert_int_equal(u.vmas, 0);
	assert_int_equal(u.arena_used, 0);
	close(fd);
	ctx_end(ctx);
}

static void
file_grows(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(KiB(64), 100);
	struct ioas_usage u;
	uint64_t v = 4711;
	uint64_t *p;

	assert_int_equal(map_wait(ctx, 1, 0, KiB(64), fd, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, MiB(1), 4096, fd, KiB(64), RW, NULL),
			 -EINVAL);
	assert_int_equal(ftruncate(fd, (off_t)MiB(2)), 0);
	assert_int_equal(pwrite(fd, &v, 8, (off_t)MiB(1)), 8);
	assert_int_equal(map_wait(ctx, 1, MiB(1), 4096, fd, MiB(1), RW, NULL),
			 0);
	p = host_of(ctx, MiB(1), 4096, RW);
	assert_int_equal(*p, 4711);
	p = host_of(ctx, 4096, 4096, RW);
	assert_int_equal(*p, 101);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.vmas, 2); /* one window, mapped on once */
	close(fd);
	ctx_end(ctx);
}

/* 5 GiB from the middle of a GiB on: six windows, still one map. */
static void
map_over_windows(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	struct ioas_limits few = { .max_vmas = 5 };
	int fd = mem_create(GiB(6), 0);
	uint64_t at = GiB(1) / 2, off, v;
	struct ioas_usage u;

	for (off = at; off < at + GiB(5); off += GiB(1) - 4096)
		assert_int_equal(pwrite(fd, &off, 8, (off_t)off), 8);
	assert_int_equal(map_wait(ctx, 1, GiB(64), GiB(5), fd, at, RW, NULL),
			 0);
	for (off = at; off < at + GiB(5); off += GiB(1) - 4096) {
		v = *(uint64_t *)host_of(ctx, GiB(64) + off - at, 8, RW);
		assert_int_equal(v, off);
	}
	assert_int_equal(map_wait(ctx, 1, GiB(64), GiB(5), fd, at, RW, NULL),
			 0);
	assert_int_equal(unmap_wait(ctx, 1, GiB(64), GiB(4)), -EINVAL);
	assert_int_equal(unmap_wait(ctx, 1, GiB(64) + GiB(1) / 2, GiB(8)),
			 -EINVAL);
	assert_int_equal(unmap_wait(ctx, 1, GiB(65), GiB(1)), -EINVAL);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.vmas, 6);
	assert_int_equal(unmap_wait(ctx, 1, GiB(64), GiB(5)), 0);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.extents, 0);
	ctx_end(ctx);

	ctx = ctx_new(IOAS_LEGACY, &few);
	assert_int_equal(map_wait(ctx, 1, 0, GiB(5), fd, at, RW, NULL),
			 -ENOSPC);
	assert_int_equal(map_wait(ctx, 1, 0, GiB(4), fd, 0, RW, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, GiB(8), GiB(2), fd, GiB(3) + 4096, RW,
				  NULL),
			 -ENOSPC);
	ctx_end(ctx);
	close(fd);
}

/* The permission is in the page tables too, not only in our check. */
static void
read_only_view(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(KiB(64), 5);
	struct ioas_usage u;
	char *ro, *rw;
	int p[2];

	assert_int_equal(map_wait(ctx, 1, 0, 4096, fd, 0, IOAS_READ, NULL), 0);
	assert_int_equal(map_wait(ctx, 1, 4096, 4096, fd, 0, RW, NULL), 0);
	ioas_ctx_usage(ctx, &u);
	assert_int_equal(u.vmas, 2);
	assert_null(host_of(ctx, 0, 8, IOAS_WRITE));
	assert_null(host_of(ctx, 0, 8, RW));
	ro = host_of(ctx, 0, 8, IOAS_READ);
	rw = host_of(ctx, 4096, 8, RW);
	assert_ptr_not_equal(ro, rw);
	*(uint64_t *)rw = 99;
	assert_int_equal(*(uint64_t *)ro, 99);
	assert_int_equal(pipe(p), 0); /* the kernel tells without a signal */
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(read(p[0], ro, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(read(p[0], rw, 1), 1);
	close(p[0]);
	close(p[1]);
	assert_int_equal(map_wait(ctx, 1, 8192, 4096, fd, 0, IOAS_WRITE, NULL),
			 0);
	assert_null(host_of(ctx, 8192, 8, IOAS_READ));
	assert_non_null(host_of(ctx, 8192, 8, IOAS_WRITE));
	close(fd);
	ctx_end(ctx);
}

static void
clients_are_apart(void **state)
{
	struct ioas_ctx *a = ctx_new(IOAS_LEGACY, NULL);
	struct ioas_ctx *b = ctx_new(IOAS_LEGACY, NULL);
	int fa = mem_create(KiB(64), 100), fb = mem_create(KiB(64), 200);
	uint64_t *pa, *pb;

	assert_int_equal(map_wait(a, 1, 0, KiB(64), fa, 0, RW, NULL), 0);
	assert_int_equal(map_wait(b, 1, 0, KiB(32), fb, 0, RW, NULL), 0);
	pa = host_of(a, 4096, 8, RW);
	pb = host_of(b, 4096, 8, RW);
	assert_int_equal(*pa, 101);
	assert_int_equal(*pb, 201);
	assert_null(host_of(b, KiB(32), 8, IOAS_READ));
	assert_null(host_of(b, (uintptr_t)pa, 8, IOAS_READ));
	assert_null(host_of(a, (uintptr_t)pb, 8, IOAS_READ));
	assert_null(host_of(a, (uintptr_t)&fa, 8, IOAS_READ));
	/* The same file, by both: each has its own window. */
	assert_int_equal(map_wait(b, 1, MiB(1), KiB(64), fa, 0, RW, NULL), 0);
	pb = host_of(b, MiB(1) + 4096, 8, RW);
	assert_ptr_not_equal(pa, pb);
	assert_int_equal(*pb, 101);
	ctx_end(a);
	assert_int_equal(*pb, 101);
	ctx_end(b);
	close(fa);
	close(fb);
}

/* The operator may allow files that are on a disk; what is no file stays out. */
static void
any_file_system(void **state)
{
	struct ioas_limits l = { .allow_any_fs = true };
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, &l);
	int disk = open(".", O_TMPFILE | O_RDWR, 0600), p = open_what(PIPE, 0);
	int zero = open_what(DEVZERO, 0);
	uint64_t v = 31;

	assert_int_equal(map_wait(ctx, 1, 0, 4096, p, 0, IOAS_READ, NULL),
			 -EINVAL);
	assert_int_equal(map_wait(ctx, 1, 0, 4096, zero, 0, RW, NULL), -EINVAL);
	close(p);
	close(zero);
	if (disk >= 0) { /* not every file system can */
		assert_int_equal(pwrite(disk, &v, 8, 4096), 8);
		assert_int_equal(map_wait(ctx, 1, 0, 4096, disk, 0, RW, NULL),
				 0);
		assert_int_equal(map_wait(ctx, 1, 4096, 4096, disk, 4096, RW,
					  NULL),
				 -EINVAL); /* past its end */
		assert_int_equal(ftruncate(disk, 8192), 0);
		assert_int_equal(
			map_wait(ctx, 1, 4096, 4096, disk, 4096, RW, NULL), 0);
		assert_int_equal(*(uint64_t *)host_of(ctx, 4096, 8, RW), 31);
		close(disk);
	}
	ctx_end(ctx);
}

/* Is something mapped, if only PROT_NONE, at all of [addr, addr + len)? */
static bool
no_hole(uint64_t addr, uint64_t len)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long from, to;
	uint64_t end = addr + len;

	assert_non_null(f);
	while (addr < end && fscanf(f, "%llx-%llx%*[^\n]", &from, &to) == 2)
		if (from <= addr && to > addr)
			addr = to;
	fclose(f);
	return addr >= end;
}

/* A file that says no only when it is mapped: kernels before 6.12 have cleared the place by then. */
static void
refused_by_mmap(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(KiB(64), 1), sealed = mem_create(KiB(64), 2);
	uint64_t *p;

	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(map_wait(ctx, 1, 0, KiB(64), fd, 0, RW, NULL), 0);
	p = host_of(ctx, 0, 8, RW);
	assert_true(no_hole((uintptr_t)p, GiB(4)));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(map_wait(ctx, 1, GiB(1), KiB(64), sealed, 0,
					  RW, NULL),
				 -EPERM);
	assert_true(no_hole((uintptr_t)p, GiB(4)));
	assert_int_equal(map_wait(ctx, 1, GiB(1), KiB(64), sealed, 0, IOAS_READ,
				  NULL),
			 0);
	assert_int_equal(*p, 1);
	close(fd);
	close(sealed);
	ctx_end(ctx);
}

int
legacy_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps),
		cmocka_unit_test(duplicates),
		cmocka_unit_test(window_is_shared),
		cmocka_unit_test(window_comes_back),
		cmocka_unit_test(file_grows),
		cmocka_unit_test(map_over_windows),
		cmocka_unit_test(read_only_view),
		cmocka_unit_test(clients_are_apart),
		cmocka_unit_test(any_file_system),
		cmocka_unit_test(refused_by_mmap),
	};

	return cmocka_run_group_tests_name("legacy", tests, NULL, NULL);
}
