/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table: extents ordered by IOVA, a B+tree with wide nodes.
 *
 * Not for: overlap rules, memory, permissions; it only keeps order.
 * A search reads two cache lines a level, a miss among small extents nothing
 * else; large tables remember which leaf has which part of the space, so most searches skip the levels above, and guess the
 * place in it, which is right where extents are spread evenly. No two extents share a page.
 * Thread: the owner's.
 */
#ifndef IOAS_TABLE_H
#define IOAS_TABLE_H

#include "belfry/util.h"

struct region;

struct extent {
	uint64_t len;
	uint64_t delta;	       /* host address = iova + delta */
	uint32_t prot;	       /* IOAS_READ | IOAS_WRITE | IOAS_NOHOST */
	uint16_t flags;	       /* EXTENT_* */
	uint16_t sub;	       /* the table's: where in its page it begins */
	struct region *region; /* where its first byte lies; NULL: none */
};
/* One DMA_MAP can make several extents; it goes whole or not at all. */
#define EXTENT_CONT 1u /* the one before belongs to the same map */
#define EXTENT_MORE 2u /* the next one belongs to the same map */

struct tnode;
struct finger;

struct table {
	struct tnode *root; /* NULL: empty */
	uint32_t count;
	uint32_t shape; /* changes when a leaf's share of the space does */
	struct finger *finger; /* large tables only: leaves found before */
	struct tleaf *tail;    /* the last one: who fills a table goes up */
};

/* A place in the table; good until the table changes. leaf NULL: none. */
struct cursor {
	struct tleaf *leaf;
	unsigned at;
};

/* The extent with the greatest IOVA at or below @iova. */
struct cursor table_floor(const struct table *t, uint64_t iova);
/* The first extent that ends after @iova (it may begin before it). */
struct cursor table_from(const struct table *t, uint64_t iova);
struct cursor table_first(const struct table *t);
/* How many end after @iova and begin at or below @last. */
uint32_t table_count(const struct table *t, uint64_t iova, uint64_t last);
struct cursor cursor_next(struct cursor c);
uint64_t cursor_iova(struct cursor c);
struct extent *cursor_extent(struct cursor c);

/* The extent that holds @iova, and where it begins; NULL: none. */
struct extent *table_lookup(const struct table *t, uint64_t iova,
			    uint64_t *start);

/* @iova must not be in the table. -ENOMEM: nothing changed. */
int table_insert(struct table *t, uint64_t iova, const struct extent *e);
/* @iova must be in the table. */
void table_remove(struct table *t, uint64_t iova);
void table_clear(struct table *t);

/* Is there an extent that touches [iova, iova + len)? @len > 0, no wrap. */
bool table_overlaps(const struct table *t, uint64_t iova, uint64_t len);

#endif
