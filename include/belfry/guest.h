/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest: the only ways to touch memory that a client shares with us.
 *
 * It changes while we look. Load a value once with these, check the copy, use the
 * copy; never read the same field twice. A page that the client truncated away reads
 * as zeros and marks the connection (belfry/ioas.h, ioas_faulted).
 * Thread: any.
 */
#ifndef BELFRY_GUEST_H
#define BELFRY_GUEST_H

#include <string.h>

#include "belfry/util.h"

static inline void
guest_copy(void *dst, const volatile void *src, size_t len)
{
	memcpy(dst, (const void *)src, len);
	__asm__ volatile(""
			 :
			 : "r"(dst)
			 : "memory"); /* no second look at src */
}

static inline uint32_t
guest_load_acquire32(const volatile uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline uint32_t
guest_load32(const volatile uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint64_t
guest_load64(const volatile uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void
guest_store32(volatile uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void
guest_store_release32(volatile uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

#endif
