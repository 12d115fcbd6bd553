/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A command's life between its queue entry and its completion: the request, its
 * data pointer, its waits.
 */
#include <stdlib.h>

#include "internal.h"

#define MEM_WAIT_NS 100000000u
#define RETRIES 4u /* of requests that waited, in a round: there may be 2048 */
#define LATE 1u	   /* req->deadline: has looked a second time */
#define IO_BUF_BUDGET (4u << 20) /* scratch of one group's I/O commands */

/* It uses a field that few do; req_free() clears those. */
void
req_slow(struct nvme_req *req)
{
	if (req->flags & REQ_SLOW)
		return;
	req->flags |= REQ_SLOW;
	list_init(&req->wait);
}

/* Scratch and long iov array. */
static void
req_give_back(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;

	if (req->flags & REQ_BUF_IO)
		g->buf_used -= req->buf_len;
	req->flags &= (uint8_t)~REQ_BUF_IO;
	free(req->buf); /* cold: few commands have a buffer */
	req->buf = NULL;
	req->buf_len = 0;
	if (req->iov != req->inline_iov) {
		pool_put(&g->core->iovs, req->iov);
		g->iov_used--;
		req->iov = req->inline_iov;
	}
}

void
req_free_slow(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;
	struct nvme_req *aborter = req->aborter;

	req_give_back(req);
	req->step = 0;
	req->done_len = 0;
	req->abort = NULL;
	req->aborter = NULL;
	req->deadline = 0;
	req->dw = 0;
	req->flags = 0;
	list_remove(&req->wait);
	if (!list_empty(&g->buf_waits))
		group_work(g);
	if (aborter)
		req_complete(aborter, NVME_OK);
}

static void
req_end(struct nvme_req *req)
{
	struct nvme_nsref *ns = req->ns;

	if (ns && --ns->inflight == 0 && unlikely(ns->removing))
		ns_drained(ns);
	if (unlikely(req->unmaps))
		unmap_req_done(req);
	req->iovcnt = 0;
}

void
req_complete(struct nvme_req *req, nvme_status_t status)
{
	struct nvme_cq *cq = req->sq->cq;

	/* More: each command that failed has an entry in the error log (NVMe 2.0 §5.16.1.2) */
	if (unlikely(status) && !(req->flags & REQ_NO_LOG)) {
		status |= NVME_SC_MORE;
		log_page_error(req->sq->group, req, status);
	}
	req->status = status;
	req_end(req);
	if (unlikely(cq->hold)) {
		cq_hold(cq, req);
		return;
	}
	cq_post(cq, req, status);
	req_free(req);
}

void
req_drop(struct nvme_req *req)
{
	req_end(req);
	req->sq->cq->busy--;
	req_free(req);
}

/* ---- memory that is not there ---- */

/*
 * Back to where it was before its handler ran; it is run again from there. Nothing is kept
 * meanwhile that others wait for, or two could wait for each other.
 */
static nvme_status_t
req_park(struct nvme_req *req, struct list *waits)
{
	if (req->ns) {
		struct nvme_nsref *ns = req->ns;

		req->ns = NULL;
		if (--ns->inflight == 0 && ns->removing)
			ns_drained(ns);
	}
	req->iovcnt = 0;
	req_slow(req);
	req_give_back(req);
	list_push_back(waits, &req->wait);
	return NVME_PENDING;
}

/* Some of @waits, which nobody adds to meanwhile, and the others in the rounds to come: each may take long. */
void
req_retry(struct nvme_group *g, struct list *waits)
{
	for (unsigned i = 0; i < RETRIES && !list_empty(waits); i++) {
		struct nvme_req *req =
			list_entry(waits->next, struct nvme_req, wait);

		list_remove(&req->wait);
		req_start(req);
	}
	if (!list_empty(waits))
		group_work(g);
}

/*
 * Some of those that wait for scratch or a long iov array, until one has to wait again: it
 * stays the first.
 */
void
req_retry_bufs(struct nvme_group *g)
{
	struct list now;

	list_init(&now);
	list_splice(&now, &g->buf_waits);
	for (unsigned i = 0; !list_empty(&now) && list_empty(&g->buf_waits);
	     i++) {
		struct nvme_req *req =
			list_entry(now.next, struct nvme_req, wait);

		if (i == RETRIES) {
			group_work(g);
			break;
		}
		list_remove(&req->wait);
		req_start(req);
	}
	list_splice(&g->buf_waits, &now);
}

void
req_drop_waits(struct list *waits)
{
	while (!list_empty(waits)) {
		struct nvme_req *req =
			list_entry(waits->next, struct nvme_req, wait);

		list_remove(&req->wait);
		req_drop(req);
	}
}

/*
 * A client may use a map as soon as home has answered it, which is after it was sent to
 * the groups elsewhere. So one look at the mailbox later it is here, or never was.
 */
static nvme_status_t
req_late(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;

	req->deadline = LATE;
	group_work(g);
	return req_park(req, &g->late_waits);
}

nvme_status_t
req_bad_memory(struct nvme_req *req, iova_t iova, uint64_t len)
{
	struct nvme_group *g = req->sq->group;
	uint64_t now = reactor_now();

	if (!len)
		return NVME_SC_DATA_XFER_ERROR;
	if (!ioas_recently_unmapped(g->view, iova, len))
		return g->far && !req->deadline ? req_late(req)
						: NVME_SC_DATA_XFER_ERROR;
	if (req->deadline <= LATE)
		req->deadline = now + MEM_WAIT_NS;
	else if (now >= req->deadline)
		return NVME_SC_DATA_XFER_ERROR;
	group_tick(g, 5000000);
	return req_park(req, &g->mem_waits);
}

