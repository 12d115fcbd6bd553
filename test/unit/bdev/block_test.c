/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aio and uring on raw block devices: loop devices of both block lengths, whose
 * file shows what arrived, and whose counters show what was flushed. And disks
 * that are full, or hang.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "file.h"
#include "unit.h"

#define LEN (4u << 20)

/* A block device in a file; goes when the last descriptor is closed. */
struct loop {
	int fd, file;
	unsigned index;
	char path[32];
};

static char *buf, *back;

/* -errno: there are none here. */
static int
loop_make(struct loop *l, unsigned block_len)
{
	struct loop_config c = { .block_size = block_len,
				 .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n, err = 0;

	if (ctl < 0)
		return -errno;
	l->file = open(unit_file("loop", LEN), O_RDWR | O_CLOEXEC);
	assert_true(l->file >= 0);
	c.fd = (unsigned)l->file;
	for (unsigned i = 0; i < 20; i++) { /* others want one, too */
		n = ioctl(ctl, LOOP_CTL_GET_FREE);
		err = -errno;
		if (n < 0)
			break;
		l->index = (unsigned)n;
		snprintf(l->path, sizeof(l->path), "/dev/loop%d", n);
		l->fd = open(l->path, O_RDWR | O_CLOEXEC);
		err = -errno;
		if (l->fd < 0)
			break;
		if (!ioctl(l->fd, LOOP_CONFIGURE, &c)) {
			close(ctl);
			return 0;
		}
		err = -errno;
		close(l->fd);
		if (err != -EBUSY)
			break;
	}
	close(ctl);
	close(l->file);
	return err;
}

static void
loop_start(struct loop *l, unsigned block_len)
{
	int err = loop_make(l, block_len);

	if (!err)
		return;
	print_message("skipped: no loop device here: %s\n", strerror(-err));
	skip();
}

static void
loop_end(struct loop *l)
{
	close(l->fd);
	close(l->file);
}

static void
loop_resize(struct loop *l, uint64_t len)
{
	assert_int_equal(ftruncate(l->file, (off_t)len), 0);
	assert_int_equal(ioctl(l->fd, LOOP_SET_CAPACITY, 0), 0);
}

/* Flushes that the device has done. */
static unsigned long
loop_flushes(const struct loop *l)
{
	unsigned long n = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/loop%u/stat", l->index);
	f = fopen(path, "re");
	assert_non_null(f);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(fscanf(f, "%lu", &n), 1);
	fclose(f);
	return n;
}

/* The file behind it holds what @want does, from @off on. */
static void
loop_holds(const struct loop *l, uint64_t off, const char *want, size_t len)
{
	assert_int_equal(pread(l->file, back, len, (off_t)off), (ssize_t)len);
	assert_memory_equal(back, want, len);
}

static void
finds_out_what_it_is(unsigned block_len)
{
	struct bdev_info info;
	struct unit_dev d;
	struct unit_ctl u;
	struct loop l;
	int fd;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, 0, &u), 0);
	assert_true(file_of(u.c.bdev)->direct);
	unit_open(&d, "a");
	bdev_get_info(d.desc, &info);
	assert_int_equal(info.block_len, block_len);
	assert_int_equal(info.num_blocks, LEN / block_len);
	assert_int_equal(info.caps, BDEV_CAP_FLUSH | BDEV_CAP_DISCARD |
					    BDEV_CAP_WRITE_ZEROES);
	unit_close(&d);
	unit_delete("a");
	assert_int_equal(unit_disk("a", l.path, 4096, &u), 0);
	unit_delete("a");
	assert_int_equal(unit_disk("a", l.path, 512, &u),
			 block_len == 512 ? 0 : -EINVAL);
	if (block_len == 512)
		unit_delete("a");
	else
		assert_non_null(strstr(u.c.error, "below the 4096"));
	/* Somebody has it mounted, say. */
	fd = open(l.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(unit_disk("a", l.path, 0, &u), -EBUSY);
	assert_non_null(strstr(u.c.error, "in use"));
	close(fd);
	loop_end(&l);
}

