/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NVM command set: opcode -> handler; checks, then a bdev_io (NVM Command
 * Set 1.0 §3.2). Commands of one step are here, the others in compare.c and dsm.c.
 */
#include <errno.h>

#include "internal.h"

#define OP_NS 1u    /* needs one active namespace */
#define OP_WRITE 2u /* changes data */

#define NLB 0xffffu    /* in CDW12 */
#define FUA (1u << 30) /* likewise */

/* What became of a bdev_io, as a status. */
nvme_status_t
io_result(struct nvme_req *req, int err, uint8_t op)
{
	struct nvme_group *g = req->sq->group;

	if (unlikely(err == -EFAULT)) {
		/* The kernel met the end of a file where we had a mapping. */
		ioas_set_faulted(g->ioas);
		group_fail(g, "its memory went away under I/O", true);
	}
	/* Zeros that we made up are no data: such a write was not done. */
	if (unlikely(!err && op == BDEV_WRITE && ioas_faulted(g->ioas)))
		err = -EFAULT;
	if (unlikely(err == -ECANCELED && req->sq->stop & SQ_STOP_DELETE))
		return NVME_SC_ABORT_QUEUE;
	return unlikely(err) ? nvme_status_of(err, op) : NVME_OK;
}

void
io_done(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);

	if (unlikely(io->err || (io->op == BDEV_WRITE &&
				 ioas_faulted(req->sq->group->ioas))))
		req_complete(req, io_result(req, io->err, io->op));
	else
		req_finish_io(req);
}

/* Asked by who copied out of the client's memory; any thread. */
static bool
req_faulted(const struct bdev_io *io)
{
	const struct nvme_req *req = container_of(io, struct nvme_req, io);

	return ioas_faulted(req->sq->group->ioas);
}

/* @done of the bdev_io is io_done(), unless the handler set another before. */
static inline nvme_status_t
submit(struct nvme_req *req, struct nvme_nsref *ns, uint8_t op, uint8_t flags,
       uint64_t off, uint64_t len)
{
	struct bdev_io *io = &req->io;
	struct iovec *iov = req->iov;
	uint16_t cnt = req->iovcnt;

	io->ch = ns->ch;
	io->op = op;
	io->flags = flags;
	io->iovcnt = cnt;
	io->off = off;
	io->len = len;
	io->iov = iov;
	if (op == BDEV_WRITE)
		io->faulted = req_faulted;
	if (op == BDEV_FLUSH || flags & BDEV_IO_FUA)
		io->flush_seen = &ns->flush_seen;
	bdev_submit(io);
	return NVME_PENDING;
}

nvme_status_t
io_submit_req(struct nvme_req *req, uint8_t op, uint8_t flags, uint64_t off,
	      uint64_t len)
{
	return submit(req, req->ns, op, flags, off, len);
}

/* @mask: NLB, and bits beside it that make it far too long. */
static inline nvme_status_t
range(const struct nvme_req *req, uint32_t mask, uint64_t *off, uint32_t *len)
{
	const struct nvme_sqe *sqe = &req->sqe;
	const struct nvme_nsref *ns = req->ns;
	uint64_t slba = sqe->cdw10 | (uint64_t)sqe->cdw11 << 32;
	uint64_t nlb = (sqe->cdw12 & mask) + 1ull;

	if (unlikely(nlb > ns->nlb || slba > ns->nlb - nlb))
		return NVME_DNR(NVME_SC_LBA_RANGE);
	if (unlikely(nlb << ns->lba_shift > req->sq->group->max_len))
		return NVME_DNR(NVME_SC_INVALID_FIELD);
	*off = slba << ns->lba_shift;
	*len = (uint32_t)(nlb << ns->lba_shift);
	return NVME_OK;
}

nvme_status_t
io_range(struct nvme_req *req, uint64_t *off, uint32_t *len)
{
	return range(req, NLB, off, len);
}

/* FUA, or the write cache is off (Feature 06). */
static inline uint8_t
io_fua(const struct nvme_req *req, const struct nvme_nsref *ns)
{
	if (!ns->write_cache)
		return 0;
	return req->sqe.cdw12 & FUA || !req->sq->group->write_cache
		       ? BDEV_IO_FUA
		       : 0;
}

/*
 * The mark of failed flushes is a copy: what this one finds out is for the
 * host's own flushes to tell, too.
 */
bool
io_fua_read(struct nvme_req *req, void (*flushed)(struct bdev_io *io))
{
	struct nvme_nsref *ns = req->ns;
	struct bdev_io *io = &req->io;

	if (!(req->sqe.cdw12 & FUA) || !ns->write_cache ||
	    !(ns->caps & BDEV_CAP_FLUSH))
		return false;
	req_slow(req);
	req->step = ns->flush_seen;
	io->ch = ns->ch;
	io->op = BDEV_FLUSH;
	io->flags = 0;
	io->iov = NULL;
	io->iovcnt = 0; /* the request's stays: its memory is in use */
	io->off = io->len = 0;
	io->flush_seen = &req->step;
	io->done = flushed;
	bdev_submit(io);
	return true;
}

/* Read or Write whose data pointer is mapped. */
static inline nvme_status_t
transfer(struct nvme_req *req, uint8_t op, uint64_t off, uint32_t len)
{
	struct nvme_nsref *ns = req->ns;
	uint8_t flags = op == BDEV_WRITE ? io_fua(req, ns) : 0;

	if (op == BDEV_READ) {
		ns->read_cmds++;
		ns->read_units += len >> 9;
	} else {
		ns->write_cmds++;
		ns->write_units += len >> 9;
	}
	req->io.done = io_done;
	return submit(req, ns, op, flags, off, len);
}

