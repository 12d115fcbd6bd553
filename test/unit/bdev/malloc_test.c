/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc: copies that take several rounds, and memory that goes meanwhile. */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include "unit.h"

#define KIB 1024u
#define SLICE (64 * KIB) /* as in malloc_copy.c */
#define BIG (2048 * KIB)

/* A disk that caches may hold, and one that is written past them. */
static const unsigned mibs[] = { 4, 65 };

static void
make(struct unit_dev *d, unsigned mib)
{
	struct bdev_malloc_params p = { .name = "m",
					.block_len = 512,
					.num_blocks = mib * 2048,
					.numa = -1 };
	struct unit_ctl u;

	assert_int_equal(bdev_malloc_create(&p, unit_ctl(&u)), 0);
	unit_open(d, "m");
}

static void
long_copies_take_turns(void **state)
{
	char *buf = malloc(BIG + 64), *back = calloc(1, BIG);
	struct unit_io large, small, other;
	struct unit_dev d;

	unit_fill(buf, BIG + 64, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(mibs); i++) {
		make(&d, mibs[i]);
		assert_int_equal(bdev_sleep(), REACTOR_SLEEP_FOREVER);
		unit_io(&large, d.ch, BDEV_WRITE, 512, buf, BIG);
		large.iov[0].iov_len = 1000; /* misaligned from there */
		large.iov[1] = (struct iovec){ buf + 1000, BIG - 1000 };
		large.io.iovcnt = 2;
		bdev_submit(&large.io);
		unit_io(&other, d.ch, BDEV_READ, 0, back, 2 * SLICE);
		bdev_submit(&other.io);
		/* A short one does not wait for any of that. */
		unit_io(&small, d.ch, BDEV_READ, 0, back, SLICE);
		bdev_submit(&small.io);
		assert_int_equal(small.done, 1);
		assert_int_equal(large.done + other.done, 0);
		assert_int_equal(bdev_sleep(), 0);
		for (unsigned k = 1; k <= BIG / SLICE + 2; k++) {
			assert_int_equal(large.done, 0);
			assert_int_equal(other.done, k > 4);
			assert_int_equal(bdev_kick(), 1);
		}
		assert_int_equal(large.done, 1);
		assert_int_equal(large.io.err, 0);
		assert_int_equal(bdev_kick(), 0);
		assert_int_equal(bdev_sleep(), REACTOR_SLEEP_FOREVER);
		assert_int_equal(unit_rw(d.ch, BDEV_READ, 512, back, BIG), 0);
		assert_memory_equal(buf, back, BIG);
		/* The same, of aligned memory. */
		unit_io(&large, d.ch, BDEV_WRITE, 4096, buf + 64, BIG);
		assert_int_equal(unit_run(&large), 0);
		assert_int_equal(unit_rw(d.ch, BDEV_READ, 4096, back, BIG), 0);
		assert_memory_equal(buf + 64, back, BIG);
		unit_close(&d);
		unit_delete("m");
	}
	free(buf);
	free(back);
}

static bool gone;

static bool
is_gone(const struct bdev_io *io)
{
	return gone;
}

/* What lib/ioas does for who can leave its copy. */
static void
on_sigbus(int sig)
{
	sigjmp_buf *escape = util_fault_escape;

	gone = true;
	util_fault_escape = NULL;
	if (!escape)
		_exit(99);
	siglongjmp(*escape, 1);
}

/* Checks that only [0, @upto) may have been written, and no zeros. */
static void
check_disk(struct unit_dev *d, const char *name, uint64_t sure, uint64_t upto)
{
	uint8_t *back = malloc(BIG);

	assert_int_equal(unit_rw(d->ch, BDEV_READ, 0, back, BIG), 0);
	for (uint64_t i = 0; i < BIG; i++)
		if (i < sure ? back[i] != 'n'
			     : back[i] != 'o' && (i >= upto || back[i] != 'n'))
			fail_msg("%s: %u at %u", name, back[i], (unsigned)i);
	free(back);
}

static void
skip_under_tsan(void)
{
	if (!UNIT_TSAN)
		return;
	print_message(
		"skipped: TSan does not survive that a handler is left by siglongjmp() out of its memcpy()\n");
	skip();
}

static void
memory_goes_between_slices(void **state)
{
	static const struct {
		const char *name;
		unsigned before; /* kicks */
		uint64_t left;	 /* bytes of the client's file then; 0: all */
		uint64_t sure, upto; /* written; may be */
	} cases[] = {
		{ "at once", 0, 4096, 0, 4096 },
		{ "in the middle of a slice", 4, 352 * KIB, 320 * KIB,
		  352 * KIB },
		{ "at the end of a slice", 4, 320 * KIB, 320 * KIB, 320 * KIB },
		{ "the last page", 31, BIG - 4096, BIG - SLICE, BIG - 4096 },
		{ "elsewhere, and zeros are here now", 3, 0, 3 * SLICE,
		  3 * SLICE },
	};
	struct sigaction act = { .sa_handler = on_sigbus,
				 .sa_flags = SA_NODEFER };
	struct sigaction old;

	skip_under_tsan();
	sigaction(SIGBUS, &act, &old);
	for (unsigned i = 0; i < ARRAY_SIZE(cases) * ARRAY_SIZE(mibs); i++) {
		unsigned c = i / ARRAY_SIZE(mibs);
		int fd = memfd_create("client", 0);
		struct unit_dev d;
		struct unit_io u;
		char *mem;

		gone = false;
		assert_int_equal(ftruncate(fd, BIG), 0);
		mem = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
		assert_ptr_not_equal(mem, MAP_FAILED);
		make(&d, mibs[i % ARRAY_SIZE(mibs)]);
		memset(mem, 'o', BIG);
		assert_int_equal(unit_rw(d.ch, BDEV_WRITE, 0, mem, BIG), 0);
		memset(mem, 'n', BIG);
		unit_io(&u, d.ch, BDEV_WRITE, 0, mem, BIG);
		u.io.faulted = is_gone;
		bdev_submit(&u.io);
		for (unsigned k = 0; k < cases[c].before; k++)
			bdev_kick();
		assert_int_equal(u.done, 0);
		if (cases[c].left) {
			assert_int_equal(ftruncate(fd, (off_t)cases[c].left),
					 0);
		} else {
			memset(mem, 0, BIG);
			gone = true;
		}
		assert_int_equal(unit_wait(&u), -EFAULT);
		assert_null(util_fault_escape);
		check_disk(&d, cases[c].name, cases[c].sure, cases[c].upto);
		unit_close(&d);
		unit_delete("m");
		munmap(mem, BIG);
		close(fd);
	}
	sigaction(SIGBUS, &old, NULL);
}

int
malloc_tests(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)
	const struct CMUnitTest tests[] = {
		T(long_copies_take_turns),
		T(memory_goes_between_slices),
	};

	return cmocka_run_group_tests_name("bdev/malloc", tests, NULL, NULL);
}