/* Data arrives where it belongs, whatever the reader's and writer's memory. */
static void
keeps_data(unsigned block_len)
{
	static const struct {
		uint64_t off, len;
		unsigned skew;
	} cases[] = { { 0, 4096, 0 },	      { LEN - 4096, 4096, 0 },
		      { 8192, 1 << 20, 0 },   { 4096, 4096, 1 },
		      { 4096, 4096, 4 },      { 4096, 12288, 512 },
		      { 0, (1 << 20), 2044 }, { 0, 2 << 20, 3 } };
	struct unit_dev d;
	struct unit_ctl u;
	struct loop l;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, block_len, &u), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t off = cases[i].off, len = cases[i].len;
		unsigned skew = cases[i].skew;

		unit_fill(buf, len + skew, i);
		assert_int_equal(
			unit_rw(d.ch, BDEV_WRITE, off, buf + skew, len), 0);
		memset(back, 0, len + skew);
		assert_int_equal(
			unit_rw(d.ch, BDEV_READ, off, back + skew, len), 0);
		assert_memory_equal(buf + skew, back + skew, len);
		assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
		loop_holds(&l, off, buf + skew, len);
	}
	assert_int_equal(unit_rw(d.ch, BDEV_READ, block_len / 2, back, 512),
			 -EINVAL);
	unit_close(&d);
	loop_end(&l);
}

/* Zeroes, or gives back, [off, off + len) of a full device; the rest stands. */
static void
clears(const struct loop *l, struct bdev_ch *ch, unsigned op, unsigned flags,
       uint64_t off, uint64_t len)
{
	struct stat before, after;
	struct unit_io u;

	unit_fill(buf, LEN, (unsigned)off + flags);
	for (uint64_t at = 0; at < LEN; at += 1 << 20)
		assert_int_equal(unit_rw(ch, BDEV_WRITE, at, buf + at, 1 << 20),
				 0);
	assert_int_equal(unit_rw(ch, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(fsync(l->file) | fstat(l->file, &before), 0);
	unit_io(&u, ch, op, off, NULL, len);
	u.io.flags = (uint8_t)flags;
	assert_int_equal(unit_run(&u), 0);
	/* A loop device's discard punches holes: they read as zeros. */
	memset(buf + off, 0, len);
	for (uint64_t at = 0; at < LEN; at += 1 << 20) {
		assert_int_equal(unit_rw(ch, BDEV_READ, at, back, 1 << 20), 0);
		assert_memory_equal(buf + at, back, 1 << 20);
	}
	assert_int_equal(fsync(l->file) | fstat(l->file, &after), 0);
	if (op == BDEV_DISCARD || (flags & BDEV_IO_UNMAP))
		assert_true((uint64_t)(before.st_blocks - after.st_blocks) *
				    512 >=
			    len);
}

static void
discards_and_zeroes(unsigned block_len)
{
	struct unit_dev d;
	struct unit_ctl u;
	struct loop l;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, block_len, &u), 0);
	unit_open(&d, "a");
	clears(&l, d.ch, BDEV_DISCARD, 0, 4096, 4096);
	clears(&l, d.ch, BDEV_DISCARD, 0, 1 << 20, 2 << 20);
	clears(&l, d.ch, BDEV_WRITE_ZEROES, 0, block_len, block_len);
	clears(&l, d.ch, BDEV_WRITE_ZEROES, BDEV_IO_UNMAP, 8192, 1 << 20);
	clears(&l, d.ch, BDEV_WRITE_ZEROES, BDEV_IO_FUA, 0, LEN);
	/* Where the kernel can neither. */
	file_of(u.c.bdev)->can_zero = false;
	clears(&l, d.ch, BDEV_WRITE_ZEROES, 0, block_len, (2 << 20) + 4096);
	unit_close(&d);
	loop_end(&l);
}

