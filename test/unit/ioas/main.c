/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

void
step(void)
{
	reactor_step(reactor_get(0));
}

void
step_until(const unsigned *flag)
{
	uint64_t end = util_now_ns() + 20000000000ull;

	while (!*flag && util_now_ns() < end) {
		step();
		if (!*flag)
			usleep(20);
	}
	assert_true(*flag);
}

int
mem_create(uint64_t len, uint64_t tag)
{
	int fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint64_t off, v;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	for (off = 0; tag && off < len; off += 4096) {
		v = tag + off / 4096;
		assert_int_equal(pwrite(fd, &v, sizeof(v), (off_t)off), 8);
	}
	return fd;
}

void
op_done(struct ioas_op *op, int err)
{
	struct wait_op *w = container_of(op, struct wait_op, op);

	w->err = err;
	w->done++;
}

int
op_wait(struct wait_op *w, int ret)
{
	if (ret != -EINPROGRESS) {
		assert_int_equal(w->done, 0);
		return ret;
	}
	step_until(&w->done);
	assert_int_equal(w->done, 1);
	return w->err;
}

int
map_wait(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len, int fd,
	 uint64_t off, uint32_t prot, iova_t *out)
{
	struct wait_op w = { .op.done = op_done };
	int ret, d = fd < 0 ? -1 : dup(fd);

	ret = ioas_map(ctx, id, iova, len, d, off, prot, &w.op);
	if (ret && ret != -EINPROGRESS && d >= 0)
		assert_int_equal(close(d), 0); /* ours still */
	ret = op_wait(&w, ret);
	if (out)
		*out = w.op.iova;
	return ret;
}

int
unmap_wait(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len)
{
	struct wait_op w = { .op.done = op_done };

	return op_wait(&w, ioas_unmap(ctx, id, iova, len, &w.op));
}

void *
host_of(struct ioas_ctx *ctx, iova_t iova, uint64_t len, uint32_t prot)
{
	struct ioas_hit hit = { 0 };

	return ioas_translate(ioas_ctx_view(ctx), &hit, iova, len, prot);
}

struct ioas_ctx *
ctx_new(enum ioas_mode mode, const struct ioas_limits *l)
{
	struct ioas_ctx *ctx;

	assert_int_equal(ioas_ctx_create(reactor_get(0), mode, l, &ctx), 0);
	return ctx;
}

static void
ctx_gone(void *arg)
{
	(*(unsigned *)arg)++;
}

void
ctx_end(struct ioas_ctx *ctx)
{
	unsigned gone = 0;

	ioas_ctx_destroy(ctx, ctx_gone, &gone);
	step_until(&gone);
	assert_int_equal(gone, 1);
}

unsigned
vma_count(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned n = 0;
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

unsigned
fd_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

void
fds_settle(unsigned fds)
{
	for (unsigned i = 0; i < 5000 && fd_count() != fds; i++) {
		step();
		usleep(1000);
	}
	assert_int_equal(fd_count(), fds);
}

uint64_t
rss_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long all, rss;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &all, &rss), 2);
	fclose(f);
	return rss * 4096ull;
}

struct sigaction ours;

int
main(void)
{
	struct reactor_config cfg = { .cores = (unsigned[]){ 0 },
				      .ncores = 1,
				      .no_pin = true };
	int failed;

	if (reactors_init(&cfg) || ioas_sigbus_init())
		return 1;
	sigaction(SIGBUS, NULL, &ours); /* cmocka puts its own in the way */
	failed = table_tests() + legacy_tests() + quota_tests() +
		 iommufd_tests() + unmap_tests() + view_tests() +
		 fault_tests() + life_tests();
	reactors_fini();
	return failed;
}
