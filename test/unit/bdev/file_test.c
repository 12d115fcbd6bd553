/* SPDX-License-Identifier: BSD-3-Clause */
/* aio and uring: files that are not what they seem, memory that is not there, sleep. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "file.h"
#include "unit.h"

#define LEN (1u << 20)

static struct file_queue *
queue_of(struct bdev_ch *ch)
{
	return ((struct file_ch *)bdev_ch_priv(ch))->q;
}

static void
refuses_files(void **state)
{
	static const struct {
		const char *name, *path;
		uint32_t block_len;
		int want;
		const char *says;
	} cases[] = {
		{ "missing", "/nonexistent/file", 512, -ENOENT,
		  "/nonexistent" },
		{ "a directory", "/var/tmp", 512, -EINVAL, "/var/tmp" },
		{ "a character device", "/dev/null", 512, -EINVAL,
		  "/dev/null" },
		{ "empty name", "", 512, -EINVAL, "filename" },
		{ "no name", NULL, 512, -EINVAL, "filename" },
		{ "block size 513", "/dev/null", 513, -EINVAL, "513" },
	};
	struct unit_ctl u;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = unit_disk("a", cases[i].path, cases[i].block_len, &u);

		if (err != cases[i].want || !strstr(u.c.error, cases[i].says))
			fail_msg("%s: %d %s", cases[i].name, err, u.c.error);
	}
	assert_int_equal(unit_disk("a", unit_file("0", 0), 512, &u), -EINVAL);
	assert_non_null(strstr(u.c.error, "empty"));
	assert_int_equal(unit_disk("a", unit_file("o", 4608), 4096, &u),
			 -EINVAL);
	assert_non_null(strstr(u.c.error, "4608"));
	assert_non_null(strstr(u.c.error, "4096"));
	assert_int_equal(unit_disk("a", unit_file("o", 513), 0, &u), -EINVAL);
	assert_null(bdev_first());
}

static void
uuid_is_of_the_path(void **state)
{
	struct unit_ctl u;
	uuid_t first;
	char path[128], odd[160], *slash;

	snprintf(path, sizeof(path), "%s", unit_file("u", LEN));
	slash = strrchr(path, '/');
	snprintf(odd, sizeof(odd), "%.*s/./%s", (int)(slash - path), path,
		 slash + 1);
	assert_int_equal(unit_disk("a", path, 512, &u), 0);
	uuid_copy(first, u.c.bdev->uuid);
	assert_int_equal(uuid_type(first), 5);
	assert_int_equal(unit_disk("b", odd, 512, &u), -EEXIST); /* that file */
	unit_delete("a");
	assert_int_equal(unit_disk("b", odd, 512, &u), 0);
	assert_int_equal(uuid_compare(first, u.c.bdev->uuid), 0);
	assert_string_equal(unit_kind->params_of(u.c.bdev)->filename, odd);
	assert_int_equal(unit_disk("c", unit_file("v", LEN), 512, &u), 0);
	assert_true(uuid_compare(first, u.c.bdev->uuid));
}

/* Whichever file is open first. */
static void
names_race(void **state)
{
	struct bdev_file_params p = { .name = "a", .block_len = 512 };
	struct unit_ctl u, v;
	int first, second;
	char one[128];

	snprintf(one, sizeof(one), "%s", unit_file("1", LEN));
	p.filename = one;
	assert_int_equal(unit_kind->create(&p, unit_ctl(&u)), -EINPROGRESS);
	p.filename = unit_file("2", LEN);
	assert_int_equal(unit_kind->create(&p, unit_ctl(&v)), -EINPROGRESS);
	first = unit_answer(&u, -EINPROGRESS);
	second = unit_answer(&v, -EINPROGRESS);
	assert_int_equal(MIN(first, second), -EEXIST);
	assert_int_equal(MAX(first, second), 0);
}

static void
read_only_stays_so(void **state)
{
	const char *path = unit_file("r", LEN);
	struct bdev_file_params p = { .name = "a",
				      .filename = path,
				      .read_only = true };
	struct bdev_info info;
	uint8_t buf[4096] __attribute__((aligned(4096)));
	struct unit_dev d;
	struct unit_ctl u;

	assert_int_equal(unit_answer(&u, unit_kind->create(&p, unit_ctl(&u))),
			 0);
	unit_open(&d, "a");
	bdev_get_info(d.desc, &info);
	assert_int_equal(info.block_len, 512);
	assert_true(info.read_only);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 4096), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, 4096), -EROFS);
	assert_int_equal(unit_rw(d.ch, BDEV_DISCARD, 0, NULL, 4096),
			 -EOPNOTSUPP);
	unit_close(&d);
}