/* What is acknowledged as stable has been flushed by the device, and only that. */
static void
flushes_reach_the_device(unsigned block_len)
{
	static const struct {
		unsigned op, flags, skew;
		uint64_t len;
		bool want;
	} cases[] = { { BDEV_WRITE, 0, 0, 4096, false },
		      { BDEV_FLUSH, 0, 0, 0, true },
		      { BDEV_WRITE, BDEV_IO_FUA, 0, 4096, true },
		      { BDEV_WRITE, BDEV_IO_FUA, 1, 4096, true },
		      { BDEV_WRITE, BDEV_IO_FUA, 3, 2 << 20, true },
		      { BDEV_WRITE_ZEROES, 0, 0, 4096, false },
		      { BDEV_WRITE_ZEROES, BDEV_IO_FUA, 0, 4096, true } };
	struct unit_dev d;
	struct unit_ctl u;
	struct unit_io io;
	struct loop l;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, block_len, &u), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		unsigned k = i / 2;
		unsigned long before = loop_flushes(&l), after;

		unit_io(&io, d.ch, cases[k].op, 0, buf + cases[k].skew,
			cases[k].len);
		io.io.flags = (uint8_t)cases[k].flags;
		assert_int_equal(unit_run(&io), 0);
		after = loop_flushes(&l);
		if ((after > before) != cases[k].want)
			fail_msg("case %u: %lu flushes", k, after - before);
		/* the second time: where the kernel takes no flush by itself */
		file_of(u.c.bdev)->kernel_fsync = false;
	}
	unit_close(&d);
	loop_end(&l);
}

/* Smaller than we know, until somebody says so; then larger again. */
static void
shrinks_and_grows(unsigned block_len)
{
	static const struct {
		unsigned op;
		uint64_t off, len;
		int want;
	} cases[] = { { BDEV_READ, LEN / 2, 4096, -EIO },
		      { BDEV_READ, LEN - 4096, 4096, -EIO },
		      { BDEV_READ, LEN / 2 - 4096, 8192, -EIO },
		      { BDEV_READ, LEN / 2 - 4096, 4096, 0 },
		      { BDEV_WRITE, LEN / 2, 4096, -ENOSPC },
		      { BDEV_WRITE, LEN / 2 - 4096, 8192, -ENOSPC },
		      { BDEV_WRITE, LEN / 2 - 4096, 4096, 0 },
		      { BDEV_DISCARD, LEN / 2 - 4096, 8192, -ENOSPC },
		      { BDEV_WRITE_ZEROES, LEN / 2 - 4096, 8192, -ENOSPC },
		      { BDEV_WRITE_ZEROES, LEN / 2, 4096, -ENOSPC },
		      { BDEV_FLUSH, 0, 0, 0 } };
	struct unit_dev d;
	struct unit_ctl u;
	struct loop l;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, block_len, &u), 0);
	unit_open(&d, "a");
	loop_resize(&l, LEN / 2);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		unsigned k = i / 2;
		/* the second time with memory that wants another buffer */
		int err = unit_rw(d.ch, cases[k].op, cases[k].off,
				  buf + (i & 1), cases[k].len);

		if (err != cases[k].want)
			fail_msg("case %u, %u: %d", k, i & 1, err);
	}
	assert_true(file_of(u.c.bdev)->can_zero); /* that was not why */
	assert_int_equal(unit_answer(&u, unit_kind->rescan("a", unit_ctl(&u))),
			 0);
	assert_int_equal(d.resizes, 1);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, LEN / 2, buf, 4096), -ERANGE);
	loop_resize(&l, LEN);
	assert_int_equal(unit_answer(&u, unit_kind->rescan("a", unit_ctl(&u))),
			 0);
	assert_int_equal(d.resizes, 2);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, LEN - 4096, buf, 4096), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	loop_holds(&l, LEN - 4096, buf, 4096);
	unit_close(&d);
	loop_end(&l);
}

