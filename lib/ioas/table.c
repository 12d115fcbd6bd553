/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table: the B+tree. Not for rules about what may be mapped (map.c).
 *
 * Full nodes are split on the way down, so an insert that runs out of memory leaves
 * a good tree. Siblings are merged on the way up when both fit in three quarters of one.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define WIDTH 64
#define LINE 8 /* keys in a cache line */
#define MERGE (WIDTH * 3 / 4)

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

static uint64_t
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

static struct tinner *
inner_of(struct tnode *n)
{
	return container_of(n, struct tinner, h);
}

static struct tleaf *
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

static unsigned
child_index(const struct tnode *n, uint64_t iova)
{
	unsigned r = node_rank(n, iova);

	return r ? r - 1 : 0;
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

bool
table_overlaps(const struct table *t, uint64_t iova, uint64_t len)
{
	struct cursor c = table_from(t, iova);

	return c.leaf &&
	       (cursor_iova(c) <= iova || cursor_iova(c) - iova < len);
}

static void
node_index(struct tnode *n)
{
	unsigned i;

	for (i = 0; i < WIDTH / LINE - 1; i++)
		n->idx[i] = n->key[i * LINE + LINE - 1];
}

static struct tnode *
node_create(bool leaf)
{
	size_t len = leaf ? sizeof(struct tleaf) : sizeof(struct tinner);
	struct tnode *n = aligned_alloc(CACHE_LINE, len);

	if (!n)
		return NULL;
	memset(n, 0, len);
	memset(n->key, 0xff, sizeof(n->key));
	n->leaf = leaf;
	node_index(n);
	return n;
}

/* Move entries [from, n) of @a to the end of @b. */
static void
node_move(struct tnode *a, unsigned from, struct tnode *b)
{
	unsigned n = a->n - from;

	memcpy(&b->key[b->n], &a->key[from], n * sizeof(a->key[0]));
	memset(&a->key[from], 0xff, n * sizeof(a->key[0]));
	if (a->leaf)
		memcpy(&leaf_of(b)->val[b->n], &leaf_of(a)->val[from],
		       n * sizeof(struct extent));
	else
		memcpy(&inner_of(b)->child[b->n], &inner_of(a)->child[from],
		       n * sizeof(struct tnode *));
	a->n = (uint16_t)from;
	b->n = (uint16_t)(b->n + n);
	node_index(a);
	node_index(b);
}

static void
node_open(struct tnode *n, unsigned at, uint64_t key)
{
	unsigned tail = n->n - at;

	memmove(&n->key[at + 1], &n->key[at], tail * sizeof(n->key[0]));
	if (n->leaf)
		memmove(&leaf_of(n)->val[at + 1], &leaf_of(n)->val[at],
			tail * sizeof(struct extent));
	else
		memmove(&inner_of(n)->child[at + 1], &inner_of(n)->child[at],
			tail * sizeof(struct tnode *));
	n->key[at] = key;
	n->n++;
	node_index(n);
}

static void
node_close(struct tnode *n, unsigned at)
{
	unsigned tail = n->n - at - 1u;

	memmove(&n->key[at], &n->key[at + 1], tail * sizeof(n->key[0]));
	if (n->leaf)
		memmove(&leaf_of(n)->val[at], &leaf_of(n)->val[at + 1],
			tail * sizeof(struct extent));
	else
		memmove(&inner_of(n)->child[at], &inner_of(n)->child[at + 1],
			tail * sizeof(struct tnode *));
	n->n--;
	n->key[n->n] = UINT64_MAX;
	node_index(n);
}

/*
 * Split the full child @i of @p to make room for @key. Keys that only ever
 * grow (or shrink) leave full nodes behind instead of half full ones.
 */
static int
child_split(struct table *t, struct tinner *p, unsigned i, uint64_t key)
{
	struct tnode *a = p->child[i], *b = node_create(a->leaf);
	unsigned at = WIDTH / 2;

	if (!b)
		return -ENOMEM;
	if (key > a->key[WIDTH - 1] && i == p->h.n - 1u)
		at = WIDTH - 1;
	else if (key < a->key[0] && i == 0)
		at = 1;
	t->shape++;
	node_move(a, at, b);
	if (a->leaf) {
		struct tleaf *l = leaf_of(a), *r = leaf_of(b);

		r->prev = l;
		r->next = l->next;
		if (r->next)
			r->next->prev = r;
		l->next = r;
	}
	node_open(&p->h, i + 1, b->key[0]);
	p->child[i + 1] = b;
	return 0;
}

static int
root_grow(struct table *t)
{
	struct tnode *top = node_create(false);

	if (!top)
		return -ENOMEM;
	inner_of(top)->child[0] = t->root;
	top->key[0] = t->root->key[0];
	top->n = 1;
	node_index(top);
	t->root = top;
	return 0;
}

int
table_insert(struct table *t, uint64_t iova, const struct extent *e)
{
	uint64_t key = key_of(iova, e->len);
	struct tnode *n;
	unsigned i;

	if (!t->root && !(t->root = node_create(true)))
		return -ENOMEM;
	if (t->root->n == WIDTH && root_grow(t))
		return -ENOMEM;
	for (n = t->root; !n->leaf; n = inner_of(n)->child[i]) {
		i = child_index(n, iova);
		if (inner_of(n)->child[i]->n == WIDTH) {
			if (child_split(t, inner_of(n), i, key))
				return -ENOMEM;
			if (key >= n->key[i + 1])
				i++;
		}
		if (key < n->key[i]) { /* i is 0 */
			n->key[i] = key;
			node_index(n);
		}
	}
	i = node_rank(n, iova);
	node_open(n, i, key);
	leaf_of(n)->val[i] = *e;
	leaf_of(n)->val[i].sub = iova & PAGE_BITS;
	if (unlikely(++t->count >= FINGER_MIN && !t->finger)) {
		t->finger = calloc(1, sizeof(*t->finger)); /* or do without */
		t->shape++; /* not 0: that is what the entries have */
	}
	return 0;
}

static void
leaf_unlink(struct tleaf *l)
{
	if (l->prev)
		l->prev->next = l->next;
	if (l->next)
		l->next->prev = l->prev;
}

/* Child @i + 1 of @p goes into child @i. */
static void
child_merge(struct tinner *p, unsigned i)
{
	struct tnode *a = p->child[i], *b = p->child[i + 1];

	if (b->leaf)
		leaf_unlink(leaf_of(b));
	else
		b->key[0] = p->h.key[i + 1];
	node_move(b, 0, a);
	free(b);
	node_close(&p->h, i + 1);
}

static void
child_drop(struct tinner *p, unsigned i)
{
	if (p->child[i]->leaf)
		leaf_unlink(leaf_of(p->child[i]));
	free(p->child[i]);
	node_close(&p->h, i);
}

/* At most as deep as the tree: four. */
static void
node_remove(struct table *t, struct tnode *n, uint64_t iova)
{
	unsigned i = child_index(n, iova);
	struct tinner *p;

	if (n->leaf) {
		assert(n->n && n->key[i] >> 12 == iova >> 12);
		node_close(n, i);
		return;
	}
	p = inner_of(n);
	node_remove(t, p->child[i], iova);
	if (!p->child[i]->n)
		child_drop(p, i);
	else if (i + 1u < n->n && p->child[i]->n + p->child[i + 1]->n <= MERGE)
		child_merge(p, i);
	else if (i && p->child[i - 1]->n + p->child[i]->n <= MERGE)
		child_merge(p, i - 1);
	else
		return;
	t->shape++;
}

static void
node_destroy(struct tnode *n)
{
	unsigned i;

	if (!n->leaf)
		for (i = 0; i < n->n; i++)
			node_destroy(inner_of(n)->child[i]);
	free(n);
}

void
table_clear(struct table *t)
{
	if (t->root)
		node_destroy(t->root);
	free(t->finger);
	*t = (struct table){ .shape = t->shape + 1 };
}

void
table_remove(struct table *t, uint64_t iova)
{
	struct tnode *n;

	node_remove(t, t->root, iova);
	t->count--;
	while (!(n = t->root)->leaf && n->n == 1) {
		t->root = inner_of(n)->child[0];
		free(n);
	}
	if (!n->n)
		table_clear(t);
}
