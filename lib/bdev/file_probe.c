/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: opens a file or block device and finds out what it can do.
 * All of it may block: on WORK_CONTROL. Not for I/O.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "file.h"
#include "belfry/log.h"

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000u
#endif

int
file_len_of(int fd, bool is_block, uint64_t *len)
{
	struct stat st;

	if (is_block)
		return ioctl(fd, BLKGETSIZE64, len) ? -errno : 0;
	if (fstat(fd, &st))
		return -errno;
	*len = (uint64_t)st.st_size;
	return 0;
}

/* A number from the queue directory of the disk, or of a partition's disk. */
static bool
queue_number(dev_t dev, const char *name, uint64_t *out)
{
	static const char *const up[] = { "", "../" };
	char path[128], text[32] = "";
	bool ok = false;

	for (unsigned i = 0; i < ARRAY_SIZE(up) && !ok; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s",
			 major(dev), minor(dev), up[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(text, sizeof(text), f)) {
			text[strcspn(text, "\n")] = 0;
			ok = !util_parse_u64(text, out);
		}
		fclose(f);
	}
	return ok;
}

/*
 * A file that is written has one user, those that only read share it. The lock goes with the descriptor. A file system
 * that has no locks protects nobody.
 */
static bool
locked_by_others(int fd, bool read_only)
{
	return flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) &&
	       errno == EWOULDBLOCK;
}

static int
open_file(const char *path, bool read_only, struct file_probe *p,
	  struct bdev_ctl *c)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;
	int err;

	/* Looked at before it is opened: opening a FIFO or a tape does things. */
	if (stat(path, &st))
		return bdev_fail(c, -errno, "%s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return bdev_fail(c, -EINVAL,
				 "%s: neither a file nor a block device", path);
	p->is_block = S_ISBLK(st.st_mode);
	if (p->is_block && !read_only)
		flags |= O_EXCL; /* not while it is mounted, say */
	p->fd = open(path, flags | O_DIRECT);
	p->direct = p->fd >= 0;
	if (p->fd < 0 && errno == EINVAL)
		p->fd = open(path, flags);
	err = -errno;
	if (p->fd >= 0 && (p->is_block || !locked_by_others(p->fd, read_only)))
		return 0;
	if (p->fd >= 0) {
		close(p->fd);
		err = -EBUSY;
	}
	p->fd = -1;
	if (err == -EBUSY)
		return bdev_fail(
			c, err,
			"%s is in use (mounted, part of a volume, or served by another daemon): end that, or set readonly if nobody writes to it",
			path);
	if (!read_only && (err == -EACCES || err == -EROFS || err == -EPERM))
		return bdev_fail(
			c, err,
			"%s: not writable, set readonly if that is meant",
			path);
	return bdev_fail(c, err, "%s", path);
}

/* Where statx does not tell: which length does a direct read take? */
static void
try_direct(struct file_probe *p)
{
	char *buf;

	if (posix_memalign((void **)&buf, 4096, 4096)) {
		p->mem_align = p->io_align = 4096;
		return;
	}
	for (uint32_t n = p->logical; n <= 4096; n *= 2) {
		if (pread(p->fd, buf, n, 0) < 0 && errno == EINVAL)
			continue;
		p->mem_align = p->io_align = n;
		free(buf);
		return;
	}
	p->direct = false;
	free(buf);
}

static void
find_alignment(struct file_probe *p)
{
	struct statx sx = { 0 };

	if (!p->direct)
		return;
	if (statx(p->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) ||
	    !(sx.stx_mask & STATX_DIOALIGN)) {
		if (p->is_block)
			p->mem_align = p->io_align = p->logical;
		else
			try_direct(p);
		return;
	}
	p->mem_align = sx.stx_dio_mem_align;
	p->io_align = sx.stx_dio_offset_align;
	if (!is_pow2(p->mem_align) || !is_pow2(p->io_align))
		p->direct = false; /* 0: not for this file */
}