static bool
is_of_a_lost_disk(int err)
{
	return err == -EIO || err == -ENOSPC || err == -ENXIO || err == -ENODEV;
}

/* It goes with I/O under way: all of that ends, later ones fail, the device can be deleted. */
static void
goes_away(unsigned block_len)
{
	enum { N = 128 };
	static const unsigned ops[] = { BDEV_READ, BDEV_WRITE, BDEV_DISCARD,
					BDEV_WRITE_ZEROES };
	struct unit_io *u = calloc(N, sizeof(*u));
	struct unit_dev d;
	struct unit_ctl c;
	struct loop l;
	int fd;

	loop_start(&l, block_len);
	assert_int_equal(unit_disk("a", l.path, block_len, &c), 0);
	unit_open(&d, "a");
	close(l.fd); /* else it would stay for us */
	fd = file_of(bdev_of(d.desc))->fd;
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], d.ch, ops[i & 1], i * 4096,
			buf + i * 4096 + i / 2 % 2, 4096);
		u[i].io.flags = i % 4 == 3 ? BDEV_IO_FUA : 0;
		bdev_submit(&u[i].io);
		if (i == N / 2)
			bdev_kick();
	}
	assert_int_equal(ioctl(fd, LOOP_CLR_FD, 0), 0);
	for (unsigned i = 0; i < N; i++) {
		int err = unit_wait(&u[i]);

		assert_true(!err || is_of_a_lost_disk(err));
	}
	/* It stays while others look at it, as udev does when it comes. */
	for (unsigned i = 0; i < 200 && !unit_rw(d.ch, BDEV_READ, 0, buf, 4096);
	     i++) {
		usleep(10000);
		ioctl(fd, LOOP_CLR_FD, 0);
	}
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(ops); i++) {
		int err = unit_rw(d.ch, ops[i / 2], 0, buf + (i & 1), 4096);

		if (!is_of_a_lost_disk(err))
			fail_msg("op %u: %d", ops[i / 2], err);
	}
	assert_int_equal(bdev_inflight(), 0);
	assert_int_equal(bdev_delete("a", NULL, unit_ctl(&c)), -EINPROGRESS);
	unit_close(&d);
	assert_int_equal(unit_answer(&c, -EINPROGRESS), 0);
	close(l.file);
	free(u);
}

/* A file of @len bytes where there is room for a part of them. False: not here. */
static bool
full_file(char *path, size_t size, uint64_t len, const char *options)
{
	char dir[] = "/var/tmp/belfry-full-XXXXXX";
	struct unit_ctl u;
	bool ok;
	int fd;

	assert_non_null(mkdtemp(dir));
	ok = !mount("none", dir, "tmpfs", 0, options);
	if (ok) {
		snprintf(path, size, "%s/f", dir);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		close(fd);
		assert_int_equal(unit_disk("a", path, 512, &u), 0);
		umount2(dir, MNT_DETACH); /* the disk keeps it */
	}
	rmdir(dir);
	return ok;
}

/* What was taken stays, what finds no room says so, and room that is made is used. */
static void
full_file_system(void **state)
{
	enum { STEP = 256 << 10, N = LEN / STEP };
	struct unit_dev d;
	char path[64];
	unsigned fit = 0;

	if (!full_file(path, sizeof(path), LEN, "size=1m")) {
		print_message("skipped: may not mount: %s\n", strerror(errno));
		skip();
	}
	unit_open(&d, "a");
	unit_fill(buf, LEN, 9);
	for (unsigned i = 0; i < N; i++) {
		int err = unit_rw(d.ch, BDEV_WRITE, i * STEP, buf + i * STEP,
				  STEP);

		fit += !err;
		assert_int_equal(err, i < fit ? 0 : -ENOSPC);
	}
	assert_true(fit > 0 && fit < N);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE_ZEROES, LEN - STEP, NULL,
				 STEP),
			 -ENOSPC);
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	for (unsigned i = 0; i < fit; i++)
		assert_int_equal(unit_rw(d.ch, BDEV_READ, i * STEP,
					 back + i * STEP, STEP),
				 0);
	assert_memory_equal(buf, back, fit * STEP);
	assert_int_equal(unit_rw(d.ch, BDEV_DISCARD, 0, NULL, STEP), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, LEN - STEP, buf, STEP), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, LEN - STEP, back, STEP), 0);
	assert_memory_equal(buf, back, STEP);
	unit_close(&d);
}

