/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arena: a connection's span of address space, and who has which part of it.
 * Not for files, quotas or extents.
 *
 * What is not in use is PROT_NONE with the same flags everywhere, so that the kernel keeps
 * it as few VMAs. Parts are given back by mapping PROT_NONE over them: a hole
 * could be filled by an allocation of our own, and a client's stale address would hit it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Give back this much between two looks at the clock: below a millisecond of mmap_lock. */
#define STEP (16ull << 20)

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifdef TSAN /* knows only this part of the address space */
#define LOWEST 0x7e8000000000ull
#define HIGHEST 0x7f8000000000ull
#else /* above what sanitizers and executables use, below the stack */
#define LOWEST 0x110000000000ull
#define HIGHEST 0x7e0000000000ull
#endif

static void
arena_advise(uint64_t addr, uint64_t len)
{
	/* Failure harms nobody: a bigger core file, a slower fork. */
	(void)madvise((void *)(uintptr_t)addr, len, MADV_DONTDUMP);
	(void)madvise((void *)(uintptr_t)addr, len, MADV_DONTFORK);
}

static int
arena_reserve(uint64_t len, uint64_t *base)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint64_t places, rnd;
	int err, tries;
	void *p;

	places = (HIGHEST - LOWEST - len) / WINDOW + 1;
	for (tries = 0; tries < 256; tries++) {
		err = util_random(&rnd, sizeof(rnd));
		if (err)
			return err;
		*base = LOWEST + rnd % places * WINDOW;
		p = mmap((void *)(uintptr_t)*base, len, PROT_NONE,
			 flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (p == (void *)(uintptr_t)*base)
			return 0;
		if (p != MAP_FAILED) /* a kernel that does not know the flag */
			munmap(p, len);
		else if (errno != EEXIST)
			return -errno;
	}
	return -ENOMEM;
}

static void
span_bin(struct arena *a, struct span *s)
{
	s->free = true;
	/* At the end: an address is used again as late as can be. */
	list_push_back(
		&a->bins[ilog2(s->len) < BINS ? ilog2(s->len) : BINS - 1],
		&s->by_size);
}

static int
spans_init(struct arena *a)
{
	struct span *s = calloc(1, sizeof(*s));
	unsigned i;

	if (!s)
		return -ENOMEM;
	list_init(&a->spans);
	for (i = 0; i < BINS; i++)
		list_init(&a->bins[i]);
	s->addr = a->base;
	s->len = a->len;
	list_push_back(&a->spans, &s->by_addr);
	span_bin(a, s);
	return 0;
}

int
arena_open(struct arena *a, uint64_t len, bool slots)
{
	int err;

	if (len > HIGHEST - LOWEST)
		return -ENOMEM;
	len = align_up(len, WINDOW);
	err = arena_reserve(len, &a->base);
	if (err)
		return err;
	a->len = len;
	arena_advise(a->base, len);
	if (slots) {
		a->nslots = a->free_slots = (uint32_t)(len / WINDOW);
		a->slot = calloc(a->nslots, sizeof(*a->slot));
		err = a->slot ? 0 : -ENOMEM;
	} else {
		err = spans_init(a);
	}
	if (err)
		arena_unmap(a->base, len);
	return err;
}

void
arena_unmap(uint64_t base, uint64_t len)
{
	munmap((void *)(uintptr_t)base, len);
}

void
arena_close(struct arena *a)
{
	struct span *s, *tmp;

	if (a->slot) {
		free(a->slot);
		return;
	}
	list_for_each_safe(s, tmp, &a->spans, by_addr)
		free(s);
}