/* ---- scratch and data pointers ---- */

void *
req_buf(struct nvme_req *req, uint32_t len)
{
	req_slow(req);
	if (req->buf && req->buf_len >= len) { /* run again */
		memset(req->buf, 0, req->buf_len);
		return req->buf;
	}
	if (req->flags & REQ_BUF_IO) {
		req->flags &= (uint8_t)~REQ_BUF_IO;
		req->sq->group->buf_used -= req->buf_len;
	}
	free(req->buf); /* cold: few commands have a buffer */
	req->buf_len = 0;
	if (posix_memalign(&req->buf, NVME_PAGE, len)) /* cold: likewise */
		req->buf = NULL;
	if (req->buf) {
		memset(req->buf, 0, len);
		req->buf_len = len;
	}
	return req->buf;
}

nvme_status_t
req_io_buf(struct nvme_req *req, uint32_t len)
{
	struct nvme_group *g = req->sq->group;

	if (req->flags & REQ_BUF_IO && req->buf_len >= len)
		return NVME_OK;
	if (g->buf_used && len > IO_BUF_BUDGET - g->buf_used)
		return req_park(req, &g->buf_waits);
	if (!req_buf(req, len))
		return NVME_SC_INTERNAL;
	req->flags |= REQ_BUF_IO;
	g->buf_used += req->buf_len;
	return NVME_OK;
}

nvme_status_t
req_long_iov(struct nvme_req *req)
{
	struct nvme_group *g = req->sq->group;
	struct iovec *iov = NULL;

	if (req->iov != req->inline_iov)
		return NVME_OK;
	if (g->iov_used < g->iov_quota)
		iov = pool_get(&g->core->iovs);
	if (!iov) {
		/* somebody of ours has one and will wake us */
		if (!g->iov_used)
			return NVME_SC_INTERNAL;
		return req_park(req, &g->buf_waits);
	}
	g->iov_used++;
	memcpy(iov, req->iov, req->iovcnt * sizeof(*iov));
	req->iov = iov;
	req_slow(req);
	return NVME_OK;
}

nvme_status_t
iov_add_slow(struct nvme_req *req, void *host, uint64_t len)
{
	nvme_status_t st = req_long_iov(req);

	if (st)
		return st;
	if (req->iovcnt >= REQ_MAX_IOV)
		return NVME_SC_SGL_INVALID_COUNT;
	req->iov[req->iovcnt++] = (struct iovec){ host, len };
	return NVME_OK;
}

nvme_status_t
req_map(struct nvme_req *req, uint32_t len, uint32_t prot)
{
	const struct nvme_sqe *sqe = &req->sqe;
	struct bad_range bad;
	nvme_status_t st;

	req->iovcnt = 0;
	switch (NVME_SQE_PSDT(sqe->flags)) {
	case 0:
		st = prp_map(req, sqe->prp1, sqe->prp2, len, prot, &bad);
		break;
	case 1:
		st = sgl_map(req, &sqe->sgl, len, prot, &bad);
		break;
	default: /* 10b: a metadata SGL, which SGLS does not offer (bit 19) */
		return NVME_DNR(NVME_SC_INVALID_FIELD);
	}
	if (likely(!st)) {
		req->seq = req->sq->group->seq++;
		return NVME_OK;
	}
	req->iovcnt = 0;
	if (st == NVME_SC_DATA_XFER_ERROR)
		return req_bad_memory(req, bad.iova, bad.len);
	return st == NVME_PENDING ? st : NVME_DNR(st);
}

void
iov_read(const struct iovec *iov, unsigned cnt, uint64_t off, void *buf,
	 uint32_t len)
{
	char *to = buf;

	for (unsigned i = 0; len && i < cnt; i++) {
		uint64_t n;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		n = MIN(len, iov[i].iov_len - off);
		guest_copy(to, (char *)iov[i].iov_base + off, n);
		to += n;
		len -= (uint32_t)n;
		off = 0;
	}
}

void
iov_write(const struct iovec *iov, unsigned cnt, uint64_t off, const void *buf,
	  uint32_t len)
{
	const char *from = buf;

	for (unsigned i = 0; len && i < cnt; i++) {
		uint64_t n;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		n = MIN(len, iov[i].iov_len - off);
		memcpy((char *)iov[i].iov_base + off, from, n);
		from += n;
		len -= (uint32_t)n;
		off = 0;
	}
}

nvme_status_t
req_to_host(struct nvme_req *req, const void *buf, uint32_t len)
{
	nvme_status_t st = len ? req_map(req, len, IOAS_WRITE) : NVME_OK;

	if (!st)
		iov_write(req->iov, req->iovcnt, 0, buf, len);
	req->iovcnt = 0;
	return st;
}

nvme_status_t
req_from_host(struct nvme_req *req, void *buf, uint32_t len)
{
	nvme_status_t st = len ? req_map(req, len, IOAS_READ) : NVME_OK;

	if (!st)
		iov_read(req->iov, req->iovcnt, 0, buf, len);
	req->iovcnt = 0;
	if (!st && ioas_faulted(req->sq->group->ioas))
		return NVME_SC_DATA_XFER_ERROR; /* made-up zeros */
	return st;
}