static void
find_block_caps(struct file_probe *p, dev_t dev)
{
	uint64_t n;

	p->can_discard = queue_number(dev, "discard_max_bytes", &n) && n;
	p->discard_granularity = p->physical;
	if (queue_number(dev, "discard_granularity", &n) && is_pow2(n) &&
	    n <= UINT32_MAX / 2)
		p->discard_granularity = (uint32_t)n;
}

static int
find_block(struct file_probe *p, const char *path, struct bdev_ctl *c)
{
	int logical;
	unsigned physical;
	struct stat st;

	if (ioctl(p->fd, BLKSSZGET, &logical) || fstat(p->fd, &st))
		return bdev_fail(c, -errno, "%s", path);
	if (ioctl(p->fd, BLKPBSZGET, &physical) || !is_pow2(physical))
		physical = (unsigned)logical;
	p->logical = (uint32_t)logical;
	p->physical = MAX(physical, p->logical);
	find_block_caps(p, st.st_rdev);
	return 0;
}

/* Past the end, where there is nothing to lose. */
static void
find_file_caps(struct file_probe *p, bool read_only)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	off_t end = (off_t)align_up(p->len, 1u << 20);
	struct stat st;

	if (!fstat(p->fd, &st) && is_pow2((uint64_t)st.st_blksize) &&
	    st.st_blksize <= 65536)
		p->physical = MAX((uint32_t)st.st_blksize, p->logical);
	p->discard_granularity = p->physical;
	if (!read_only)
		p->can_discard = !fallocate(p->fd, mode, end, 4096);
	p->discard_zeroes = p->can_discard;
}

static int
check_len(struct file_probe *p, const char *path, uint32_t block_len,
	  struct bdev_ctl *c)
{
	uint32_t len = block_len;

	if (p->is_block && len && len < p->logical)
		return bdev_fail(c, -EINVAL,
				 "block_size %" PRIu32 " is below the %" PRIu32
				 " of %s",
				 len, p->logical, path);
	if (!len)
		len = p->logical;
	if (!p->len)
		return bdev_fail(c, -EINVAL,
				 "%s is empty: give it a size first", path);
	if (p->len % len)
		return bdev_fail(c, -EINVAL,
				 "the size of %s, %" PRIu64
				 ", is no multiple of block_size %" PRIu32,
				 path, p->len, len);
	return 0;
}

/* A file may be read with a smaller block through the page cache. */
static int
go_buffered(struct file_probe *p, const char *path, uint32_t block_len)
{
	int flags = fcntl(p->fd, F_GETFL);

	if (p->direct && p->io_align > (block_len ? block_len : p->logical)) {
		log_notice(
			"aio: %s wants direct I/O in units of %" PRIu32
			", more than block_size: going through the page cache",
			path, p->io_align);
		p->direct = false;
	} else if (!p->direct) {
		log_notice(
			"aio: %s cannot do direct I/O: going through the page cache",
			path);
	}
	if (p->direct)
		return 0;
	if (flags < 0 || fcntl(p->fd, F_SETFL, flags & ~O_DIRECT))
		return -errno;
	p->mem_align = p->io_align = 1;
	return 0;
}

int
file_probe(const char *path, bool read_only, uint32_t block_len,
	   struct file_probe *p, struct bdev_ctl *c)
{
	int err;

	*p = (struct file_probe){ .fd = -1, .logical = 512, .physical = 512 };
	err = open_file(path, read_only, p, c);
	if (err)
		return err;
	if (p->is_block)
		err = find_block(p, path, c);
	if (err)
		goto close_fd;
	err = file_len_of(p->fd, p->is_block, &p->len);
	if (err) {
		bdev_fail(c, err, "%s", path);
		goto close_fd;
	}
	err = check_len(p, path, block_len, c);
	if (err)
		goto close_fd;
	if (!p->is_block)
		find_file_caps(p, read_only);
	find_alignment(p);
	err = go_buffered(p, path, block_len);
	if (!err)
		return 0;
close_fd:
	close(p->fd);
	p->fd = -1;
	return err;
}
