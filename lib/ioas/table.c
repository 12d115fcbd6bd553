/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table: searches in the B+tree. Not for its changes (node.c), nor for rules about what may be mapped (map.c).
 */
#include <stdlib.h>

#include "node.h"

/*
 * A miss among 100 000 extents may not cost more than three among 16: from FINGER_MIN on, a
 * direct-mapped cache leads from a part of the space to its leaf (6 ns instead of 20). It lives until a leaf is
 * split, merged or dropped.
 *
 * What is left is waiting for lines in no near cache, one after the other: idx, keys, extent.
 * Extents are mostly spread evenly, so their place in the leaf is guessed: key and extent come
 * together, idx is not read (a hit 22 ns instead of 34, bench/ioas). Huge pages gain nothing here.
 * Where extents are spread unevenly it is as without: a leaf whose guess was wrong makes no more.
 */
#define FINGER_MIN 4096u
#define FINGERS 8192u
#define FINGER_SAMPLE 512u
#define DENSITY_BITS 31 /* one extent a page fits in 32 bits */

struct leaf_finger {
	uint64_t low, span;
	struct tleaf *leaf;
	uint32_t shape;
	uint32_t density; /* extents a page, in 2^-DENSITY_BITS; 0: uneven */
};

struct finger {
	unsigned shift; /* how much of the space shares an entry */
	uint32_t shift_shape;
	unsigned sum, seen; /* of the leaves' sizes, by their logarithms */
	struct leaf_finger at[FINGERS];
};

void
table_has_grown(struct table *t)
{
	if (likely(t->count < FINGER_MIN || t->finger))
		return;
	t->finger = calloc(1, sizeof(*t->finger)); /* or do without */
	t->shape++; /* not 0: that is what the entries have */
}

uint64_t
cursor_iova(struct cursor c)
{
	return (c.leaf->h.key[c.at] & ~PAGE_BITS) + c.leaf->val[c.at].sub;
}

struct extent *
cursor_extent(struct cursor c)
{
	return &c.leaf->val[c.at];
}

static struct cursor
cursor_prev(struct cursor c)
{
	if (c.at--)
		return c;
	c.leaf = c.leaf->prev;
	c.at = c.leaf ? c.leaf->h.n - 1u : 0;
	return c;
}

static inline unsigned
finger_guess(const struct leaf_finger *lf, uint64_t iova)
{
	/* Below span times density, so about WIDTH << DENSITY_BITS: no overflow. */
	return (((iova - lf->low) >> 12) * lf->density >> DENSITY_BITS) % WIDTH;
}

/* Rounded up, so that the first page of an extent is not taken for the one before. */
static uint32_t
leaf_density(uint64_t span, unsigned n)
{
	uint64_t pages = span >> 12;

	/* Fewer pages than extents: it is the end of the space. */
	if (n > pages)
		return 0;
	return (uint32_t)((((uint64_t)n << DENSITY_BITS) + pages - 1) / pages);
}

/* The guess was wrong: the leaf has changed since, or its extents are spread unevenly. */
static void
finger_reguess(struct leaf_finger *lf, uint64_t iova, unsigned at)
{
	lf->density = leaf_density(lf->span, lf->leaf->h.n);
	if (finger_guess(lf, iova) != at)
		lf->density = 0;
}

/* Down the tree, and remember where that led. */
static struct leaf_finger *
finger_fill(const struct table *t, uint64_t iova)
{
	uint64_t low = 0, high = UINT64_MAX;
	struct finger *f = t->finger;
	struct tnode *n = t->root;
	unsigned i;

	while (!n->leaf) {
		i = child_index(n, iova);
		if (i)
			low = n->key[i] & ~PAGE_BITS;
		if (i + 1u < n->n)
			high = n->key[i + 1] & ~PAGE_BITS;
		n = inner_of(n)->child[i];
	}
	if (f->shift_shape != t->shape) {
		f->shift_shape = t->shape;
		f->shift = 63;
		f->sum = f->seen = 0;
	}
	/*
	 * Twice as fine as most leaves are, as two that share a place take it from each other; by the finest,
	 * scattered extents would have far more places than there are entries. Those at the ends seem vast.
	 */
	if (f->seen < FINGER_SAMPLE && high - low < 1ull << 60) {
		f->sum += ilog2((high - low) | 4096);
		f->shift = f->sum / ++f->seen - 1;
	}
	i = (iova >> f->shift) % FINGERS;
	f->at[i] = (struct leaf_finger){
		.low = low,
		.span = high - low,
		.leaf = leaf_of(n),
		.shape = t->shape,
		.density = leaf_density(high - low, n->n),
	};
	return &f->at[i];
}

