/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling submission entries: reads, writes and PRPs (NVMe 2.0 §4.1.1). Not for
 * sending them.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define OPC_WRITE 0x01
#define OPC_READ 0x02

void
belfry_sqe_rw(struct belfry_sqe *sqe, bool write, uint32_t nsid, uint64_t lba,
	      uint32_t nlb, uint16_t cid)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->dw[0] = (write ? OPC_WRITE : OPC_READ) | (uint32_t)cid << 16;
	sqe->dw[1] = nsid;
	sqe->dw[10] = (uint32_t)lba;
	sqe->dw[11] = (uint32_t)(lba >> 32);
	sqe->dw[12] = (nlb - 1) & 0xffff;
}

static void
set_prp(struct belfry_sqe *sqe, unsigned at, uint64_t iova)
{
	sqe->dw[at] = (uint32_t)iova;
	sqe->dw[at + 1] = (uint32_t)(iova >> 32);
}

int
belfry_sqe_prp(struct belfry_sqe *sqe, uint64_t iova, uint32_t len,
	       uint64_t *list, uint64_t list_iova)
{
	uint64_t first = NVME_PAGE - iova % NVME_PAGE;
	uint32_t pages;

	if (iova % 4 || !range_inside(iova, len, UINT64_MAX))
		return -EINVAL;
	set_prp(sqe, 6, iova);
	set_prp(sqe, 8, 0);
	if (len <= first)
		return 0;
	iova += first;
	pages = (uint32_t)DIV_ROUND_UP(len - first, NVME_PAGE);
	if (pages == 1) {
		set_prp(sqe, 8, iova);
		return 0;
	}
	if (!list || list_iova % 8)
		return -EINVAL;
	if (pages > (NVME_PAGE - list_iova % NVME_PAGE) / sizeof(*list))
		return -E2BIG;
	for (uint32_t i = 0; i < pages; i++)
		list[i] = iova + (uint64_t)i * NVME_PAGE;
	set_prp(sqe, 8, list_iova);
	return 0;
}
