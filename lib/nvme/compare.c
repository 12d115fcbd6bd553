/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compare and Verify: read the blocks in pieces into scratch memory, look at
 * them, go on. Scratch is bounded per controller; who finds none waits.
 */
#include "internal.h"

#define PIECE (64u << 10)
/* What they take, about: getting scratch, and per byte of it; comparing a byte. */
#define COST_NS(piece) (500 + (piece) / 32)
#define COMPARE_NS(len) ((len) / 16)

static void piece_done(struct bdev_io *io);

static bool
is_compare(const struct nvme_req *req)
{
	return req->sqe.opcode == nvme_cmd_compare;
}

static void
piece_submit(struct nvme_req *req, uint64_t off, uint32_t len)
{
	struct bdev_io *io = &req->io;

	/* the scratch's own iov lies at its end */
	io->iov = (struct iovec *)((char *)req->buf + req->buf_len) - 1;
	io->iov->iov_base = req->buf;
	io->iov->iov_len = MIN(len, PIECE);
	io->iovcnt = 1;
	io->done = piece_done;
	io->ch = req->ns->ch;
	io->op = BDEV_READ;
	io->flags = 0;
	io->err = 0;
	io->off = off;
	io->len = io->iov->iov_len;
	bdev_submit(io);
}

/* A copy is compared: memcmp() may go astray where bytes change under it (glibc bug 29863). */
static bool
piece_equal(const struct nvme_req *req, uint32_t len)
{
	const struct iovec *iov = req->iov, *end = iov + req->iovcnt;
	const char *want = req->buf;
	uint64_t off = req->done_len;
	char copy[NVME_PAGE];

	for (; iov < end && off >= iov->iov_len; iov++)
		off -= iov->iov_len;
	while (len) {
		uint32_t n = (uint32_t)MIN(len, iov->iov_len - off);

		n = MIN(n, sizeof(copy));
		guest_copy(copy, (char *)iov->iov_base + off, n);
		if (memcmp(want, copy, n))
			return false;
		want += n;
		len -= n;
		off += n;
		if (off == iov->iov_len) {
			iov++;
			off = 0;
		}
	}
	return true;
}

static void
piece_done(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);
	uint32_t total = ((req->sqe.cdw12 & 0xffff) + 1) << req->ns->lba_shift;
	uint32_t len = (uint32_t)io->len;
	nvme_status_t st = io_result(req, io->err, BDEV_READ);

	if (!st && is_compare(req)) {
		group_cost(req->sq->group, COMPARE_NS(len));
		if (!piece_equal(req, len))
			st = NVME_DNR(NVME_MEDIA_SC(NVME_SC_COMPARE_FAILED));
		if (ioas_faulted(req->sq->group->ioas))
			st = NVME_SC_DATA_XFER_ERROR;
	}
	req->done_len += len;
	if (st || req->done_len >= total) {
		req_complete(req, st);
		return;
	}
	piece_submit(req, io->off + len, total - (uint32_t)req->done_len);
}

static void
piece_flushed(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);
	nvme_status_t st = io_result(req, io->err, BDEV_FLUSH);
	uint64_t off;
	uint32_t len;

	if (!st) /* it may have shrunk meanwhile */
		st = io_range(req, &off, &len);
	if (st)
		req_complete(req, st);
	else
		piece_submit(req, off, len);
}

static nvme_status_t
piece_start(struct nvme_req *req)
{
	uint32_t len, scratch;
	nvme_status_t st;
	uint64_t off;

	st = io_range(req, &off, &len);
	if (st)
		return st;
	scratch = MAX(MIN(len, PIECE), NVME_PAGE);
	/* first: that one waits for it is quickly found */
	st = req_io_buf(req, scratch + sizeof(struct iovec));
	if (!st && is_compare(req))
		st = req_map(req, len, IOAS_READ);
	if (st)
		return st;
	req->done_len = 0;
	group_cost(req->sq->group, COST_NS(scratch));
	/* NVM Command Set 1.0 §1.4.2: Verify reads data units, but is no host read command */
	req->ns->read_units += len >> 9;
	req->ns->read_cmds += is_compare(req);
	if (!io_fua_read(req, piece_flushed))
		piece_submit(req, off, len);
	return NVME_PENDING;
}

nvme_status_t
io_compare(struct nvme_req *req)
{
	return piece_start(req);
}

nvme_status_t
io_verify(struct nvme_req *req)
{
	return piece_start(req);
}
