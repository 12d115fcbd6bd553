/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * view: what a device sees: a table, its generation, and what left it lately.
 * Not for lookups (translate.c) or for changing the address space (map.c, unmap.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

void
view_init(struct ioas_view *v)
{
	v->head.gen = 1;
	v->table = &v->own;
}

void
view_changed(struct ioas_view *v)
{
	v->head.gen++;
}

void
view_recent(struct ioas_view *v, uint64_t iova, uint64_t last, uint64_t now)
{
	struct recent *r = &v->recent[(v->recent_at + RECENT - 1) % RECENT];

	if (r->when && r->last != UINT64_MAX && r->last + 1 == iova &&
	    now - r->when < RECENT_NS / 100) {
		r->last = last;
		return;
	}
	r = &v->recent[v->recent_at];
	if (r->when)
		v->lost = r->when;
	r->iova = iova;
	r->last = last;
	r->when = now;
	v->recent_at = (v->recent_at + 1) % RECENT;
}

bool
ioas_recently_unmapped(struct ioas_view *v, iova_t iova, uint64_t len)
{
	uint64_t now = util_now_ns(), last;
	unsigned i;

	if (!len)
		return false;
	last = len - 1 > UINT64_MAX - iova ? UINT64_MAX : iova + (len - 1);
	/* More than we remember: better wait for nothing than fail for nothing. */
	if (v->lost && now - v->lost < RECENT_NS)
		return true;
	for (i = 0; i < RECENT; i++) {
		struct recent *r =
			&v->recent[(v->recent_at + RECENT - 1 - i) % RECENT];

		if (!r->when || now - r->when >= RECENT_NS)
			return false; /* older ones follow */
		if (iova <= r->last && r->iova <= last)
			return true;
	}
	return false;
}

int
ioas_replica_create(struct ioas_view **out)
{
	struct ioas_view *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	view_init(v);
	*out = v;
	return 0;
}

void
ioas_replica_destroy(struct ioas_view *v)
{
	if (!v)
		return;
	table_clear(&v->own);
	free(v);
}

int
ioas_replica_map(struct ioas_view *v, const struct ioas_extent *e)
{
	struct extent x = { .len = e->len, .delta = e->delta, .prot = e->prot };

	if (table_overlaps(&v->own, e->iova, e->len))
		return -EEXIST;
	return table_insert(&v->own, e->iova, &x);
}

void
ioas_replica_unmap(struct ioas_view *v, const struct ioas_extent *e)
{
	struct cursor c = table_floor(&v->own, e->iova);

	if (!c.leaf || cursor_iova(c) != e->iova)
		return;
	table_remove(&v->own, e->iova);
	view_recent(v, e->iova, e->iova + e->len - 1, util_now_ns());
	view_changed(v);
}
