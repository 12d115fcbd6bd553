/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * translate: IOVA to host address, on the data path. Not for changing anything.
 */
#include <errno.h>

#include "internal.h"

void *
ioas_translate_slow(struct ioas_view *v, struct ioas_hit *hit, iova_t iova,
		    uint64_t len, uint32_t prot)
{
	uint64_t start, off;
	struct extent *e = table_lookup(v->table, iova, &start);

	if (!e)
		return NULL;
	off = iova - start;
	hit->iova = start;
	hit->len = e->len;
	hit->delta = e->delta;
	hit->prot = e->prot;
	hit->gen = v->head.gen;
	if (len > e->len - off || (e->prot & (prot | IOAS_NOHOST)) != prot)
		return NULL;
	return (void *)(uintptr_t)(iova + e->delta);
}

int
ioas_iov(struct ioas_view *v, struct ioas_hit *hit, iova_t iova, uint64_t len,
	 uint32_t prot, struct iovec *iov, unsigned max, unsigned *cnt)
{
	unsigned n = *cnt;
	size_t merged = n ? iov[n - 1].iov_len : 0; /* to be put back */
	uint64_t piece;
	char *host;
	int err = 0;

	if (len && len - 1 > UINT64_MAX - iova)
		return -EFAULT;
	while (len) {
		/* One byte finds the extent, hit tells how far it goes. */
		host = ioas_translate(v, hit, iova, 1, prot);
		if (!host) {
			err = -EFAULT;
			break;
		}
		piece = MIN(len, hit->len - (iova - hit->iova));
		if (n &&
		    (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == host) {
			iov[n - 1].iov_len += piece;
		} else if (n < max) {
			iov[n].iov_base = host;
			iov[n++].iov_len = piece;
		} else {
			err = -E2BIG;
			break;
		}
		iova += piece;
		len -= piece;
	}
	if (!err)
		*cnt = n;
	else if (*cnt)
		iov[*cnt - 1].iov_len = merged;
	return err;
}
