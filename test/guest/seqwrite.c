/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seqwrite DEVICE WORKERS MODE: runs in the guest and tells the host which
 * blocks must never be lost.
 *
 * Each worker owns a part of the device and writes 4 KiB blocks in order, each
 * filled with its number (1, 2, ...). MODE flush: an fsync after every eight
 * blocks; MODE fua: O_DSYNC. Once a number is durable, "ACK worker number" is
 * printed. Ends when the parts are full.  Not for judging: the host does that.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 4096
#define BATCH 8

static void
fail(const char *what)
{
	perror(what);
	_exit(1);
}

/* One write(2), so that lines of different workers do not mix. */
static void
ack(unsigned worker, uint64_t seq)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "ACK %u %llu\n", worker,
			   (unsigned long long)seq);

	if (write(STDOUT_FILENO, line, len) != len)
		_exit(1);
}

static void
work(int fd, unsigned worker, uint64_t blocks, int fua)
{
	uint64_t *buf = aligned_alloc(BLOCK, BLOCK);
	uint64_t seq;

	if (!buf)
		fail("aligned_alloc");
	for (seq = 1; seq <= blocks; seq++) {
		off_t at = (off_t)(worker * blocks + seq - 1) * BLOCK;

		for (size_t i = 0; i < BLOCK / sizeof(*buf); i++)
			buf[i] = seq;
		if (pwrite(fd, buf, BLOCK, at) != BLOCK)
			fail("pwrite");
		if (!fua && seq % BATCH)
			continue;
		if (!fua && fsync(fd))
			fail("fsync");
		ack(worker, seq);
	}
}

int
main(int argc, char **argv)
{
	unsigned workers = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	int fua, fd, failed = 0;
	uint64_t size;

	if (!workers || workers > 64 ||
	    (strcmp(argv[3], "fua") && strcmp(argv[3], "flush"))) {
		fprintf(stderr, "usage: seqwrite DEVICE WORKERS fua|flush\n");
		return 2;
	}
	fua = !strcmp(argv[3], "fua");
	fd = open(argv[1], O_RDWR | O_DIRECT | (fua ? O_DSYNC : 0));
	if (fd < 0)
		fail(argv[1]);
	if (ioctl(fd, BLKGETSIZE64, &size))
		fail("not a block device");
	for (unsigned i = 0; i < workers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (!pid) {
			work(fd, i, size / BLOCK / workers, fua);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < workers; i++) {
		int status;

		if (wait(&status) < 0 || status)
			failed = 1;
	}
	return failed;
}