/* The middle one of three fails in io_submit: neighbours are not harmed. */
static void
bad_memory_is_efault(void **state)
{
	uint8_t buf[8192] __attribute__((aligned(4096))) = { 1 };
	char *hole =
		mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct unit_io u[3];
	struct unit_dev d;
	struct unit_ctl c;

	assert_int_equal(unit_disk("a", unit_file("f", LEN), 512, &c), 0);
	unit_open(&d, "a");
	unit_io(&u[0], d.ch, BDEV_WRITE, 0, buf, 4096);
	unit_io(&u[1], d.ch, BDEV_WRITE, 4096, hole, 4096);
	unit_io(&u[2], d.ch, BDEV_WRITE, 8192, buf + 4096, 4096);
	for (unsigned i = 0; i < 3; i++)
		bdev_submit(&u[i].io);
	assert_int_equal(unit_wait(&u[0]), 0);
	assert_int_equal(unit_wait(&u[1]), -EFAULT);
	assert_int_equal(unit_wait(&u[2]), 0);
	u[1].io.op = BDEV_READ;
	u[1].io.off = 0;
	assert_int_equal(unit_run(&u[1]), -EFAULT);
	unit_close(&d);
	munmap(hole, 4096);
}

static bool gone;

static bool
is_gone(const struct bdev_io *io)
{
	return gone;
}

/* More misaligned writes than buffers, whose memory turns out to be made up. */
static void
made_up_data_is_not_written(void **state)
{
	enum { N = 300 };
	struct unit_io *u = calloc(N, sizeof(*u));
	char *buf = malloc(4096 + 64), *back = NULL;
	struct unit_dev d;
	struct unit_ctl c;

	assert_int_equal(posix_memalign((void **)&back, 4096, LEN), 0);
	memset(buf, 0x77, 4096 + 64);
	assert_int_equal(unit_disk("a", unit_file("m", LEN), 512, &c), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], d.ch, BDEV_WRITE, (i % 200) * 4096, buf + 1,
			4096);
		u[i].io.faulted = is_gone;
		gone = i >= N / 2;
		bdev_submit(&u[i].io);
	}
	gone = true;
	for (unsigned i = 0; i < N; i++) {
		int err = unit_wait(&u[i]);

		assert_true(err == -EFAULT || (i < 64 && !err));
	}
	gone = false;
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(unit_run(&u[i]), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, back, 200 * 4096), 0);
	for (unsigned i = 0; i < 200 * 4096; i++)
		assert_int_equal(back[i], 0x77);
	unit_close(&d);
	free(u);
	free(buf);
	free(back);
}

/* Queued before the client cut its memory off, not yet with the kernel. */
static void
queued_made_up_data_is_not_written(void **state)
{
	uint8_t buf[8192] __attribute__((aligned(4096))), back[8192];
	struct unit_io u[2];
	struct unit_dev d;
	struct unit_ctl c;

	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(unit_disk("a", unit_file("q", LEN), 512, &c), 0);
	unit_open(&d, "a");
	unit_io(&u[0], d.ch, BDEV_WRITE, 0, buf, 4096);
	unit_io(&u[1], d.ch, BDEV_WRITE, 4096, buf + 4096, 4096);
	u[0].io.faulted = is_gone;
	for (unsigned i = 0; i < 2; i++)
		bdev_submit(&u[i].io);
	gone = true;
	assert_int_equal(bdev_kick(), 1);
	assert_int_equal(u[0].done, 1);
	assert_int_equal(u[0].io.err, -EFAULT);
	assert_int_equal(unit_wait(&u[1]), 0);
	/* The same by way of a worker. */
	file_of(c.c.bdev)->direct = file_of(c.c.bdev)->nowait_write = false;
	assert_int_equal(unit_run(&u[0]), -EFAULT);
	gone = false;
	file_of(c.c.bdev)->direct = true;
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, back, 8192), 0);
	for (unsigned i = 0; i < 8192; i++)
		assert_int_equal(back[i], i < 4096 ? 0 : 0x77);
	unit_close(&d);
}

