/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pieces of the data path that are not worth a call: with them inlined a 4 KiB read
 * on the null device takes 320 instructions instead of 536 (test/bench/path.c). Included by internal.h.
 * Read nvme/poll.c first: it is the way in.
 *
 * What a request on the free list is like: REQ_* flags, unmaps, dw and buf are zero; only
 * requests with REQ_SLOW touch what req_free_slow() clears.
 */
#ifndef BELFRY_NVME_INLINE_H
#define BELFRY_NVME_INLINE_H

/*
 * req_map() for the usual: one page, by PRP, in the extent that the queue hit last.
 * false: anything else, an error too; req_map() finds out.
 */
static inline bool
req_map_page(struct nvme_req *req, uint32_t len, uint32_t prot)
{
	struct nvme_sq *sq = req->sq;
	struct nvme_group *g = sq->group;
	uint64_t prp1 = req->sqe.prp1;
	void *host;

	if (unlikely((prp1 & (NVME_PAGE - 1)) + len > NVME_PAGE || prp1 & 3 ||
		     NVME_SQE_PSDT(req->sqe.flags)))
		return false;
	host = ioas_translate_hit(g->view, &sq->hit, prp1, len, prot);
	if (unlikely(!host))
		return false;
	req->inline_iov[0] = (struct iovec){ host, len };
	req->iovcnt = 1;
	req->seq = g->seq++;
	return true;
}

/* Entries that the host has not taken, as of the last look at its head. */
static inline uint32_t
cq_used(const struct nvme_cq *cq)
{
	return cq->tail >= cq->head ? cq->tail - cq->head
				    : cq->tail + cq->depth - cq->head;
}

/*
 * Entries that may be promised. One slot stays empty: full and empty would
 * look alike.
 */
static inline uint32_t
cq_room(const struct nvme_cq *cq)
{
	return cq->depth - 1 - cq_used(cq) - cq->busy;
}

/* The queue has a new entry: its vector is due at the end of the round. */
static inline void
cq_mark(struct nvme_cq *cq)
{
	if (cq->ien) {
		cq->unsignalled++;
		if (!cq->irq_pending)
			cq_owe(cq);
	}
}

/* There is room: it was promised when the command was fetched. */
static inline void
cq_post(struct nvme_cq *cq, const struct nvme_req *req, nvme_status_t status)
{
	uint32_t i = cq->tail;
	uint64_t *cqe = (uint64_t *)((char *)cq->page[i / 256] +
				     i % 256 * sizeof(struct nvme_cqe));
	struct nvme_sq *sq = req->sq;

	cqe[0] = req->dw;
	/* pairs with the host's look at the phase bit, which is in it */
	__atomic_store_n(&cqe[1],
			 (sq->head | sq->id_word) |
				 (uint64_t)(req->sqe.cid |
					    (uint32_t)status << 17 | cq->phase)
					 << 32,
			 __ATOMIC_RELEASE);
	if (unlikely(++i == cq->depth)) {
		i = 0;
		cq->phase ^= CQE_PHASE;
	}
	cq->tail = i;
	cq->busy--;
	cq_mark(cq);
}

/* A request of the queue, to be counted by sq_promise(). NULL: none is left. */
static inline struct nvme_req *
req_get(struct nvme_sq *sq, struct nvme_pool *pool)
{
	struct nvme_req *req = pool_get(pool);

	if (unlikely(!req))
		return NULL;
	req->sq = sq;
	req->ns = NULL;
	req->iov = req->inline_iov;
	req->iovcnt = 0;
	return req;
}

/* @n requests were taken, and as many slots of the CQ are theirs. */
static inline void
sq_promise(struct nvme_sq *sq, unsigned n)
{
	sq->cq->busy += n;
	sq->inflight_n += n;
	*sq->used += n;
}

/* Posted or forgotten. */
static inline void
req_free(struct nvme_req *req)
{
	struct nvme_sq *sq = req->sq;

	req->node.prev->next = req->node.next;
	req->node.next->prev = req->node.prev;
	(*sq->used)--;
	if (unlikely(req->flags & REQ_SLOW))
		req_free_slow(req);
	if (unlikely(--sq->inflight_n == 0 && sq->stop))
		group_work(sq->group);
	pool_put(&sq->group->core->reqs, req);
}

/* Run it, or run it again. */
static inline void
req_start(struct nvme_req *req)
{
	nvme_status_t st = likely(req->sq->sqid) ? io_start(req)
						 : admin_start(req);

	if (unlikely(st != NVME_PENDING))
		req_complete(req, st);
}

/* req_complete() for the usual: I/O on one namespace that went well. */
static inline void
req_finish_io(struct nvme_req *req)
{
	struct nvme_sq *sq = req->sq;
	struct nvme_cq *cq = sq->cq;
	struct nvme_nsref *ns = req->ns;

	if (unlikely(req->flags | req->unmaps) || unlikely(cq->hold)) {
		req_complete(req, NVME_OK);
		return;
	}
	if (--ns->inflight == 0 && unlikely(ns->removing))
		ns_drained(ns);
	cq_post(cq, req, NVME_OK);
	req_free(req);
}

/* Append one host piece to req->iov; merged with the one before where memory continues. */
static inline nvme_status_t
iov_add(struct nvme_req *req, void *host, uint64_t len)
{
	struct iovec *iov = &req->iov[req->iovcnt];

	if (req->iovcnt &&
	    (char *)iov[-1].iov_base + iov[-1].iov_len == (char *)host) {
		iov[-1].iov_len += len;
		return NVME_OK;
	}
	if (unlikely(req->iovcnt >= REQ_INLINE_IOV))
		return iov_add_slow(req, host, len);
	iov->iov_base = host;
	iov->iov_len = len;
	req->iovcnt++;
	return NVME_OK;
}

#endif
