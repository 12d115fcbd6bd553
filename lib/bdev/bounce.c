/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: aligned buffers for I/O whose memory breaks the device's alignment.
 *
 * One bounded pool a reactor, in two sizes, so that small odd reads do not wait
 * for large ones. Empty means wait, in order; never fail.
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
	list_init(&c->waiting);
}

void
bounce_init(struct bounce_pool *p, struct reactor *r)
{
	p->reactor = r;
	class_init(&p->small, BOUNCE_SMALL, SMALL_COUNT);
	class_init(&p->large, BOUNCE_LARGE, LARGE_COUNT);
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

static struct bounce_class *
class_of(struct bounce_pool *p, uint64_t len)
{
	return len <= BOUNCE_SMALL ? &p->small : &p->large;
}

static void
push(struct bounce_class *c, char *buf)
{
	memcpy(buf, &c->free, sizeof(c->free));
	c->free = buf;
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
	char *buf;

	*err = c->mem ? 0 : fill(p, c);
	if (*err)
		return NULL;
	buf = c->free;
	if (!buf) {
		list_push_back(&c->waiting, &io->node);
		return NULL;
	}
	memcpy(&c->free, buf, sizeof(c->free));
	return buf;
}

struct bdev_io *
bounce_put(struct bounce_pool *p, uint64_t len, char *buf)
{
	struct bounce_class *c = class_of(p, len);
	struct bdev_io *io = list_first(&c->waiting, struct bdev_io, node);

	if (io)
		list_remove(&io->node);
	else
		push(c, buf);
	return io;
}