/* I/Os of other disks do not come back: there is room for one more. */
static void
full_context_has_room_for_another_disk(void **state)
{
	enum { DISKS = 3, N = 500 };
	static const char *const names[] = { "a", "b", "c" };
	uint8_t buf[512] __attribute__((aligned(512)));
	struct unit_io *u = calloc(DISKS * N, sizeof(*u));
	struct unit_dev d[DISKS];
	struct unit_ctl c;
	unsigned depth, n = 0;

	for (unsigned i = 0; i < DISKS; i++) {
		assert_int_equal(unit_disk(names[i], unit_file(names[i], LEN),
					   512, &c),
				 0);
		unit_open(&d[i], names[i]);
	}
	depth = queue_of(d[0].ch)->depth;
	queue_of(d[0].ch)->depth = 64;
	for (unsigned i = 0; i < DISKS; i++) {
		unsigned sent;

		for (unsigned j = 0; j < N; j++, n++) {
			unit_io(&u[n], d[i].ch, BDEV_READ, 0, buf, 512);
			bdev_submit(&u[n].io);
		}
		sent = (unsigned)bdev_kick();
		assert_true(sent > 0 && sent <= 32);
	}
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(unit_wait(&u[i]), 0);
	queue_of(d[0].ch)->depth = depth;
	for (unsigned i = 0; i < DISKS; i++)
		unit_close(&d[i]);
	free(u);
}

/* A disk with little to do gets two at a time, a busy one all at once. */
static void
idle_disk_starts_with_the_first_two(void **state)
{
	static const struct {
		unsigned queued;
		int first, rest; /* kicks of two I/Os each, I/Os of the next */
	} cases[] = { { 1, 0, 1 },   { 4, 2, 0 },    { 5, 2, 1 },
		      { 40, 16, 8 }, { 80, 32, 16 }, { 200, 32, 136 } };
	struct unit_io *u = calloc(200, sizeof(*u));
	char *mem = aligned_alloc(4096, 4096);
	struct unit_dev d;
	struct unit_ctl c;

	assert_int_equal(unit_disk("a", unit_file("b", LEN), 512, &c), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned k = 0; k < cases[i].queued; k++) {
			unit_io(&u[k], d.ch, BDEV_READ, k * 4096, mem, 4096);
			bdev_submit(&u[k].io);
		}
		for (int k = 0; k < cases[i].first; k++)
			assert_int_equal(bdev_kick(), 2);
		assert_int_equal(bdev_kick(), cases[i].rest);
		for (unsigned k = 0; k < cases[i].queued; k++)
			assert_int_equal(unit_wait(&u[k]), 0);
	}
	unit_close(&d);
	free(mem);
	free(u);
}

/* More than the context takes at once. */
static void
deep_queues_wait(void **state)
{
	enum { N = 10000 };
	struct unit_io *u = calloc(N, sizeof(*u));
	struct unit_dev d;
	struct unit_ctl c;
	char *buf = NULL;

	assert_int_equal(posix_memalign((void **)&buf, 4096, 512), 0);
	memset(buf, 7, 512);
	assert_int_equal(unit_disk("a", unit_file("d", N * 512), 512, &c), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], d.ch, BDEV_WRITE, i * 512, buf, 512);
		bdev_submit(&u[i].io);
	}
	assert_int_equal(bdev_inflight(), N);
	assert_int_equal(bdev_sleep(), 0); /* some are not sent yet */
	bdev_wake();
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(unit_wait(&u[i]), 0);
	assert_int_equal(bdev_inflight(), 0);
	unit_close(&d);
	free(u);
	free(buf);
}

/* Not in the page cache, so RWF_NOWAIT gives EAGAIN and a worker reads. */
static void
buffered_reads_do_not_block(void **state)
{
	uint8_t buf[8192] __attribute__((aligned(4096))), back[8192];
	struct unit_dev d;
	struct unit_ctl c;
	struct file_bdev *a;

	assert_int_equal(unit_disk("a", unit_file("b", LEN), 512, &c), 0);
	a = file_of(c.c.bdev);
	assert_int_equal(
		fcntl(a->fd, F_SETFL, fcntl(a->fd, F_GETFL) & ~O_DIRECT), 0);
	a->direct = false;
	unit_open(&d, "a");
	unit_fill(buf, sizeof(buf), 3);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 4096, buf, 8192), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	posix_fadvise(a->fd, 0, 0, POSIX_FADV_DONTNEED);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 4096, back, 8192), 0);
	assert_memory_equal(buf, back, 8192);
	/* A file system that knows no RWF_NOWAIT, no aio fsync, no zeroing. */
	a->nowait_read = a->nowait_write = a->kernel_fsync = a->can_zero =
		false;
	unit_fill(buf, sizeof(buf), 4);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 4096, buf, 8192), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 4096, back, 8192), 0);
	assert_memory_equal(buf, back, 8192);
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE_ZEROES, 4096, NULL, 8192), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 4096, back, 8192), 0);
	for (unsigned i = 0; i < 8192; i++)
		assert_int_equal(back[i], 0);
	unit_close(&d);
}

