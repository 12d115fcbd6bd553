/* SPDX-License-Identifier: BSD-3-Clause */
/* What every backend must do with data, on each of them. */
#include <stdio.h>

#include "unit.h"

#define LEN (4u << 20)

static char *buf, *back;

static void
make_malloc(void)
{
	struct bdev_malloc_params p = { .name = "t",
					.block_len = 512,
					.num_blocks = LEN / 512,
					.numa = -1 };
	struct unit_ctl u;

	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
}

static void
make_file(void)
{
	struct unit_ctl u;

	assert_int_equal(unit_disk("t", unit_file("t", LEN), 512, &u), 0);
}

static void
make_shm(void)
{
	FILE *f = fopen("/dev/shm/belfry-bdev-unit", "w");
	struct unit_ctl u;

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), LEN), 0);
	fclose(f);
	assert_int_equal(unit_disk("t", "/dev/shm/belfry-bdev-unit", 512, &u),
			 0);
	unlink("/dev/shm/belfry-bdev-unit");
}

static void
make_delay(void)
{
	struct bdev_malloc_params m = { .name = "base",
					.block_len = 512,
					.num_blocks = LEN / 512,
					.numa = -1 };
	struct bdev_delay_params p = { "t", "base", 10, 20, 10, 20, NULL };
	struct unit_ctl u;

	assert_int_equal(bdev_malloc_create(&m, unit_ctl(&u)), 0);
	assert_int_equal(bdev_delay_create(&p, unit_ctl(&u)), 0);
}

static void
make_error(void)
{
	struct bdev_error_params p = { .base = "base" };
	struct unit_ctl u;

	assert_int_equal(unit_disk("base", unit_file("e", LEN), 512, &u), 0);
	assert_int_equal(bdev_error_create(&p, unit_ctl(&u)), 0);
}

static const struct backend {
	const char *name, *bdev;
	void (*make)(void);
	unsigned kind; /* of a file */
} backends[] = {
	{ "malloc", "t", make_malloc },
	{ "aio", "t", make_file },
	{ "aio, tmpfs", "t", make_shm },
	{ "uring", "t", make_file, UNIT_URING },
	{ "uring, tmpfs", "t", make_shm, UNIT_URING },
	{ "delay on malloc", "t", make_delay },
	{ "error on aio", "EE_base", make_error },
};

static const struct rw {
	const char *name;
	uint64_t off;
	size_t skew; /* of the buffer */
	size_t parts[4];
} rws[] = {
	{ "one block", 0, 0, { 512 } },
	{ "last block", LEN - 512, 0, { 512 } },
	{ "4 KiB", 4096, 0, { 4096 } },
	{ "1 MiB", 1 << 20, 0, { 1 << 20 } },
	{ "two pages", 8192, 0, { 4096, 4096 } },
	{ "odd address", 0, 1, { 4096 } },
	{ "dword address", 0, 4, { 512 } },
	{ "odd pieces", 512, 0, { 100, 412, 3, 4093 } },
	{ "large and odd", 0, 7, { (1 << 20) - 5, 5 } },
	{ "larger than a bounce buffer", 0, 3, { 2 << 20, 512, 512 } },
};

static void
set_parts(struct unit_io *u, const struct rw *t, char *mem)
{
	char *at = mem + t->skew;

	u->io.len = 0;
	u->io.iovcnt = 0;
	for (unsigned i = 0; i < 4 && t->parts[i]; i++) {
		u->iov[i] = (struct iovec){ at, t->parts[i] };
		at += t->parts[i];
		u->io.len += t->parts[i];
		u->io.iovcnt++;
	}
}

static void
round_trip(const struct backend *be, const struct rw *t, struct bdev_ch *ch,
	   unsigned seed)
{
	struct unit_io u;
	int err;

	unit_fill(buf, LEN, seed);
	memset(back, 0xee, LEN);
	unit_io(&u, ch, BDEV_WRITE, t->off, NULL, 0);
	set_parts(&u, t, buf);
	u.io.flags = seed & 1 ? BDEV_IO_FUA : 0;
	err = unit_run(&u);
	if (err)
		fail_msg("%s: %s: write %d", be->name, t->name, err);
	unit_io(&u, ch, BDEV_READ, t->off, NULL, 0);
	set_parts(&u, t, back);
	err = unit_run(&u);
	if (err)
		fail_msg("%s: %s: read %d", be->name, t->name, err);
	if (memcmp(buf + t->skew, back + t->skew, u.io.len))
		fail_msg("%s: %s: not what was written", be->name, t->name);
	for (size_t i = 0; i < t->skew; i++)
		assert_int_equal((uint8_t)back[i], 0xee);
	assert_int_equal((uint8_t)back[t->skew + u.io.len], 0xee);
}

