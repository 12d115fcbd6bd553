/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file: is this fd memory, whose, and may it be mapped like that?
 * Not for mapping it.
 *
 * The fd is hostile: a file on FUSE or NFS answers stat and statfs when its server likes. So it
 * is told by what the kernel answers by itself: memfds, tmpfs and hugetlbfs have seals, a
 * dma-buf shows its exporter in fdinfo.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "internal.h"

static bool
is_dmabuf(int fd)
{
	char path[64], buf[1024];
	ssize_t n;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return false;
	n = read(info, buf, sizeof(buf) - 1);
	close(info);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	return strstr(buf, "\nexp_name:") != NULL;
}

/* 0, or -errno. */
static int
file_access(int fd, uint32_t prot)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (flags & O_PATH)
		return -EINVAL;
	/* mmap wants a readable file, always. */
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	if ((prot & IOAS_WRITE) && (flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	return 0;
}

int
file_screen(int fd, uint32_t prot, uint64_t off, uint64_t len, bool any_fs,
	    struct file_info *out)
{
	int seals, err;
	struct stat st;

	err = file_access(fd, prot);
	if (err)
		return err;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 && !is_dmabuf(fd) && !any_fs)
		return -EINVAL;
	if (fstat(fd, &st))
		return -errno;
	if (seals < 0 && any_fs && !S_ISREG(st.st_mode) && !is_dmabuf(fd))
		return -EINVAL;
	if (seals > 0 && (prot & IOAS_WRITE) && (seals & F_SEAL_WRITE))
		return -EPERM;
	if (st.st_size < 0 || !range_inside(off, len, (uint64_t)st.st_size))
		return -EINVAL;
	out->id.dev = st.st_dev;
	out->id.ino = st.st_ino;
	out->id.write = prot & IOAS_WRITE;
	out->size = (uint64_t)st.st_size;
	out->granule = 0;
	return 0;
}

uint64_t
file_granule(int fd)
{
	struct statfs fs;

	/* Screened before: no server is behind it unless the operator said so. */
	if (!fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC &&
	    is_pow2((uint64_t)fs.f_bsize))
		return (uint64_t)fs.f_bsize;
	return PAGE;
}

unsigned
file_hash(const struct file_id *id, uint64_t piece)
{
	uint64_t h = (uint64_t)id->ino * 0x9e3779b97f4a7c15ull;

	h ^= ((uint64_t)id->dev << 1 | id->write) * 0xc2b2ae3d27d4eb4full;
	h += piece * 0x165667b19e3779f9ull;
	return (unsigned)(h ^ h >> 32 ^ h >> 17) % BUCKETS;
}
