/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table: the B+tree changes. Not for searching (table.c).
 *
 * Full nodes are split on the way down, so an insert that runs out of memory leaves
 * a good tree. Siblings are merged on the way up when both fit in three quarters of one.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

#define MERGE (WIDTH * 3 / 4)

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
		else
			t->tail = r;
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

	if (!t->root) {
		t->root = node_create(true);
		if (!t->root)
			return -ENOMEM;
		t->tail = leaf_of(t->root);
	}
	n = &t->tail->h;
	i = n->n;
	/* Behind all others: no way down, which is most of a replica's filling. */
	if (i && i < WIDTH && n->key[i - 1] < key)
		goto put;
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
put:
	node_open(n, i, key);
	leaf_of(n)->val[i] = *e;
	leaf_of(n)->val[i].sub = iova & PAGE_BITS;
	t->count++;
	table_has_grown(t);
	return 0;
}

static void
leaf_unlink(struct table *t, struct tleaf *l)
{
	if (l->prev)
		l->prev->next = l->next;
	if (l->next)
		l->next->prev = l->prev;
	else
		t->tail = l->prev; /* NULL: table_remove() clears all */
}

/* Child @i + 1 of @p goes into child @i. */
static void
child_merge(struct table *t, struct tinner *p, unsigned i)
{
	struct tnode *a = p->child[i], *b = p->child[i + 1];

	if (b->leaf)
		leaf_unlink(t, leaf_of(b));
	else
		b->key[0] = p->h.key[i + 1];
	node_move(b, 0, a);
	free(b);
	node_close(&p->h, i + 1);
}

static void
child_drop(struct table *t, struct tinner *p, unsigned i)
{
	if (p->child[i]->leaf)
		leaf_unlink(t, leaf_of(p->child[i]));
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
		child_drop(t, p, i);
	else if (i + 1u < n->n && p->child[i]->n + p->child[i + 1]->n <= MERGE)
		child_merge(t, p, i);
	else if (i && p->child[i - 1]->n + p->child[i]->n <= MERGE)
		child_merge(t, p, i - 1);
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
