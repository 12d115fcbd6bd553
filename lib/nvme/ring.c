/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue's ring as an array of host pages. It may lie in several extents that
 * are adjacent in IOVA and scattered in the host (a guest with a virtual IOMMU).
 * Pages come and go with the mappings; the queue pauses while one is missing.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

bool
ring_resolve(struct nvme_ring *ring, struct ioas_view *view)
{
	for (uint32_t i = 0; ring->missing && i < ring->npages; i++) {
		if (ring->page[i])
			continue;
		ring->page[i] = ioas_translate(
			view, &ring->hit, ring->iova + (uint64_t)i * NVME_PAGE,
			NVME_PAGE, ring->prot);
		if (ring->page[i])
			ring->missing--;
	}
	return ring->missing == 0;
}

/*
 * @iova is page-aligned. Unless @lenient, a ring whose memory is not there, nor
 * was a moment ago, is refused.
 */
nvme_status_t
ring_init(struct nvme_ring *ring, struct nvme_group *g, iova_t iova,
	  uint64_t len, uint32_t prot, bool lenient)
{
	uint32_t n = (uint32_t)DIV_ROUND_UP(len, NVME_PAGE);

	*ring = (struct nvme_ring){
		.iova = iova, .npages = n, .missing = n, .prot = prot
	};
	if (len > UINT64_MAX - iova)
		return NVME_DNR(NVME_SC_INVALID_FIELD);
	ring->page = calloc(n, sizeof(*ring->page));
	if (!ring->page)
		return NVME_SC_INTERNAL;
	if (ring_resolve(ring, g->view) || lenient ||
	    ioas_recently_unmapped(g->view, iova, (uint64_t)n * NVME_PAGE))
		return NVME_OK;
	ring_fini(ring);
	return NVME_SC_DATA_XFER_ERROR;
}

void
ring_fini(struct nvme_ring *ring)
{
	free(ring->page);
	ring->page = NULL;
}

bool
ring_unmap(struct nvme_ring *ring, iova_t iova, uint64_t len)
{
	uint64_t bytes = (uint64_t)ring->npages * NVME_PAGE;
	bool lost = false;

	/* no overlap? by subtraction: neither end may wrap */
	if (iova >= ring->iova ? iova - ring->iova >= bytes
			       : ring->iova - iova >= len)
		return false;
	for (uint32_t i = 0; i < ring->npages; i++) {
		uint64_t page = ring->iova + (uint64_t)i * NVME_PAGE;

		if (ring->page[i] && page >= iova && page - iova < len) {
			ring->page[i] = NULL;
			ring->missing++;
			lost = true;
		}
	}
	return lost;
}
