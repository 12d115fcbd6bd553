/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The request: one command between its queue entry and its completion (req.c), and its data pointer
 * (prp.c, sgl.c). Part of internal.h.
 */
#ifndef BELFRY_NVME_REQ_H
#define BELFRY_NVME_REQ_H

struct nvme_group;
struct nvme_nsref;
struct nvme_sq;

#define REQ_INLINE_IOV 4
#define REQ_MAX_IOV 257 /* 1 MiB in 4 KiB pages, unaligned */

struct nvme_req {
	/* what every command touches */
	struct nvme_sq *sq;
	struct nvme_req *next; /* held-completions list of a paused CQ */
	struct nvme_nsref *ns;
	struct iovec *iov; /* inline_iov, or from the core's pool of long ones */
	uint16_t iovcnt;
	nvme_status_t status;
	uint8_t flags;	/* REQ_* */
	uint8_t unmaps; /* a bit for each unmap that waits for this request */
	uint64_t seq;	/* group->seq when the data pointer was mapped */
	union {
		struct {
			uint32_t dw0, dw1; /* of the completion */
		};
		uint64_t dw;
	};
	struct list node;    /* sq->inflight */
	struct nvme_sqe sqe; /* the private copy */
	struct iovec inline_iov[REQ_INLINE_IOV];
	struct bdev_io io;
	void *buf; /* scratch (compare, verify, admin data, DSM ranges); freed with the request */
	uint32_t buf_len;
	uint32_t step; /* of a multi-step handler (DSM ranges, broadcast flush) */
	uint64_t done_len; /* likewise, in bytes (compare, verify) */
	uint64_t scanned; /* the last unmap that looked whether it waits for this; never cleared */
	/*
	 * Set by a handler that returned NVME_PENDING and holds the request without I/O (AER): end it early, by
	 * req_complete(NVME_SC_ABORT_REQ), exactly once. For Abort and for every reset. NULL: it ends by itself. false: the CQ
	 * has no room for that (never while it is muted).
	 */
	bool (*abort)(struct nvme_req *req);
	struct nvme_req
		*aborter; /* an Abort, to be answered when this has ended */
	uint64_t deadline; /* of a wait for memory that was just unmapped; 0: has not waited */
	struct list
		wait; /* the group's mem_waits, mem_old, late_waits, late_old, buf_waits */
};
#define REQ_SLOW \
	4u /* a field that few commands use was set: req_free() clears them */
#define REQ_BUF_IO 1u /* buf counts against the group's budget */
#define REQ_NO_LOG \
	2u /* a failure is no error-log entry (AER ended by a reset) */

/* status.c */
nvme_status_t nvme_status_of(int err, uint8_t bdev_op);

/* req.c. A handler returns a status, or NVME_PENDING and later calls req_complete. */
/* inline.h has req_start(), req_free() and req_finish_io(). */
void req_complete(struct nvme_req *req, nvme_status_t status);
void req_free_slow(struct nvme_req *req); /* REQ_SLOW was set */
void req_slow(struct nvme_req *req);	  /* before a field behind io is used */
void req_drop(struct nvme_req *req);	  /* no completion entry (drain) */
/* Zeroed scratch, freed with the request; NULL: no memory. */
void *req_buf(struct nvme_req *req, uint32_t len);
/* The same within the controller's budget for I/O commands: NVME_PENDING: waits, the request is run again. */
nvme_status_t req_io_buf(struct nvme_req *req, uint32_t len);
/*
 * The four below may answer NVME_PENDING: the memory was unmapped a moment ago; the request waits and is then run again from
 * its start (its handler is called anew). So: no lasting side effect before them, and hand a PENDING on as it is.
 *
 * Map the data pointer: fills req->iov for exactly @len bytes. @prot as seen by the device: IOAS_WRITE for transfers to the host.
 */
nvme_status_t req_map(struct nvme_req *req, uint32_t len, uint32_t prot);
/* Copy between @buf and the command's data pointer (admin data, ranges). At most @len bytes; shorter transfers are the caller's. */
nvme_status_t req_to_host(struct nvme_req *req, const void *buf, uint32_t len);
nvme_status_t req_from_host(struct nvme_req *req, void *buf, uint32_t len);
/* [iova, iova + len) cannot be used: wait if it went just now, else Data Transfer Error. */
nvme_status_t req_bad_memory(struct nvme_req *req, iova_t iova, uint64_t len);
/* A longer iov array; NVME_PENDING: none is free, the request waits. */
nvme_status_t req_long_iov(struct nvme_req *req);
void req_retry(
	struct nvme_group *g,
	struct list *waits); /* run again those that wait on it, some a round */
void req_retry_bufs(struct nvme_group *g);
void req_drop_waits(struct list *waits);
/* Copy between the request's iov, from byte @off of it, and @buf. */
void iov_read(const struct iovec *iov, unsigned cnt, uint64_t off, void *buf,
	      uint32_t len);
void iov_write(const struct iovec *iov, unsigned cnt, uint64_t off,
	       const void *buf, uint32_t len);

/*
 * prp.c, sgl.c: data pointer -> req->iov, req->iovcnt. On error *@bad is the address that could not be used, if that
 * is what failed (NVME_SC_DATA_XFER_ERROR), so that the caller can wait for it.
 */
struct bad_range {
	iova_t iova;
	uint64_t len;
};
nvme_status_t prp_map(struct nvme_req *req, uint64_t prp1, uint64_t prp2,
		      uint32_t len, uint32_t prot, struct bad_range *bad);
nvme_status_t sgl_map(struct nvme_req *req, const struct nvme_sgl *sgl,
		      uint32_t len, uint32_t prot, struct bad_range *bad);
/* The long half of iov_add. NVME_SC_SGL_INVALID_COUNT: too many pieces; NVME_PENDING: waits for a long array. */
nvme_status_t iov_add_slow(struct nvme_req *req, void *host, uint64_t len);

#endif
