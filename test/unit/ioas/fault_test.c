/* SPDX-License-Identifier: BSD-3-Clause */
/* A client truncates its file: its own fault, and only its own. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "belfry/guest.h"
#include "unit.h"

static unsigned faults;

/* cmocka's own, installed for the time of a test, is in the way. */
static void
handler_ours(void)
{
	assert_int_equal(sigaction(SIGBUS, &ours, NULL), 0);
}

static void
on_fault(void *arg)
{
	assert_ptr_equal(reactor_self(), reactor_get(0));
	assert_ptr_equal(arg, &faults);
	faults++;
}

static const struct fault_case {
	const char *name;
	enum ioas_mode mode;
	uint32_t prot;
	bool write;
	uint64_t keep; /* bytes of the 8 MiB file */
} cases[] = {
	{ "legacy, read", IOAS_LEGACY, RW, false, 0 },
	{ "legacy, write", IOAS_LEGACY, RW, true, 0 },
	{ "legacy, read-only", IOAS_LEGACY, IOAS_READ, false, 4096 },
	{ "iommufd, read", IOAS_IOMMUFD, RW, false, 0 },
	{ "iommufd, write", IOAS_IOMMUFD, RW, true, 4096 },
};

/* Can the kernel read it, as it does for I/O? */
static bool
kernel_reads(const void *p)
{
	int fds[2];
	bool ok;

	assert_int_equal(pipe(fds), 0);
	ok = write(fds[1], p, 8) == 8;
	close(fds[0]);
	close(fds[1]);
	return ok;
}

/* Half of it was truncated and the middle touched. */
static void
expect_zeros(uint64_t *p, uint32_t prot)
{
	uint64_t v;

	/* That page is replaced; the others are errors for the kernel, no zeros. */
	assert_true(kernel_reads(&p[MiB(4) / 8]));
	assert_false(kernel_reads(&p[MiB(6) / 8]));
	/* After some of them all are, so that this has an end; nothing faults twice. */
	if (prot & IOAS_WRITE)
		memset(p, 0, MiB(8));
	for (unsigned j = 0; j < MiB(8) / 4096; j++)
		guest_copy(&v, p + j * 512, 8);
	assert_true(kernel_reads(&p[MiB(6) / 8]));
}

static void
truncated(void **state)
{
	handler_ours();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct fault_case *c = &cases[i];
		struct ioas_ctx *ctx = ctx_new(c->mode, NULL);
		struct ioas_ctx *other = ctx_new(c->mode, NULL);
		int fd = mem_create(MiB(8), 1), fd2 = mem_create(MiB(8), 70);
		unsigned vmas = vma_count();
		uint64_t v = 1, *p, *q;
		iova_t at, at2;
		uint32_t id = 1, id2 = 1;

		if (c->mode == IOAS_IOMMUFD) {
			assert_int_equal(ioas_alloc(ctx, &id), 0);
			assert_int_equal(ioas_alloc(other, &id2), 0);
		}
		assert_int_equal(map_wait(ctx, id, MiB(1), MiB(8), fd, 0,
					  c->prot, &at),
				 0);
		assert_int_equal(map_wait(other, id2, MiB(1), MiB(8), fd2, 0,
					  RW, &at2),
				 0);
		if (c->mode == IOAS_LEGACY) {
			p = host_of(ctx, at, MiB(8), c->prot);
			q = host_of(other, at2, MiB(8), RW);
		} else {
			p = (uint64_t *)at;
			q = (uint64_t *)at2;
		}
		faults = 0;
		ioas_on_fault(ctx, on_fault, &faults);
		assert_int_equal(*p, 1);
		assert_false(ioas_faulted(ctx));
		assert_int_equal(ftruncate(fd, (off_t)c->keep), 0);
		if (c->write)
			((volatile uint64_t *)p)[MiB(4) / 8] = 5;
		else
			guest_copy(&v, p + MiB(4) / 8, 8);
		assert_true(c->write || v == 0);
		assert_true(ioas_faulted(ctx));
		expect_zeros(p, c->prot);
		assert_true(vma_count() <= vmas + 40);
		assert_false(ioas_faulted(other));
		assert_int_equal(q[MiB(4) / 8], 70 + 1024);
		assert_int_equal(faults, 0);
		step_until(&faults);
		for (unsigned j = 0; j < 10; j++)
			step();
		assert_int_equal(faults, 1);
		ctx_end(ctx);
		ctx_end(other);
		assert_true(vma_count() <= vmas);
		close(fd);
		close(fd2);
	}
}

static void *
touch(void *arg)
{
	uint64_t v;

	guest_copy(&v, arg, 8);
	return (void *)(uintptr_t)v;
}

/* On another thread, told later; a page that was punched out is no fault. */
static void
elsewhere(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);
	int fd = mem_create(MiB(2), 1);
	pthread_t t;
	void *v;
	char *p;

	handler_ours();
	assert_int_equal(map_wait(ctx, 1, 0, MiB(2), fd, 0, RW, NULL), 0);
	p = host_of(ctx, 0, MiB(2), RW);
	assert_int_equal(madvise(p, MiB(1), MADV_REMOVE), 0);
	assert_ptr_equal(touch(p), NULL);
	assert_false(ioas_faulted(ctx));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, touch, p + MiB(1)), 0);
	assert_int_equal(pthread_join(t, &v), 0);
	assert_ptr_equal(v, NULL);
	assert_true(ioas_faulted(ctx));
	step();
	faults = 0;
	ioas_on_fault(ctx, on_fault, &faults); /* who asks late is told too */
	step_until(&faults);
	ioas_on_fault(ctx, NULL, NULL);
	ioas_set_faulted(ctx);
	ctx_end(ctx);
	close(fd);
}

static void
told_otherwise(void **state)
{
	struct ioas_ctx *ctx = ctx_new(IOAS_LEGACY, NULL);

	faults = 0;
	ioas_on_fault(ctx, on_fault, &faults);
	ioas_set_faulted(ctx);
	ioas_set_faulted(ctx);
	assert_true(ioas_faulted(ctx));
	step_until(&faults);
	step();
	assert_int_equal(faults, 1);
	ctx_end(ctx);
	/* The message is on its way as the context ends; the next one starts clean. */
	ctx = ctx_new(IOAS_LEGACY, NULL);
	ioas_on_fault(ctx, on_fault, &faults);
	ioas_set_faulted(ctx);
	ctx_end(ctx);
	assert_int_equal(faults, 1);
	ctx = ctx_new(IOAS_LEGACY, NULL);
	assert_false(ioas_faulted(ctx));
	ctx_end(ctx);
}

/* Ours: no client is to blame, it kills. */
static void
not_in_an_arena(void **state)
{
	handler_ours();
	for (unsigned sent = 0; sent < 2; sent++) {
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			int fd = mem_create(4096, 0);
			char *p =
				mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

			signal(SIGABRT, SIG_DFL);
			if (sent)
				kill(getpid(), SIGBUS);
			else if (!ftruncate(fd, 0))
				_exit(*(volatile char *)p ? 41 : 40);
			_exit(42);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* A sanitizer's handler reports, then exits. */
		if (WIFSIGNALED(status))
			assert_true(WTERMSIG(status) == SIGBUS ||
				    WTERMSIG(status) == SIGABRT);
		else
			assert_true(WEXITSTATUS(status) < 40);
	}
}

int
fault_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(truncated),
		cmocka_unit_test(elsewhere),
		cmocka_unit_test(told_otherwise),
		cmocka_unit_test(not_in_an_arena),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
