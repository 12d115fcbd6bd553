/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * malloc: reads and writes. Data path. Copied inline, under a lock only if
 * several reactors use the disk; what is long, a slice each round, so that nobody
 * else on the reactor waits for megabytes. Not here: discard and zeroing (malloc.c).
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "malloc.h"

#define STRIPE 4096u /* the longest block */
#define STRIPES 256u
#define PAST_MIN 4096u /* bytes of a write that goes past the caches */

struct malloc_stripe {
	bool busy;
} cache_aligned;

/* In bdev_io.priv, of a copy that takes several rounds. */
struct copy_req {
	struct bdev_cursor cur;
	uint64_t done;
};
_Static_assert(sizeof(struct copy_req) <= sizeof(((struct bdev_io *)0)->priv),
	       "fits into an I/O");

struct malloc_stripe *
malloc_locks(void)
{
	size_t len = STRIPES * sizeof(struct malloc_stripe);
	struct malloc_stripe *s = aligned_alloc(CACHE_LINE, len);

	return s ? memset(s, 0, len) : NULL;
}

#ifdef __SSE2__
/*
 * Past the caches: a plain store loads the line first, to overwrite all of it, and what
 * follows waits for that. 4 KiB writes to a disk of 256 MiB: 1.9 -> 3.3 M IOPS; a disk
 * that fits into the cache loses half, see malloc_bdev.uncached.
 */
static void
store_past(char *to, const char *from, size_t len)
{
	if (((uintptr_t)to | len) % CACHE_LINE) {
		memcpy(to, from, len);
		return;
	}
	for (size_t i = 0; i < len; i += CACHE_LINE) {
		const __m128i *s = (const __m128i *)(from + i);
		__m128i *d = (__m128i *)(to + i);
		__m128i a = _mm_loadu_si128(s), b = _mm_loadu_si128(s + 1),
			c = _mm_loadu_si128(s + 2), e = _mm_loadu_si128(s + 3);

		_mm_stream_si128(d, a);
		_mm_stream_si128(d + 1, b);
		_mm_stream_si128(d + 2, c);
		_mm_stream_si128(d + 3, e);
	}
}

static size_t
copy_past(struct bdev_cursor *cur, char *to, size_t len)
{
	size_t done = 0, n;
	const char *from;

	while (done < len &&
	       (from = bdev_cursor_take(cur, len - done, &n)) != NULL) {
		store_past(to + done, from, n);
		done += n;
	}
	_mm_sfence(); /* before the completion is told, to any core */
	return done;
}
#else
#define copy_past bdev_copy_out
#endif

/*
 * A client may truncate its file in the middle of the copy. Then the copy is left: a check afterwards would be too late to keep
 * zeros that were put there instead from the disk.
 */
static int
copy_out(const struct malloc_bdev *m, const struct bdev_io *io,
	 struct bdev_cursor *cur, uint64_t off, size_t len)
{
	bool past = m->uncached && len >= PAST_MIN;
	char *to = m->mem + off;
	sigjmp_buf escape;
	volatile int err = -EFAULT;

	if (!sigsetjmp(escape, 0)) {
		size_t n;

		util_fault_escape = &escape;
		n = past ? copy_past(cur, to, len)
			 : bdev_copy_out(cur, to, len);
		err = n == len ? 0 : -EINVAL;
	}
	util_fault_escape = NULL;
	if (unlikely(io->faulted && io->faulted(io)))
		err = -EFAULT;
	return err;
}

/*
 * With several reactors: the host may rely on a block being written as a whole
 * (AWUN, NVM Command Set 1.0 §2.1.4), so no two copies meet in one. What is copied
 * under the lock is private, for the client's memory may fault, or be slow.
 */
static void
stripe_copy(struct malloc_bdev *m, void *to, const void *from, uint64_t off,
	    size_t len)
{
	struct malloc_stripe *s = &m->lock[off / STRIPE % STRIPES];

	/* pairs with the release below: the block is as the last one left it */
	while (__atomic_test_and_set(&s->busy, __ATOMIC_ACQUIRE))
		;
	memcpy(to, from, len);
	__atomic_clear(&s->busy, __ATOMIC_RELEASE);
}

