/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: aligned buffers for I/O whose memory breaks the device's alignment.
 *
 * One bounded pool a reactor, in two sizes, so that small odd reads do not wait
 * for large ones. A disk may have as many as are still free, and waits for more, never
 * fails: so one that hangs leaves half of them to the others.
 * Not here: copying (file_io.c).
 */
#include <string.h>

#include "file.h"

#define SMALL_COUNT 64
#define LARGE_COUNT 8

static void
class_init(struct bounce_class *c, uint32_t buf_len, unsigned count)
{
	c->buf_len = buf_len;
	c->count = count;
	list_init(&c->users);
}

void
bounce_init(struct bounce_pool *p, struct reactor *r)
{
	p->reactor = r;
	class_init(&p->small, BOUNCE_SMALL, SMALL_COUNT);
	class_init(&p->large, BOUNCE_LARGE, LARGE_COUNT);
}

void
bounce_user_init(struct bounce_user *u)
{
	u->used = 0;
	list_init(&u->waiting);
	list_init(&u->node);
}

static void
class_fini(struct bounce_class *c)
{
	if (c->mem)
		reactor_mem_free(c->mem, (size_t)c->buf_len * c->count);
	c->mem = c->free = NULL;
}

void
bounce_fini(struct bounce_pool *p)
{
	class_fini(&p->small);
	class_fini(&p->large);
}

static bool
is_small(uint64_t len)
{
	return len <= BOUNCE_SMALL;
}

static struct bounce_class *
class_of(struct bounce_pool *p, uint64_t len)
{
	return is_small(len) ? &p->small : &p->large;
}

static struct bounce_user *
user_of(const struct bdev_io *io)
{
	struct file_ch *ch = file_ch_of(io);

	return is_small(io->len) ? &ch->small : &ch->large;
}

static void
push(struct bounce_class *c, char *buf)
{
	memcpy(buf, &c->free, sizeof(c->free));
	c->free = buf;
	c->nfree++;
}

static char *
pop(struct bounce_class *c, struct bounce_user *u)
{
	char *buf = c->free;

	memcpy(&c->free, buf, sizeof(c->free));
	c->nfree--;
	u->used++;
	return buf;
}

/* On first need: most guests never do. */
static int
fill(struct bounce_pool *p, struct bounce_class *c)
{
	c->mem = reactor_mem_alloc(p->reactor, (size_t)c->buf_len * c->count);
	if (!c->mem)
		return -ENOMEM;
	for (unsigned i = c->count; i--;)
		push(c, c->mem + (size_t)i * c->buf_len);
	return 0;
}

char *
bounce_get(struct bounce_pool *p, struct bdev_io *io, int *err)
{
	struct bounce_class *c = class_of(p, io->len);
	struct bounce_user *u = user_of(io);

	*err = c->mem ? 0 : fill(p, c);
	if (*err)
		return NULL;
	if (list_empty(&u->waiting) && u->used < c->nfree)
		return pop(c, u);
	list_push_back(&u->waiting, &io->node);
	if (list_empty(&u->node))
		list_push_back(&c->users, &u->node);
	return NULL;
}

void
bounce_put(struct bounce_pool *p, struct bdev_io *io, char *buf)
{
	push(class_of(p, io->len), buf);
	user_of(io)->used--;
}

struct bdev_io *
bounce_next(struct bounce_pool *p, uint64_t len, char **buf)
{
	struct bounce_class *c = class_of(p, len);
	struct bounce_user *u;
	struct bdev_io *io;

	list_for_each(u, &c->users, node) {
		if (u->used >= c->nfree)
			continue;
		io = list_first(&u->waiting, struct bdev_io, node);
		list_remove(&io->node);
		list_remove(&u->node);
		if (!list_empty(&u->waiting))
			list_push_back(&c->users, &u->node);
		*buf = pop(c, u);
		return io;
	}
	return NULL;
}