/* A disk that does not come back leaves buffers for the misaligned I/O of others. */
static void
hung_disk_leaves_buffers(void **state)
{
	enum { N = 200, LATER = 20 };
	static const uint64_t lens[] = { 4096, 65536 };
	struct unit_io *u = calloc(N, sizeof(*u)),
		       *v = calloc(LATER, sizeof(*v));
	struct unit_dev d[2];
	struct unit_ctl c;
	struct file_queue *q;

	assert_int_equal(unit_disk("a", unit_file("h", LEN), 512, &c), 0);
	file_of(c.c.bdev)->mem_mask = 511; /* whatever the file system says */
	assert_int_equal(unit_disk("b", unit_file("i", LEN), 512, &c), 0);
	file_of(c.c.bdev)->mem_mask = 511;
	unit_open(&d[0], "a");
	unit_open(&d[1], "b");
	q = ((struct file_ch *)bdev_ch_priv(d[0].ch))->q;
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		for (unsigned k = 0; k < N; k++) {
			unit_io(&u[k], d[0].ch, BDEV_READ, 0, buf + 1, lens[i]);
			bdev_submit(&u[k].io);
		}
		while (q->queued) /* the kernel has them, and nobody reaps */
			assert_true(bdev_kick() > 0);
		for (unsigned k = 0; k < LATER; k++) {
			unit_io(&v[k], d[1].ch, BDEV_READ, 0, buf + 1, lens[i]);
			bdev_submit(&v[k].io);
		}
		assert_true(q->queued > 0);
		for (unsigned k = 0; k < N; k++)
			assert_int_equal(unit_wait(&u[k]), 0);
		for (unsigned k = 0; k < LATER; k++)
			assert_int_equal(unit_wait(&v[k]), 0);
		assert_int_equal(q->bounce.small.nfree, q->bounce.small.count);
	}
	assert_int_equal(q->bounce.large.nfree, q->bounce.large.count);
	unit_close(&d[0]);
	unit_close(&d[1]);
	free(u);
	free(v);
}

#define ROW(f)                             \
	static void f##_512(void **state)  \
	{                                  \
		f(512);                    \
	}                                  \
	static void f##_4096(void **state) \
	{                                  \
		f(4096);                   \
	}
ROW(finds_out_what_it_is)
ROW(keeps_data)
ROW(discards_and_zeroes)
ROW(flushes_reach_the_device)
ROW(shrinks_and_grows)
ROW(goes_away)

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
block_tests(void)
{
#define T(f)                                                                 \
	cmocka_unit_test_setup_teardown(f##_512, unit_setup, unit_teardown), \
		cmocka_unit_test_setup_teardown(f##_4096, unit_setup,        \
						unit_teardown)
	const struct CMUnitTest tests[] = {
		T(finds_out_what_it_is),
		T(keeps_data),
		T(discards_and_zeroes),
		T(flushes_reach_the_device),
		T(shrinks_and_grows),
		T(goes_away),
		cmocka_unit_test_setup_teardown(full_file_system, unit_setup,
						unit_teardown),
		cmocka_unit_test_setup_teardown(hung_disk_leaves_buffers,
						unit_setup, unit_teardown),
	};
	int failed = cmocka_run_group_tests_name("bdev/aio, block devices",
						 tests, buffers, no_buffers);

	if (unit_choose(UNIT_URING))
		failed +=
			cmocka_run_group_tests_name("bdev/uring, block devices",
						    tests, buffers, no_buffers);
	unit_choose(UNIT_AIO);
	return failed;
}
