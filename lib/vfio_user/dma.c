/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA_MAP and DMA_UNMAP of a legacy connection: into IOAS 1. Not for iommufd
 * mode, where the client never chooses an address.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define LEGACY_IOAS 1

void
vu_op_done(struct ioas_op *op, int err)
{
	struct vu_session *s = container_of(op, struct vu_session, op);

	vu_complete(s, err);
}

int
vu_dma_map(struct vu_session *s, struct vu_msg *m)
{
	const uint32_t known = VU_DMA_MAP_READ | VU_DMA_MAP_WRITE |
			       VU_DMA_MAP_MMAP;
	struct vu_dma_map req;
	uint32_t prot = 0;
	int fd = -1, err;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags & ~(known | VU_DMA_MAP_FILE_IO))
		return -EINVAL;
	if (req.flags & VU_DMA_MAP_FILE_IO)
		return -ENOTSUP;
	if (m->nfds > 1 || (!m->nfds && (req.flags & VU_DMA_MAP_MMAP)))
		return -EINVAL;
	if (req.flags & VU_DMA_MAP_READ)
		prot |= IOAS_READ;
	if (req.flags & VU_DMA_MAP_WRITE)
		prot |= IOAS_WRITE;
	if (!req.size || !prot)
		return -EINVAL;
	if (m->nfds)
		fd = m->fds[0];
	/* ROMs, and RAM without an fd: known, but nothing that DMA reaches. */
	err = ioas_map(s->ioas, LEGACY_IOAS, req.address, req.size, fd,
		       fd < 0 ? 0 : req.offset, prot, &s->op);
	if (!err || err == -EINPROGRESS)
		m->fds[0] = -1; /* taken */
	return err;
}

/* SPDK's client sends a descriptor with it; it is closed with the message. */
int
vu_dma_unmap(struct vu_session *s, struct vu_msg *m)
{
	struct vu_dma_unmap req;
	void *reply;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags & ~(VU_DMA_UNMAP_DIRTY_BITMAP | VU_DMA_UNMAP_ALL))
		return -EINVAL;
	if (req.flags & VU_DMA_UNMAP_DIRTY_BITMAP)
		return -ENOTSUP;
	reply = vu_reply_alloc(s, sizeof(req));
	if (!reply)
		return -ENOMEM;
	memcpy(reply, &req, sizeof(req));
	if (req.flags & VU_DMA_UNMAP_ALL) {
		if (req.address || req.size)
			return -EINVAL;
		return ioas_unmap_all(s->ioas, LEGACY_IOAS, &s->op);
	}
	if (!req.size)
		return -EINVAL;
	return ioas_unmap(s->ioas, LEGACY_IOAS, req.address, req.size, &s->op);
}