static void
truncated_file_is_an_error(void **state)
{
	static const uint64_t lens[] = { 0, 1000, 4096, 6000 };
	char *buf = NULL;
	struct unit_dev d;
	struct unit_ctl c;
	char path[128];

	assert_int_equal(posix_memalign((void **)&buf, 4096, 16384), 0);
	snprintf(path, sizeof(path), "%s", unit_file("t", LEN));
	assert_int_equal(unit_disk("a", path, 512, &c), 0);
	unit_open(&d, "a");
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		/* the second time by way of workers, if it is a uring */
		file_of(c.c.bdev)->nowait_read = i < ARRAY_SIZE(lens);
		assert_int_equal(truncate(path, (off_t)lens[i % 4]), 0);
		assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 16384), -EIO);
		assert_int_equal(unit_rw(d.ch, BDEV_READ, LEN - 512, buf, 512),
				 -EIO);
		assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf + 1, 8192),
				 -EIO);
	}
	unit_close(&d);
	free(buf);
}

static int
rescan(const char *name, struct unit_ctl *u)
{
	return unit_answer(u, unit_kind->rescan(name, unit_ctl(u)));
}

static void
rescan_follows_the_file(void **state)
{
	struct bdev_info info;
	struct unit_dev d;
	struct unit_ctl u;
	char path[128];

	snprintf(path, sizeof(path), "%s", unit_file("s", LEN));
	assert_int_equal(unit_disk("a", path, 4096, &u), 0);
	unit_open(&d, "a");
	assert_int_equal(rescan("a", &u), 0);
	assert_int_equal(d.resizes, 0);
	assert_int_equal(truncate(path, 2 * LEN), 0);
	assert_int_equal(rescan("a", &u), 0);
	assert_int_equal(d.resizes, 1);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(rescan("a", &u), 0);
	assert_int_equal(d.resizes, 2);
	assert_int_equal(truncate(path, 5000), 0);
	assert_int_equal(rescan("a", &u), -EINVAL);
	assert_non_null(strstr(u.c.error, "5000"));
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(rescan("a", &u), -EINVAL);
	assert_int_equal(rescan("b", &u), -ENODEV);
	bdev_get_info(d.desc, &info);
	assert_int_equal(info.num_blocks, 1);
	unit_close(&d);
}

static void
discard_frees_blocks(void **state)
{
	char *buf = NULL;
	struct unit_dev d;
	struct unit_ctl u;
	struct stat st;
	char path[128];

	assert_int_equal(posix_memalign((void **)&buf, 4096, LEN), 0);
	memset(buf, 1, LEN);
	snprintf(path, sizeof(path), "%s", unit_file("h", LEN));
	assert_int_equal(unit_disk("a", path, 512, &u), 0);
	unit_open(&d, "a");
	assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, buf, LEN), 0);
	stat(path, &st);
	assert_true((uint64_t)st.st_blocks * 512 >= LEN);
	assert_int_equal(unit_rw(d.ch, BDEV_DISCARD, 0, NULL, LEN), 0);
	stat(path, &st);
	assert_true((uint64_t)st.st_blocks * 512 < LEN / 2);
	assert_int_equal(st.st_size, LEN);
	unit_close(&d);
	free(buf);
}

