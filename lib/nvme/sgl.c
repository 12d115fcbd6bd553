/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scatter gather lists -> iovec (NVMe 2.0 §4.1.2).
 *
 * Descriptors are copied in pieces, each once. Their number is bounded here, for
 * a list may hold any number of empty ones. A list longer than the transfer is
 * fine (SGLS bit 18), a shorter one is not.
 */
#include "internal.h"

#define SGL_MAX_DESC 1024u /* four times the pages of the longest transfer */
#define SGL_CHUNK 32u	   /* descriptors copied at once */
#define SGL_USUAL 64u	   /* more of them cost, each about: */
#define SGL_NS 10u

struct sgl_walk {
	struct nvme_req *req;
	uint32_t left; /* bytes of the transfer that are not placed yet */
	uint32_t prot;
	uint32_t descs;
	struct bad_range *bad;
};

static nvme_status_t
sgl_data(struct sgl_walk *w, const struct nvme_sgl *d)
{
	struct nvme_req *req = w->req;
	struct nvme_sq *sq = req->sq;
	uint64_t addr = d->addr, len = MIN(d->len, w->left);

	if (d->len > UINT64_MAX - addr)
		goto bad;
	while (len) { /* a piece never crosses a page, so extents do not matter */
		uint64_t part = MIN(len, NVME_PAGE - addr % NVME_PAGE);
		void *host = ioas_translate(sq->group->view, &sq->hit, addr,
					    part, w->prot);
		nvme_status_t st;

		if (!host)
			goto bad;
		st = iov_add(req, host, part);
		if (st)
			return st;
		addr += part;
		len -= part;
		w->left -= (uint32_t)part;
	}
	return NVME_OK;
bad:
	*w->bad = (struct bad_range){ addr, d->len ? d->len : 1 };
	return NVME_SC_DATA_XFER_ERROR;
}

/* §4.1.2.1: where data goes to the controller a bit bucket has no effect. */
static nvme_status_t
sgl_bit_bucket(struct sgl_walk *w, const struct nvme_sgl *d)
{
	struct nvme_req *req = w->req;
	uint32_t len = MIN(d->len, w->left);

	if (!(w->prot & IOAS_WRITE))
		return NVME_OK;
	while (len) {
		uint32_t part = MIN(len, CORE_SCRATCH_LEN);
		nvme_status_t st;

		st = iov_add(req, req->sq->group->core->scratch, part);
		if (st)
			return st;
		len -= part;
		w->left -= part;
	}
	return NVME_OK;
}

/* Copy @n descriptors at @iova; they may cross pages and extents. */
static nvme_status_t
sgl_load(struct sgl_walk *w, uint64_t iova, struct nvme_sgl *out, uint32_t n)
{
	struct nvme_sq *sq = w->req->sq;
	struct nvme_group *g = sq->group;
	uint64_t len = n * sizeof(*out);
	char *to = (char *)out;

	if (len > UINT64_MAX - iova)
		goto bad;
	while (len) {
		uint64_t part = MIN(len, NVME_PAGE - iova % NVME_PAGE);
		const void *host = ioas_translate(g->view, &sq->hit, iova, part,
						  IOAS_READ);

		if (!host)
			goto bad;
		guest_copy(to, host, part);
		to += part;
		iova += part;
		len -= part;
	}
	if (likely(!ioas_faulted(g->ioas)))
		return NVME_OK;
	iova = 0;
bad:
	*w->bad = (struct bad_range){ iova, iova ? len : 0 };
	return NVME_SC_DATA_XFER_ERROR;
}

static bool
sgl_is_segment(const struct nvme_sgl *d)
{
	unsigned t = NVME_SGL_TYPE(d->type);

	return t == NVME_SGL_SEGMENT || t == NVME_SGL_LAST_SEGMENT;
}

/* Data or bit bucket. */
static nvme_status_t
sgl_leaf(struct sgl_walk *w, const struct nvme_sgl *d)
{
	if (NVME_SGL_SUBTYPE(d->type) != 0)
		return NVME_SC_SGL_INVALID_TYPE;
	switch (NVME_SGL_TYPE(d->type)) {
	case NVME_SGL_DATA:
		return sgl_data(w, d);
	case NVME_SGL_BIT_BUCKET:
		return sgl_bit_bucket(w, d);
	default:
		return NVME_SC_SGL_INVALID_TYPE;
	}
}

/*
 * The segment that *@seg describes. When it ends in a descriptor of another segment
 * that becomes *@seg, and *@more is set.
 */
static nvme_status_t
sgl_segment(struct sgl_walk *w, struct nvme_sgl *seg, bool *more)
{
	bool last = NVME_SGL_TYPE(seg->type) == NVME_SGL_LAST_SEGMENT;
	struct nvme_sgl d[SGL_CHUNK];
	uint32_t n = seg->len / sizeof(d[0]);
	uint64_t iova = seg->addr;

	*more = false;
	if (NVME_SGL_SUBTYPE(seg->type) != 0)
		return NVME_SC_SGL_INVALID_TYPE;
	if (!n || seg->len % sizeof(d[0]))
		return NVME_SC_SGL_INVALID_LAST;
	while (n && w->left) {
		uint32_t part = MIN(n, SGL_CHUNK);
		nvme_status_t st;

		if (part > SGL_MAX_DESC - w->descs)
			return NVME_SC_SGL_INVALID_COUNT;
		w->descs += part;
		st = sgl_load(w, iova, d, part);
		for (uint32_t i = 0; !st && w->left && i < part; i++) {
			if (!sgl_is_segment(&d[i])) {
				st = sgl_leaf(w, &d[i]);
				continue;
			}
			if (last || n - i != 1)
				return NVME_SC_SGL_INVALID_LAST;
			*seg = d[i];
			*more = true;
			return NVME_OK;
		}
		if (st)
			return st;
		iova += part * sizeof(d[0]);
		n -= part;
	}
	return NVME_OK;
}

nvme_status_t
sgl_map(struct nvme_req *req, const struct nvme_sgl *sgl, uint32_t len,
	uint32_t prot, struct bad_range *bad)
{
	struct sgl_walk w = { req, len, prot, 0, bad };
	struct nvme_sgl seg = *sgl;
	bool more = sgl_is_segment(&seg);
	nvme_status_t st = NVME_OK;

	*bad = (struct bad_range){ 0, 0 };
	if (!more)
		st = sgl_leaf(&w, &seg);
	while (!st && more && w.left)
		st = sgl_segment(&w, &seg, &more);
	if (!st && w.left)
		st = NVME_SC_SGL_INVALID_DATA;
	if (w.descs > SGL_USUAL)
		group_cost(req->sq->group, (w.descs - SGL_USUAL) * SGL_NS);
	return st;
}