/* A Read with FUA: what was cached is stable. */
static void
read_flushed(struct bdev_io *io)
{
	struct nvme_req *req = container_of(io, struct nvme_req, io);
	nvme_status_t st = io_result(req, io->err, BDEV_FLUSH);
	uint64_t off;
	uint32_t len;

	if (!st) /* it may have shrunk meanwhile */
		st = range(req, NLB, &off, &len);
	if (!st)
		st = transfer(req, BDEV_READ, off, len);
	if (st != NVME_PENDING)
		req_complete(req, st);
}

/* More than a page, SGLs, another extent than the last time, FUA of a Read, errors. */
static nvme_status_t __attribute__((noinline))
transfer_slow(struct nvme_req *req, uint8_t op)
{
	nvme_status_t st;
	uint64_t off;
	uint32_t len;

	st = range(req, NLB, &off, &len);
	if (!st)
		st = req_map(req, len,
			     op == BDEV_READ ? IOAS_WRITE : IOAS_READ);
	if (st)
		return st;
	if (op == BDEV_READ && io_fua_read(req, read_flushed))
		return NVME_PENDING;
	return transfer(req, op, off, len);
}

static nvme_status_t
io_read(struct nvme_req *req)
{
	uint64_t off;
	uint32_t len;

	/* with FUA it is too long for this way: no test of its own */
	if (unlikely(range(req, NLB | FUA, &off, &len)) ||
	    unlikely(!req_map_page(req, len, IOAS_WRITE)))
		return transfer_slow(req, BDEV_READ);
	return transfer(req, BDEV_READ, off, len);
}

static nvme_status_t
io_write(struct nvme_req *req)
{
	uint64_t off;
	uint32_t len;

	if (unlikely(range(req, NLB, &off, &len)) ||
	    unlikely(!req_map_page(req, len, IOAS_READ)))
		return transfer_slow(req, BDEV_WRITE);
	return transfer(req, BDEV_WRITE, off, len);
}

/* DEAC (CDW12 bit 25): may be deallocated. */
static nvme_status_t
io_write_zeroes(struct nvme_req *req)
{
	uint8_t flags = io_fua(req, req->ns);
	nvme_status_t st;
	uint64_t off;
	uint32_t len;

	st = io_range(req, &off, &len);
	if (st)
		return st;
	if (req->sqe.cdw12 >> 25 & 1 && req->ns->caps & BDEV_CAP_DISCARD)
		flags |= BDEV_IO_UNMAP;
	req->iovcnt = 0;
	req->io.done = io_done;
	return io_submit_req(req, BDEV_WRITE_ZEROES, flags, off, len);
}

static nvme_status_t
io_flush(struct nvme_req *req)
{
	if (!req->ns->write_cache || !(req->ns->caps & BDEV_CAP_FLUSH))
		return NVME_OK;
	req->io.done = io_done;
	return io_submit_req(req, BDEV_FLUSH, 0, 0, 0);
}

static const struct io_op {
	nvme_status_t (*start)(struct nvme_req *req);
	uint8_t flags;
} io_ops[256] = {
	[nvme_cmd_flush] = { io_flush, OP_NS },
	[nvme_cmd_write] = { io_write, OP_NS | OP_WRITE },
	[nvme_cmd_read] = { io_read, OP_NS },
	[nvme_cmd_compare] = { io_compare, OP_NS },
	[nvme_cmd_write_zeroes] = { io_write_zeroes, OP_NS | OP_WRITE },
	[nvme_cmd_dsm] = { io_dsm, OP_NS | OP_WRITE },
	[nvme_cmd_verify] = { io_verify, OP_NS },
};

/* Figure "Commands Supported and Effects": CSUPP, and LBCC where data changes. */
void
io_effects(uint32_t iocs[256])
{
	for (unsigned i = 0; i < 256; i++)
		if (io_ops[i].start)
			iocs[i] = io_ops[i].flags & OP_WRITE ? 3 : 1;
}

/*
 * No namespace is at its NSID. One that could be there is inactive, one that could not is invalid: different errors
 * (NVMe 2.0 §3.2.1.5). But FFFFFFFFh of a Flush: all of them (VWC bits 2:1 = 11b).
 */
static nvme_status_t __attribute__((noinline))
no_namespace(struct nvme_req *req)
{
	const struct nvme_subsys *s = req->sq->group->ctrl->subsys;
	uint32_t nsid = req->sqe.nsid;

	if (req->sqe.opcode == nvme_cmd_flush && nsid == NVME_NSID_ALL)
		return io_flush_all(req);
	return nsid && nsid <= subsys_config(s)->max_namespaces
		       ? NVME_DNR(NVME_SC_INVALID_FIELD)
		       : NVME_DNR(NVME_SC_INVALID_NS);
}

nvme_status_t
io_start(struct nvme_req *req)
{
	const struct io_op *op = &io_ops[req->sqe.opcode];
	struct nvme_group *g = req->sq->group;
	uint32_t i = req->sqe.nsid - 1; /* 0 wraps */
	struct nvme_nsref *ns;

	if (unlikely(!op->start))
		return NVME_DNR(NVME_SC_INVALID_OPCODE);
	if (unlikely(NVME_SQE_FUSE(req->sqe.flags)))
		return NVME_DNR(NVME_SC_INVALID_FIELD);
	ns = likely(i < NVME_MAX_NS) ? g->ns[i] : NULL;
	if (unlikely(!ns || ns->removing))
		return no_namespace(req);
	if (unlikely(op->flags & OP_WRITE && ns->read_only))
		return NVME_DNR(NVME_SC_NS_WRITE_PROTECTED);
	req->ns = ns;
	ns->inflight++;
	return op->start(req);
}