static void
arena_put_none(uint64_t addr, uint64_t len)
{
	mmap((void *)(uintptr_t)addr, len, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	arena_advise(addr, len);
}

int
arena_mmap(uint64_t addr, uint64_t len, int prot, int fd, uint64_t off)
{
	/* NORESERVE: huge pages that the client has not reserved are not ours to take. */
	void *p = mmap((void *)(uintptr_t)addr, len, prot,
		       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, (off_t)off);
	int err = -errno;

	if (p == MAP_FAILED) {
		/* Before Linux 6.12 what was there may have gone by then: a hole. */
		arena_put_none(addr, len);
		return err;
	}
	arena_advise(addr, len);
	return 0;
}

bool
arena_give_back(uint64_t addr, uint64_t len, uint64_t *pos, uint64_t until_ns)
{
	uint64_t n;

	/* Pages first, step by step, with mmap_lock shared; what is left is cheap. */
	while (*pos < len) {
		if (util_now_ns() >= until_ns)
			return false;
		n = MIN(STEP, len - *pos);
		if (madvise((void *)(uintptr_t)(addr + *pos), n, MADV_DONTNEED))
			*pos = len; /* huge pages of an old kernel: in one go */
		else
			*pos += n;
	}
	arena_put_none(addr, len);
	return true;
}

static bool
span_fits(const struct span *s, uint64_t len, uint64_t align)
{
	uint64_t lead = align_up(s->addr, align) - s->addr;

	return lead <= s->len && len <= s->len - lead;
}

/* Good fit by powers of two; a full search only before giving up. */
static struct span *
span_search(struct arena *a, uint64_t len, uint64_t align)
{
	unsigned bin, looked, limit;
	struct span *s;

	for (limit = 32; limit; limit = limit == 32 ? UINT32_MAX : 0) {
		for (bin = ilog2(len); bin < BINS; bin++) {
			looked = 0;
			list_for_each(s, &a->bins[bin], by_size) {
				if (span_fits(s, len, align))
					return s;
				if (++looked >= limit)
					break;
			}
		}
	}
	return NULL;
}

struct span *
span_alloc(struct arena *a, uint64_t len, uint64_t align)
{
	struct span *s = span_search(a, len, align), *lead, *tail;
	uint64_t at;

	if (!s)
		return NULL;
	lead = calloc(1, sizeof(*lead));
	tail = calloc(1, sizeof(*tail));
	if (!lead || !tail) {
		free(lead);
		free(tail);
		return NULL;
	}
	list_remove(&s->by_size);
	s->free = false;
	at = align_up(s->addr, align);
	if (at > s->addr) {
		lead->addr = s->addr;
		lead->len = at - s->addr;
		list_insert_before(&s->by_addr, &lead->by_addr);
		span_bin(a, lead);
		s->addr = at;
		s->len -= lead->len;
	} else {
		free(lead);
	}
	if (s->len > len) {
		tail->addr = s->addr + len;
		tail->len = s->len - len;
		list_push_front(&s->by_addr, &tail->by_addr);
		span_bin(a, tail);
		s->len = len;
	} else {
		free(tail);
	}
	return s;
}

void
span_free(struct arena *a, struct span *s)
{
	struct span *o;

	if (s->by_addr.prev != &a->spans) {
		o = list_entry(s->by_addr.prev, struct span, by_addr);
		if (o->free) {
			s->addr = o->addr;
			s->len += o->len;
			list_remove(&o->by_addr);
			list_remove(&o->by_size);
			free(o);
		}
	}
	if (s->by_addr.next != &a->spans) {
		o = list_entry(s->by_addr.next, struct span, by_addr);
		if (o->free) {
			s->len += o->len;
			list_remove(&o->by_addr);
			list_remove(&o->by_size);
			free(o);
		}
	}
	span_bin(a, s);
}

int
slot_alloc(struct arena *a, uint32_t want, struct region *r, uint32_t *out)
{
	uint32_t i, at;

	if (!a->free_slots)
		return -ENOSPC;
	at = want < a->nslots ? want : a->next_slot;
	for (i = 0; i < a->nslots && a->slot[at]; i++)
		at = at + 1 < a->nslots ? at + 1 : 0;
	a->slot[at] = r;
	a->free_slots--;
	a->next_slot = at + 1 < a->nslots ? at + 1 : 0;
	*out = at;
	return 0;
}

void
slot_free(struct arena *a, uint32_t slot)
{
	a->slot[slot] = NULL;
	a->free_slots++;
}
