/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: the calls that block, on worker threads: what RWF_NOWAIT refused, the
 * rest of short transfers, fdatasync, discard and zeroing.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "file.h"

#define CHUNK BOUNCE_LARGE /* of misaligned transfers and of zeros written */

static int
sync_flags(const struct bdev_io *io)
{
	return io->flags & BDEV_IO_FUA ? RWF_DSYNC : 0;
}

/*
 * All of @iov at @off. 0, -EIO at the end of the file (it was truncated under
 * us: whoever reads must not take what the buffer held for data), -errno.
 * @iov is used up.
 */
static int
transfer(int fd, bool write, struct iovec *iov, int cnt, uint64_t off,
	 int flags)
{
	while (cnt) {
		ssize_t n;

		n = write ? pwritev2(fd, iov, cnt, (off_t)off, flags)
			  : preadv2(fd, iov, cnt, (off_t)off, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		off += (uint64_t)n;
		while (cnt && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			cnt--;
		}
		if (cnt) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Misaligned and too long for a bounce buffer. */
static int
transfer_chunks(struct bdev_io *io)
{
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };
	int fd = file_of(io->ch->bdev)->fd, err = 0;
	bool write = io->op == BDEV_WRITE;
	void *buf = NULL;

	if (posix_memalign(&buf, 4096, CHUNK))
		return -ENOMEM;
	for (uint64_t pos = 0; pos < io->len && !err; pos += CHUNK) {
		size_t n = MIN(io->len - pos, (uint64_t)CHUNK);
		struct iovec iov = { .iov_base = buf, .iov_len = n };

		if (write) {
			bdev_copy_out(&cur, buf, n);
			if (io->faulted && io->faulted(io))
				err = -EFAULT;
		}
		if (!err)
			err = transfer(fd, write, &iov, 1, io->off + pos,
				       sync_flags(io));
		if (!write && !err)
			bdev_copy_in(&cur, buf, n);
	}
	free(buf);
	return err;
}

/* Copy the vector, since it is the submitter's, and leave out @skip bytes. */
static int
rest_of(const struct iovec *from, int cnt, uint64_t skip, struct iovec *to)
{
	int n = 0;

	for (int i = 0; i < cnt; i++) {
		size_t cut = MIN(skip, from[i].iov_len);

		skip -= cut;
		if (cut == from[i].iov_len)
			continue;
		to[n].iov_base = (char *)from[i].iov_base + cut;
		to[n++].iov_len = from[i].iov_len - cut;
	}
	return n;
}

static int
transfer_rest(struct bdev_io *io)
{
	struct file_req *r = file_req_of(io);
	struct iovec iov[IOV_MAX];
	int cnt, err;

	/* The client may have truncated its memory since. */
	if (io->op == BDEV_WRITE && io->faulted && io->faulted(io))
		return -EFAULT;
	if (r->misaligned && !r->bounce)
		return transfer_chunks(io);
	if (io->iovcnt > IOV_MAX)
		return -EINVAL;
	cnt = rest_of(r->bounce ? &r->iov : io->iov, r->bounce ? 1 : io->iovcnt,
		      r->done_len, iov);
	err = transfer(file_of(io->ch->bdev)->fd, io->op == BDEV_WRITE, iov,
		       cnt, io->off + r->done_len, sync_flags(io));
	/* After a short transfer, the rest may break the alignment: the end. */
	return err == -EINVAL && r->done_len ? -EIO : err;
}

static int
write_zeros(struct file_bdev *a, uint64_t off, uint64_t len)
{
	void *buf = NULL;
	int err = 0;

	if (posix_memalign(&buf, 4096, CHUNK))
		return -ENOMEM;
	memset(buf, 0, CHUNK);
	while (len && !err) {
		size_t n = MIN(len, (uint64_t)CHUNK);
		struct iovec iov = { .iov_base = buf, .iov_len = n };

		err = transfer(a->fd, true, &iov, 1, off, 0);
		off += n;
		len -= n;
	}
	free(buf);
	return err;
}

/* A device may have shrunk, and nobody has told us yet. */
static bool
is_beyond_end(const struct file_bdev *a, const struct bdev_io *io)
{
	uint64_t len;

	return !file_len_of(a->fd, a->is_block, &len) &&
	       !range_inside(io->off, io->len, len);
}

/* The part of a device that is left would be cleared, and the answer be good. */
static int
check_end(const struct file_bdev *a, const struct bdev_io *io)
{
	return a->is_block && is_beyond_end(a, io) ? -ENOSPC : 0;
}

static int
file_clear(const struct file_bdev *a, const struct bdev_io *io, int mode)
{
	int err = fallocate(a->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)io->off,
			    (off_t)io->len);

	return err ? -errno : 0;
}

static int
block_clear(const struct file_bdev *a, const struct bdev_io *io,
	    unsigned long cmd)
{
	uint64_t range[2] = { io->off, io->len };

	return ioctl(a->fd, cmd, range) ? -errno : 0;
}

static int
punch(const struct file_bdev *a, const struct bdev_io *io)
{
	return a->is_block ? block_clear(a, io, BLKDISCARD)
			   : file_clear(a, io, FALLOC_FL_PUNCH_HOLE);
}

static int
zero_range(const struct file_bdev *a, const struct bdev_io *io)
{
	return a->is_block ? block_clear(a, io, BLKZEROOUT)
			   : file_clear(a, io, FALLOC_FL_ZERO_RANGE);
}

static bool
unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOTTY || err == -EINVAL ||
	       err == -ENOSYS;
}