/* Zeroes [off, off + len) of a full disk in some way; the rest must stand. */
static void
clears(const struct backend *be, struct bdev_ch *ch, unsigned op,
       unsigned flags, uint64_t off, uint64_t len)
{
	struct unit_io u;
	int err;

	unit_fill(buf, LEN, (unsigned)off);
	for (uint64_t at = 0; at < LEN; at += 1 << 20)
		assert_int_equal(unit_rw(ch, BDEV_WRITE, at, buf + at, 1 << 20),
				 0);
	unit_io(&u, ch, op, off, NULL, len);
	u.io.flags = (uint8_t)flags;
	err = unit_run(&u);
	if (err)
		fail_msg("%s: op %u: %d", be->name, op, err);
	memset(buf + off, 0, len);
	for (uint64_t at = 0; at < LEN; at += 1 << 20)
		assert_int_equal(unit_rw(ch, BDEV_READ, at, back + at, 1 << 20),
				 0);
	if (memcmp(buf, back, LEN))
		fail_msg("%s: op %u, flags %u at %u: wrong", be->name, op,
			 flags, (unsigned)off);
}

static void
do_backend(const struct backend *be)
{
	struct bdev_info info;
	struct unit_dev d;

	if (!unit_choose(be->kind))
		return;
	unit_setup(NULL);
	be->make();
	unit_choose(UNIT_AIO);
	unit_open(&d, be->bdev);
	bdev_get_info(d.desc, &info);
	assert_int_equal(info.num_blocks, LEN / 512);
	for (unsigned i = 0; i < ARRAY_SIZE(rws); i++)
		round_trip(be, &rws[i], d.ch, i);
	clears(be, d.ch, BDEV_WRITE_ZEROES, 0, 512, 4096);
	clears(be, d.ch, BDEV_WRITE_ZEROES, BDEV_IO_FUA, 4096, 2 << 20);
	clears(be, d.ch, BDEV_WRITE_ZEROES, BDEV_IO_UNMAP, 1024, 8192);
	if (info.caps & BDEV_CAP_DISCARD_ZEROES) {
		clears(be, d.ch, BDEV_DISCARD, 0, 512, 512);
		clears(be, d.ch, BDEV_DISCARD, 0, 4096, 1 << 20);
	}
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(bdev_inflight(), 0);
	unit_close(&d);
	unit_teardown(NULL);
}

static void
keep_data(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(backends); i++)
		do_backend(&backends[i]);
}

static void
null_touches_nothing(void **state)
{
	struct bdev_null_params p = { .name = "n",
				      .block_len = 512,
				      .num_blocks = 1 << 20 };
	struct unit_dev d;
	struct unit_ctl u;

	unit_setup(NULL);
	assert_int_equal(bdev_null_create(&p, unit_ctl(&u)), 0);
	unit_open(&d, "n");
	memset(back, 0x5a, 4096);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 4096), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, back, 4096), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(back[i], 0x5a);
	assert_int_equal(bdev_null_resize("n", 0, unit_ctl(&u)), -EINVAL);
	assert_int_equal(bdev_null_resize("n", 1ull << 50, unit_ctl(&u)),
			 -EINVAL);
	assert_int_equal(bdev_null_resize("m", 1, unit_ctl(&u)), -ENODEV);
	assert_int_equal(bdev_null_resize("n", 2, unit_ctl(&u)), 0);
	assert_int_equal(d.resizes, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 2 << 20, back, 512), -ERANGE);
	unit_close(&d);
	unit_teardown(NULL);
}

static void
malloc_makes_names(void **state)
{
	struct bdev_malloc_params p = { .block_len = 4096,
					.num_blocks = 1,
					.numa = -1 };
	struct unit_ctl u;

	unit_setup(NULL);
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
	assert_non_null(bdev_find("Malloc0"));
	assert_non_null(bdev_find("Malloc1"));
	unit_delete("Malloc0");
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
	assert_string_equal(bdev_malloc_params_of(u.c.bdev)->name, "Malloc0");
	p.num_blocks = 1ull << 40; /* 4 PiB */
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), -ENOMEM);
	p.num_blocks = 1;
	p.numa = 1000;
	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), -EINVAL);
	assert_non_null(strstr(u.c.error, "1000"));
	unit_teardown(NULL);
}

static int
buffers(void **state)
{
	return posix_memalign((void **)&buf, 4096, LEN + 4096) ||
	       posix_memalign((void **)&back, 4096, LEN + 4096);
}

static int
no_buffers(void **state)
{
	free(buf);
	free(back);
	return 0;
}

int
backend_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keep_data),
		cmocka_unit_test(null_touches_nothing),
		cmocka_unit_test(malloc_makes_names),
	};

	return cmocka_run_group_tests_name("bdev/backend", tests, buffers,
					   no_buffers);
}