/* What went out before the announcement wakes nobody: no endless sleep then. */
static void
sleep_loses_no_completion(void **state)
{
	uint8_t buf[512] __attribute__((aligned(512)));
	struct unit_io u;
	struct unit_dev d;
	struct unit_ctl c;
	uint64_t n;
	int efd;

	assert_int_equal(unit_disk("a", unit_file("z", LEN), 512, &c), 0);
	unit_open(&d, "a");
	assert_true(bdev_sleep() == REACTOR_SLEEP_FOREVER);
	bdev_wake();
	unit_io(&u, d.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	assert_int_equal(bdev_sleep(), 0); /* not even sent */
	bdev_wake();
	assert_int_equal(bdev_kick(), 1);
	if (unit_kind == &unit_kinds[UNIT_AIO])
		assert_true(bdev_sleep() <= 1000000);
	else
		bdev_sleep();
	/* This one goes out while the reactor is asleep. */
	assert_int_equal(unit_wait(&u), 0);
	efd = queue_of(d.ch)->efd.fd;
	while (read(efd, &n, sizeof(n)) > 0)
		;
	u.done = 0;
	bdev_submit(&u.io);
	assert_int_equal(bdev_kick(), 1);
	assert_true(bdev_sleep() == 0 || bdev_sleep() == REACTOR_SLEEP_FOREVER);
	while (read(efd, &n, sizeof(n)) < 0) /* it is told: or hangs here */
		usleep(100);
	assert_int_equal(bdev_sleep(), 0);
	bdev_wake();
	assert_int_equal(bdev_reap(), 1);
	assert_int_equal(u.done, 1);
	unit_close(&d);
}

/* An I/O took longer than the reactor spins: the next one has to wake it. */
static void
short_spin_is_known(void **state)
{
	uint8_t buf[512] __attribute__((aligned(512)));
	struct unit_io u;
	struct unit_dev d;
	struct unit_ctl c;

	unit_start(1);
	assert_int_equal(unit_disk("a", unit_file("w", LEN), 512, &c), 0);
	unit_open(&d, "a");
	unit_io(&u, d.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&u.io);
	for (unsigned i = 0; i < 8; i++) /* its clock may stand in some */
		reactor_step(reactor_get(0));
	assert_int_equal(unit_wait(&u), 0);
	u.done = 0;
	bdev_submit(&u.io);
	assert_int_equal(bdev_kick(), 1);
	assert_true(file_req_of(&u.io)->armed);
	assert_int_equal(unit_wait(&u), 0);
	unit_close(&d);
	unit_teardown(NULL);
}

/* Without the ring's layout there is the system call. */
static void
reaps_without_the_ring(void **state)
{
	uint8_t buf[512] __attribute__((aligned(512)));
	struct unit_dev d;
	struct unit_ctl c;

	assert_int_equal(unit_disk("a", unit_file("y", LEN), 512, &c), 0);
	unit_open(&d, "a");
	assert_non_null(bdev_reactor_self()->aio->ring);
	bdev_reactor_self()->aio->ring = NULL;
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	assert_int_equal(unit_rw(d.ch, BDEV_READ, 0, buf, 512), 0);
	unit_close(&d);
}

static void
delete_while_open_and_busy(void **state)
{
	uint8_t buf[512] __attribute__((aligned(512)));
	struct unit_io io;
	struct unit_dev d;
	struct unit_ctl u;

	assert_int_equal(unit_disk("a", unit_file("x", LEN), 512, &u), 0);
	unit_open(&d, "a");
	unit_io(&io, d.ch, BDEV_READ, 0, buf, 512);
	bdev_submit(&io.io);
	bdev_kick();
	assert_int_equal(bdev_delete("a", unit_kind->module, unit_ctl(&u)),
			 -EINPROGRESS);
	assert_int_equal(d.removes, 1);
	assert_int_equal(unit_wait(&io), 0); /* it was there before */
	for (unsigned i = 0; i < 50; i++)
		unit_step();
	assert_int_equal(u.done, 0);
	unit_close(&d);
	assert_int_equal(unit_answer(&u, -EINPROGRESS), 0);
}

int
file_tests(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)
#define BOTH                                                                   \
	T(refuses_files), T(uuid_is_of_the_path), T(names_race),               \
		T(read_only_stays_so), T(bad_memory_is_efault),                \
		T(made_up_data_is_not_written),                                \
		T(queued_made_up_data_is_not_written),                         \
		T(full_context_has_room_for_another_disk),                     \
		T(idle_disk_starts_with_the_first_two), T(deep_queues_wait),   \
		T(buffered_reads_do_not_block), T(truncated_file_is_an_error), \
		T(rescan_follows_the_file), T(discard_frees_blocks),           \
		T(sleep_loses_no_completion), T(delete_while_open_and_busy)
	const struct CMUnitTest aio[] = {
		BOTH,
		cmocka_unit_test(short_spin_is_known),
		T(reaps_without_the_ring),
	};
	const struct CMUnitTest uring[] = { BOTH };
	int failed = cmocka_run_group_tests_name("bdev/aio", aio, NULL, NULL);

	if (unit_choose(UNIT_URING))
		failed += cmocka_run_group_tests_name("bdev/uring", uring, NULL,
						      NULL);
	unit_choose(UNIT_AIO);
	return failed;
}