static int
copy_shared(struct malloc_bdev *m, const struct bdev_io *io,
	    struct bdev_cursor *cur, uint64_t off, size_t len)
{
	uint64_t end = off + len;
	char buf[STRIPE];

	while (off < end) {
		size_t n = MIN(end - off, STRIPE - off % STRIPE);

		if (io->op == BDEV_READ) {
			stripe_copy(m, buf, m->mem + off, off, n);
			if (bdev_copy_in(cur, buf, n) != n)
				return -EINVAL;
		} else {
			if (bdev_copy_out(cur, buf, n) != n)
				return -EINVAL;
			if (io->faulted && io->faulted(io))
				return -EFAULT;
			stripe_copy(m, m->mem + off, buf, off, n);
		}
		off += n;
	}
	return 0;
}

static int
copy(struct malloc_bdev *m, const struct bdev_io *io, struct bdev_cursor *cur,
     uint64_t off, size_t len)
{
	if (unlikely(__atomic_load_n(&m->users, __ATOMIC_RELAXED) > 1))
		return copy_shared(m, io, cur, off, len);
	if (io->op == BDEV_WRITE)
		return copy_out(m, io, cur, off, len);
	return bdev_copy_in(cur, m->mem + off, len) == len ? 0 : -EINVAL;
}

void
malloc_later(struct bdev_io *io)
{
	struct malloc_ch *mch = bdev_ch_priv(io->ch);

	list_push_back(&mch->running, &io->node);
}

void
malloc_copy(struct bdev_ch *ch, struct bdev_io *io)
{
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };
	struct copy_req *r = (struct copy_req *)io->priv;

	if (likely(io->len <= MALLOC_SLICE)) {
		bdev_complete(io, copy(mb_of(ch->bdev), io, &cur, io->off,
				       io->len));
		return;
	}
	*r = (struct copy_req){ .cur = cur };
	malloc_later(io);
}

/* The next part of @io. -EINPROGRESS: not the last one. */
static int
copy_slice(struct bdev_io *io)
{
	struct copy_req *r = (struct copy_req *)io->priv;
	size_t n = MIN(io->len - r->done, (uint64_t)MALLOC_SLICE);
	int err;

	/* Since the last slice, zeros may have been put into its memory. */
	if (io->op == BDEV_WRITE && io->faulted && io->faulted(io))
		return -EFAULT;
	err = copy(mb_of(io->ch->bdev), io, &r->cur, io->off + r->done, n);
	r->done += n;
	return err || r->done == io->len ? err : -EINPROGRESS;
}

/* They take turns, so that a short one does not wait for all long ones. */
static int
malloc_kick(struct bdev_engine *e)
{
	struct malloc_ch *mch = container_of(e, struct malloc_ch, e);
	struct bdev_io *io = list_first(&mch->running, struct bdev_io, node);
	int err;

	if (likely(!io))
		return 0;
	list_remove(&io->node);
	err = io->op <= BDEV_WRITE ? copy_slice(io) : malloc_clear(io);
	if (err == -EINPROGRESS)
		list_push_back(&mch->running, &io->node);
	else
		bdev_complete(io, err); /* may end the channel */
	return 1;
}

static uint64_t
malloc_sleep(struct bdev_engine *e)
{
	struct malloc_ch *mch = container_of(e, struct malloc_ch, e);

	return list_empty(&mch->running) ? REACTOR_SLEEP_FOREVER : 0;
}

int
malloc_ch_init(struct bdev_ch *ch)
{
	struct malloc_ch *mch = bdev_ch_priv(ch);

	mch->e = (struct bdev_engine){ .kick = malloc_kick,
				       .sleep = malloc_sleep };
	list_init(&mch->running);
	bdev_engine_add(ch->br, &mch->e);
	__atomic_add_fetch(&mb_of(ch->bdev)->users, 1, __ATOMIC_RELAXED);
	return 0;
}

void
malloc_ch_fini(struct bdev_ch *ch)
{
	struct malloc_ch *mch = bdev_ch_priv(ch);

	bdev_engine_del(ch->br, &mch->e);
	__atomic_sub_fetch(&mb_of(ch->bdev)->users, 1, __ATOMIC_RELAXED);
}
