/* SPDX-License-Identifier: BSD-3-Clause */
#include "file.h"
#include "unit.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

static char dir[64];

void
unit_start(uint32_t spin_us)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .idle = REACTOR_IDLE_ADAPTIVE,
				      .spin_us = spin_us,
				      .no_pin = true };

	assert_int_equal(reactors_init(&cfg), 0);
	assert_int_equal(bdev_init(), 0);
	assert_ptr_equal(bdev_reactor_self()->reactor, reactor_get(0));
	assert_false(bdev_reactor_self()->hung); /* not the last one's */
}

int
unit_setup(void **state)
{
	unit_start(0);
	return 0;
}

int
unit_teardown(void **state)
{
	bdev_fini();
	assert_null(bdev_first());
	reactors_fini();
	return 0;
}

void
unit_step(void)
{
	reactor_step(reactor_get(0));
	bdev_kick();
	bdev_reap();
}

static void
io_done(struct bdev_io *io)
{
	container_of(io, struct unit_io, io)->done++;
}

void
unit_io(struct unit_io *u, struct bdev_ch *ch, unsigned op, uint64_t off,
	void *buf, uint64_t len)
{
	memset(u, 0, sizeof(*u));
	u->io.done = io_done;
	u->io.ch = ch;
	u->io.op = (uint8_t)op;
	u->io.off = off;
	u->io.len = len;
	u->io.iov = u->iov;
	u->io.iovcnt = 1;
	u->iov[0] = (struct iovec){ buf, len };
}

int
unit_wait(struct unit_io *u)
{
	uint64_t end = util_now_ns() + 10ull * 1000000000;

	while (!u->done && util_now_ns() < end)
		unit_step();
	assert_int_equal(u->done, 1);
	return u->io.err;
}

int
unit_run(struct unit_io *u)
{
	u->done = 0;
	bdev_submit(&u->io);
	return unit_wait(u);
}

int
unit_rw(struct bdev_ch *ch, unsigned op, uint64_t off, void *buf, uint64_t len)
{
	struct unit_io u;

	unit_io(&u, ch, op, off, buf, len);
	return unit_run(&u);
}

static void
ctl_done(struct bdev_ctl *c, int err)
{
	struct unit_ctl *u = container_of(c, struct unit_ctl, c);

	u->done++;
	u->err = err;
}

struct bdev_ctl *
unit_ctl(struct unit_ctl *u)
{
	memset(u, 0, sizeof(*u));
	u->c.done = ctl_done;
	return &u->c;
}

int
unit_answer(struct unit_ctl *u, int err)
{
	uint64_t end = util_now_ns() + 10ull * 1000000000;

	if (err != -EINPROGRESS) {
		assert_int_equal(u->done, 0); /* told once, by the return */
		return err;
	}
	while (!u->done && util_now_ns() < end)
		unit_step();
	assert_int_equal(u->done, 1);
	return u->err;
}

static void
dev_event(enum bdev_event ev, void *arg)
{
	struct unit_dev *d = arg;

	if (ev == BDEV_EVENT_RESIZE) {
		d->resizes++;
		return;
	}
	d->removes++;
	if (d->close_on_remove)
		unit_close(d);
}

void
unit_open(struct unit_dev *d, const char *name)
{
	memset(d, 0, sizeof(*d));
	assert_int_equal(bdev_open(name, true, dev_event, d, &d->desc), 0);
	d->ch = bdev_get_ch(d->desc);
	assert_non_null(d->ch);
}

void
unit_close(struct unit_dev *d)
{
	bdev_put_ch(d->ch);
	bdev_close(d->desc);
	d->ch = NULL;
	d->desc = NULL;
}

void
unit_delete(const char *name)
{
	struct unit_ctl u;

	assert_int_equal(unit_answer(&u, bdev_delete(name, NULL, unit_ctl(&u))),
			 0);
}

const char *
unit_file(const char *name, uint64_t len)
{
	static char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
	return path;
}

const struct unit_kind unit_kinds[2] = {
	{ "aio", bdev_aio_create, bdev_aio_rescan, bdev_aio_params_of },
	{ "uring", bdev_uring_create, bdev_uring_rescan, bdev_uring_params_of },
};
const struct unit_kind *unit_kind = &unit_kinds[UNIT_AIO];

bool
unit_choose(unsigned kind)
{
	struct bdev_ctl c;

	if (kind == UNIT_URING && uring_engine_room(&c)) {
		print_message("skipped: %s\n", c.error);
		return false;
	}
	unit_kind = &unit_kinds[kind];
	return true;
}

int
unit_disk(const char *name, const char *path, uint32_t block_len,
	  struct unit_ctl *u)
{
	struct bdev_file_params p = { .name = name,
				      .filename = path,
				      .block_len = block_len };

	return unit_answer(u, unit_kind->create(&p, unit_ctl(u)));
}

void
unit_fill(void *buf, size_t len, unsigned seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		((uint8_t *)buf)[i] = (uint8_t)(x >> 24);
	}
}

int
main(void)
{
	char cmd[96];
	int failed;

	/* Not TMPDIR: it may be a tmpfs, and direct I/O wants a disk. */
	strcpy(dir, "/var/tmp/belfry-bdev-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	failed = core_tests() + backend_tests() + file_tests() + uring_tests() +
		 block_tests() + malloc_tests() + stacked_tests() +
		 qos_tests() + threads_tests() + histogram_tests();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return failed + !!system(cmd);
}
