/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The nodes of the B+tree: what table.c (search) and node.c (change) share. Not for others.
 */
#ifndef IOAS_NODE_H
#define IOAS_NODE_H

#include "table.h"

#define WIDTH 64
#define LINE 8 /* keys in a cache line */

/*
 * A key is the page where an extent begins, with its length in pages in the low bits when that
 * fits and the extent is made of whole pages; else 0, and only the extent tells. Keys from n
 * on are UINT64_MAX. idx[l] is the last key of line l, so that a search reads the line of idx and one line of
 * keys. In an inner node key[i] is a lower bound of child i's keys; key[0] is never compared.
 */
struct tnode {
	uint64_t idx[WIDTH / LINE - 1];
	uint16_t n;
	bool leaf;
	uint64_t key[WIDTH] cache_aligned;
} cache_aligned;
_Static_assert(offsetof(struct tnode, key) == CACHE_LINE,
	       "idx and n are a line");

#define PAGE_BITS 0xfffull
#define CODE_MAX 0xffeu /* the padding has 0xfff */

static inline uint64_t
key_of(uint64_t iova, uint64_t len)
{
	uint64_t key = iova & ~PAGE_BITS;

	if (key == iova && !(len & PAGE_BITS) && len >> 12 <= CODE_MAX)
		key |= len >> 12;
	return key;
}

struct tinner {
	struct tnode h;
	struct tnode *child[WIDTH];
};

struct tleaf {
	struct tnode h;
	struct extent val[WIDTH]; /* two a cache line, none in two */
	struct tleaf *prev, *next;
};
_Static_assert(CACHE_LINE % sizeof(struct extent) == 0 &&
		       offsetof(struct tleaf, val) % CACHE_LINE == 0,
	       "no extent is in two lines");

static inline struct tinner *
inner_of(struct tnode *n)
{
	return container_of(n, struct tinner, h);
}

static inline struct tleaf *
leaf_of(struct tnode *n)
{
	return container_of(n, struct tleaf, h);
}

/* How many keys are of @iova's page or below. No branch depends on the keys. */
static inline unsigned
node_rank(const struct tnode *n, uint64_t iova)
{
	unsigned line = 0, in = 0, i;
	const uint64_t *k;

	iova |= PAGE_BITS;
#pragma GCC unroll 16
	for (i = 0; i < WIDTH / LINE - 1; i++)
		line += n->idx[i] <= iova;
	k = &n->key[line * LINE];
#pragma GCC unroll 8
	for (i = 0; i < LINE; i++)
		in += k[i] <= iova;
	in += line * LINE;
	return MIN(in, n->n); /* the top page counts the padding too */
}

static inline unsigned
child_index(const struct tnode *n, uint64_t iova)
{
	unsigned r = node_rank(n, iova);

	return r ? r - 1 : 0;
}

/* table.c: it may have become large enough to remember leaves. */
void table_has_grown(struct table *t);

#endif