static int
zero(struct file_bdev *a, struct bdev_io *io)
{
	int err = -EOPNOTSUPP;

	/* Of a device as well: what it has for zeros that take no room. */
	if (io->flags & BDEV_IO_UNMAP)
		err = file_clear(a, io, FALLOC_FL_PUNCH_HOLE);
	if (unsupported(err) &&
	    __atomic_load_n(&a->can_zero, __ATOMIC_RELAXED)) {
		err = zero_range(a, io);
		if (unsupported(err))
			__atomic_store_n(&a->can_zero, false, __ATOMIC_RELAXED);
	}
	if (unsupported(err))
		err = write_zeros(a, io->off, io->len);
	if (!err && (io->flags & BDEV_IO_FUA) && fdatasync(a->fd))
		err = -errno;
	return err;
}

static void
block_fn(struct work *w)
{
	struct file_req *r = container_of(w, struct file_req, work);
	struct bdev_io *io = file_io_of(r);
	struct file_bdev *a = file_of(io->ch->bdev);

	switch (io->op) {
	case BDEV_FLUSH:
		r->result = fdatasync(a->fd) ? -errno : 0;
		break;
	case BDEV_DISCARD:
		r->result = check_end(a, io);
		if (!r->result)
			r->result = punch(a, io);
		break;
	case BDEV_WRITE_ZEROES:
		r->result = check_end(a, io);
		if (!r->result)
			r->result = zero(a, io);
		break;
	default:
		r->result = transfer_rest(io);
		break;
	}
}

static void
block_done(struct work *w)
{
	struct file_req *r = container_of(w, struct file_req, work);
	struct bdev_io *io = file_io_of(r);
	int err = r->result;

	if (err == -EAGAIN)
		err = -EIO; /* of a call that was allowed to block */
	if (io->op > BDEV_WRITE) {
		bdev_complete(io, err);
		return;
	}
	memset(&r->cb, 0, sizeof(r->cb)); /* no flags of an earlier try */
	file_result(io, err ? err : (int64_t)io->len);
}

void
file_to_worker(struct bdev_io *io)
{
	struct file_req *r = file_req_of(io);

	r->work = (struct work){ .fn = block_fn, .done = block_done };
	work_submit_flow(WORK_IO, &file_of(io->ch->bdev)->flow, &r->work);
}
