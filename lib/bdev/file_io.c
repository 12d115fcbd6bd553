/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: one I/O, from the device's submit to its result. Data path.
 * Not here: the context it goes through (aio.c), what blocks (file_block.c).
 *
 * RWF_NOWAIT keeps io_submit from blocking (allocation, page cache, a full device
 * queue); what comes back with EAGAIN, short or interrupted is finished by a
 * worker. The kernel answers EAGAIN also where it would have to split, so large
 * I/O to a device goes without. A file system that does not know the flag says
 * so once. io_uring has threads of its own for what would block, a few for all
 * disks of a ring, which one that hangs would take from the others. Ours are shared
 * fairly, so it is not given anything to block on: "strict".
 */
#include <fcntl.h>
#include <string.h>

#include "file.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif

#define NOWAIT_MAX (128u << 10)

static bool *
nowait_of(struct file_bdev *a, const struct bdev_io *io)
{
	return io->op == BDEV_READ ? &a->nowait_read : &a->nowait_write;
}

static bool
load(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* Would it block inside io_submit, whatever we say? */
static bool
must_block(struct file_bdev *a, const struct bdev_io *io)
{
	if (likely(a->direct && !a->strict))
		return false;
	return (!a->direct && (io->flags & BDEV_IO_FUA)) ||
	       !load(nowait_of(a, io));
}

static bool
use_nowait(struct file_bdev *a, const struct bdev_io *io)
{
	if (!load(nowait_of(a, io)))
		return false;
	if (io->len <= NOWAIT_MAX || !a->direct || a->strict)
		return true;
	return !a->is_block && io->op == BDEV_WRITE;
}

/* Queue a READ or WRITE for the kernel, or hand it to a worker. */
static void
send_rw(struct file_bdev *a, struct bdev_io *io)
{
	struct file_req *r = file_req_of(io);
	const struct iovec *iov = r->bounce ? &r->iov : io->iov;
	int cnt = r->bounce ? 1 : io->iovcnt;

	r->done_len = 0;
	if (unlikely(must_block(a, io))) {
		file_to_worker(io);
		return;
	}
	if (io->op == BDEV_READ)
		io_prep_preadv(&r->cb, a->fd, iov, cnt, (long long)io->off);
	else
		io_prep_pwritev(&r->cb, a->fd, iov, cnt, (long long)io->off);
	r->cb.aio_rw_flags = (use_nowait(a, io) ? RWF_NOWAIT : 0) |
			     (io->flags & BDEV_IO_FUA ? RWF_DSYNC : 0);
	file_enqueue(file_ch_of(io)->q, io);
}

/* false: the writer's memory is gone; the buffer is still free. */
static bool
send_bounced(struct file_bdev *a, struct bdev_io *io, char *buf)
{
	struct file_req *r = file_req_of(io);
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };

	if (io->op == BDEV_WRITE) {
		bdev_copy_out(&cur, buf, io->len);
		if (unlikely(io->faulted && io->faulted(io)))
			return false;
	}
	r->bounce = buf;
	r->iov = (struct iovec){ .iov_base = buf, .iov_len = io->len };
	send_rw(a, io);
	return true;
}

/* The buffer of @io is for who waits; a loop, for many may fail in a row. */
static void
pass_on(struct bounce_pool *pool, struct bdev_io *io, char *buf)
{
	struct list failed = LIST_INIT(failed);
	uint64_t len = io->len;

	bounce_put(pool, io, buf);
	while ((io = bounce_next(pool, len, &buf))) {
		if (send_bounced(file_of(io->ch->bdev), io, buf))
			continue;
		bounce_put(pool, io, buf);
		list_push_back(&failed, &io->node);
	}
	/* Each may end its channel, and with that what is counted there. */
	while ((io = list_first(&failed, struct bdev_io, node))) {
		list_remove(&io->node);
		bdev_complete(io, -EFAULT);
	}
}

static void
bounce(struct file_bdev *a, struct bdev_io *io)
{
	struct file_req *r = file_req_of(io);
	struct bounce_pool *pool = &file_ch_of(io)->q->bounce;
	char *buf;
	int err;

	r->misaligned = true;
	if (unlikely(io->len > BOUNCE_LARGE)) {
		file_to_worker(io); /* which brings its own buffer */
		return;
	}
	buf = bounce_get(pool, io, &err);
	if (buf && !send_bounced(a, io, buf)) {
		pass_on(pool, io, buf);
		err = -EFAULT;
	}
	if (err)
		bdev_complete(io, err);
}

static bool
is_aligned(const struct file_bdev *a, const struct bdev_io *io)
{
	uint64_t addr = 0, len = 0;

	for (unsigned i = 0; i < io->iovcnt; i++) {
		addr |= (uintptr_t)io->iov[i].iov_base;
		len |= io->iov[i].iov_len;
	}
	return !((addr & a->mem_mask) | (len & a->len_mask));
}

void
file_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	struct file_bdev *a = file_of(ch->bdev);
	struct file_req *r = file_req_of(io);

	r->bounce = NULL;
	r->misaligned = false;
	r->done_len = 0;
	switch (io->op) {
	case BDEV_READ:
	case BDEV_WRITE:
		if (likely(!a->direct || is_aligned(a, io)))
			send_rw(a, io);
		else
			bounce(a, io);
		return;
	case BDEV_FLUSH:
		if (load(&a->kernel_fsync)) {
			io_prep_fdsync(&r->cb, a->fd);
			r->cb.aio_rw_flags = 0;
			file_enqueue(file_ch_of(io)->q, io);
			return;
		}
		break;
	}
	file_to_worker(io);
}

/* The end of an I/O that may have had a bounce buffer. */
static void
finish(struct bdev_io *io, int err)
{
	struct file_req *r = file_req_of(io);
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };
	char *buf = r->bounce;

	if (likely(!buf)) {
		bdev_complete(io, err);
		return;
	}
	if (!err && io->op == BDEV_READ)
		bdev_copy_in(&cur, buf, io->len);
	pass_on(&file_ch_of(io)->q->bounce, io, buf);
	bdev_complete(io, err);
}

static void
flush_done(struct file_bdev *a, struct bdev_io *io, int64_t res)
{
	if ((res == -EINVAL || res == -EOPNOTSUPP) && load(&a->kernel_fsync)) {
		__atomic_store_n(&a->kernel_fsync, false, __ATOMIC_RELAXED);
		file_to_worker(io);
		return;
	}
	bdev_complete(io, res < 0 ? (int)res : 0);
}

void
file_result(struct bdev_io *io, int64_t res)
{
	struct file_bdev *a = file_of(io->ch->bdev);
	struct file_req *r = file_req_of(io);

	if (likely(res == (int64_t)io->len && io->op <= BDEV_WRITE)) {
		finish(io, 0);
		return;
	}
	if (io->op == BDEV_FLUSH) {
		flush_done(a, io, res);
		return;
	}
	switch (res) {
	case -EAGAIN:
	case -EINTR:
		file_to_worker(io);
		return;
	case -EOPNOTSUPP:
		if (!(r->cb.aio_rw_flags & RWF_NOWAIT))
			break;
		__atomic_store_n(nowait_of(a, io), false, __ATOMIC_RELAXED);
		send_rw(a, io);
		return;
	case -EINVAL:
		/* An alignment that the probe could not know. */
		if (!a->direct || r->misaligned)
			break;
		bounce(a, io);
		return;
	}
	if (res < 0) {
		finish(io, (int)res);
		return;
	}
	r->done_len = (uint64_t)res;
	file_to_worker(io);
}
