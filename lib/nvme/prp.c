/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PRP entries and lists -> iovec (NVMe 2.0 §4.1.1).
 *
 * Each page of a list is copied once and the copy used. The number of entries
 * follows from the length of the transfer, so a chain cannot be endless.
 */
#include "internal.h"

#define LIST_ENTRIES (NVME_PAGE / sizeof(uint64_t))
#define PRP_USUAL 64u /* more of them cost, each about: */
#define PRP_NS 8u

static nvme_status_t
prp_add(struct nvme_req *req, uint64_t prp, uint32_t len, uint32_t prot,
	struct bad_range *bad)
{
	struct nvme_sq *sq = req->sq;
	void *host = ioas_translate(sq->group->view, &sq->hit, prp, len, prot);

	if (unlikely(!host)) {
		*bad = (struct bad_range){ prp, len };
		return NVME_SC_DATA_XFER_ERROR;
	}
	return iov_add(req, host, len);
}

/* Copy the @n entries at @iova, which do not cross a page. */
static nvme_status_t
prp_load(struct nvme_req *req, uint64_t iova, uint64_t *list, uint32_t n,
	 struct bad_range *bad)
{
	struct nvme_group *g = req->sq->group;
	struct ioas_hit *hit = &req->sq->hit;
	uint64_t len = n * sizeof(*list);
	const void *host = ioas_translate(g->view, hit, iova, len, IOAS_READ);

	if (unlikely(!host)) {
		*bad = (struct bad_range){ iova, len };
		return NVME_SC_DATA_XFER_ERROR;
	}
	guest_copy(list, host, len);
	if (unlikely(ioas_faulted(g->ioas))) {
		*bad = (struct bad_range){ 0, 0 };
		return NVME_SC_DATA_XFER_ERROR;
	}
	return NVME_OK;
}

/* @len bytes, two pages or more, lie behind the list at @iova. */
static nvme_status_t
prp_list(struct nvme_req *req, uint64_t iova, uint32_t len, uint32_t prot,
	 struct bad_range *bad)
{
	uint64_t list[LIST_ENTRIES];
	uint32_t left = DIV_ROUND_UP(len, NVME_PAGE);

	if (iova & 7)
		return NVME_SC_PRP_INVALID_OFFSET;
	if (left > PRP_USUAL)
		group_cost(req->sq->group, (left - PRP_USUAL) * PRP_NS);
	for (;;) {
		uint32_t room = (uint32_t)(NVME_PAGE - iova % NVME_PAGE) / 8;
		uint32_t n = MIN(left, room);
		bool chained = left > room; /* then the last one is a pointer */
		nvme_status_t st = prp_load(req, iova, list, n, bad);

		for (uint32_t i = 0; !st && i < n - chained; i++) {
			uint32_t part = MIN(len, NVME_PAGE);

			if (unlikely(list[i] % NVME_PAGE))
				return NVME_SC_PRP_INVALID_OFFSET;
			st = prp_add(req, list[i], part, prot, bad);
			len -= part;
		}
		if (unlikely(st))
			return st;
		if (!chained)
			return NVME_OK;
		left -= n - 1;
		iova = list[n - 1];
		if (iova % NVME_PAGE)
			return NVME_SC_PRP_INVALID_OFFSET;
	}
}

nvme_status_t
prp_map(struct nvme_req *req, uint64_t prp1, uint64_t prp2, uint32_t len,
	uint32_t prot, struct bad_range *bad)
{
	uint32_t first = (uint32_t)(NVME_PAGE - prp1 % NVME_PAGE);
	nvme_status_t st;

	*bad = (struct bad_range){ 0, 0 };
	if (unlikely(prp1 & 3))
		return NVME_SC_PRP_INVALID_OFFSET;
	if (likely(len <= first))
		return prp_add(req, prp1, len, prot, bad);
	st = prp_add(req, prp1, first, prot, bad);
	if (unlikely(st))
		return st;
	len -= first;
	if (len > NVME_PAGE)
		return prp_list(req, prp2, len, prot, bad);
	if (unlikely(prp2 % NVME_PAGE))
		return NVME_SC_PRP_INVALID_OFFSET;
	return prp_add(req, prp2, len, prot, bad);
}