/* Is @at the last of the leaf's keys that is of @iova's page or below? */
static inline bool
finger_right(const struct tnode *n, unsigned at, uint64_t iova)
{
	/* No key is that, but the padding. */
	iova |= PAGE_BITS;
	return (n->key[at] < iova) &
	       ((n->key[MIN(at + 1, WIDTH - 1u)] > iova) | (at == WIDTH - 1));
}

/* page_floor() of large tables. */
static inline struct cursor
finger_floor(const struct table *t, uint64_t iova)
{
	struct finger *f = t->finger;
	struct leaf_finger *lf = &f->at[(iova >> f->shift) % FINGERS];
	struct cursor c;

	if (unlikely(iova - lf->low >= lf->span || lf->shape != t->shape))
		lf = finger_fill(t, iova);
	c.leaf = lf->leaf;
	c.at = finger_guess(lf, iova);
	if (finger_right(&c.leaf->h, c.at, iova))
		return c;
	c.at = node_rank(&c.leaf->h, iova);
	/* When this leaf's first has gone, the one before has it. */
	c = cursor_prev(c);
	if (lf->density)
		finger_reguess(lf, iova, c.at);
	return c;
}

/* The last extent that begins in @iova's page or below. */
static inline struct cursor
page_floor(const struct table *t, uint64_t iova)
{
	struct cursor c = { NULL, 0 };
	struct tnode *n = t->root;

	if (!n)
		return c;
	if (t->finger)
		return finger_floor(t, iova);
	while (!n->leaf)
		n = inner_of(n)->child[child_index(n, iova)];
	c.leaf = leaf_of(n);
	c.at = node_rank(n, iova);
	return cursor_prev(c);
}

struct cursor
table_floor(const struct table *t, uint64_t iova)
{
	struct cursor c = page_floor(t, iova);

	if (c.leaf && cursor_iova(c) > iova)
		c = cursor_prev(c);
	return c;
}

struct extent *
table_lookup(const struct table *t, uint64_t iova, uint64_t *start)
{
	struct cursor c = page_floor(t, iova);
	uint64_t key, pages;

	if (!c.leaf)
		return NULL;
	key = c.leaf->h.key[c.at];
	pages = key & PAGE_BITS;
	if (likely(pages)) {
		*start = key & ~PAGE_BITS;
		return iova - *start < pages << 12 ? cursor_extent(c) : NULL;
	}
	if (cursor_iova(c) > iova) { /* begins later in the same page */
		c = cursor_prev(c);
		if (!c.leaf)
			return NULL;
	}
	*start = cursor_iova(c);
	return iova - *start < cursor_extent(c)->len ? cursor_extent(c) : NULL;
}

struct cursor
table_first(const struct table *t)
{
	struct cursor c = { NULL, 0 };
	struct tnode *n = t->root;

	if (!n)
		return c;
	while (!n->leaf)
		n = inner_of(n)->child[0];
	c.leaf = leaf_of(n);
	return c;
}

struct cursor
cursor_next(struct cursor c)
{
	if (++c.at >= c.leaf->h.n) {
		c.leaf = c.leaf->next;
		c.at = 0;
	}
	return c;
}

struct cursor
table_from(const struct table *t, uint64_t iova)
{
	struct cursor c = table_floor(t, iova);

	if (!c.leaf)
		return table_first(t);
	if (iova - cursor_iova(c) < cursor_extent(c)->len)
		return c;
	return cursor_next(c);
}

uint32_t
table_count(const struct table *t, uint64_t iova, uint64_t last)
{
	struct cursor c = table_from(t, iova), end = table_floor(t, last);
	uint32_t n = 0;

	if (!c.leaf || cursor_iova(c) > last)
		return 0;
	for (; c.leaf != end.leaf; c.leaf = c.leaf->next, c.at = 0)
		n += c.leaf->h.n - c.at;
	return n + end.at + 1 - c.at;
}

bool
table_overlaps(const struct table *t, uint64_t iova, uint64_t len)
{
	struct cursor c;

	/* behind all that is there, as when a replica is filled */
	if (t->tail && t->tail->h.key[t->tail->h.n - 1] < (iova & ~PAGE_BITS)) {
		c.leaf = t->tail;
		c.at = t->tail->h.n - 1u;
		return iova - cursor_iova(c) < cursor_extent(c)->len;
	}
	c = table_from(t, iova);

	return c.leaf &&
	       (cursor_iova(c) <= iova || cursor_iova(c) - iova < len);
}
