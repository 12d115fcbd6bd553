/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * util: what every module may use. Small helpers without state.
 *
 * Thread: any. Lifetime: nothing here owns anything.
 */
#ifndef BELFRY_UTIL_H
#define BELFRY_UTIL_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define CACHE_LINE 64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

static inline bool
is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* @align is a power of two; align_up wraps to 0 past the top. */
static inline uint64_t
align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t
align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

/* Is [off, off + len) inside [0, size)? Never overflows. */
static inline bool
range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/* log2 of a power of two. */
static inline unsigned
ilog2(uint64_t v)
{
	return 63 - (unsigned)__builtin_clzll(v);
}

/* Nanoseconds of CLOCK_MONOTONIC; a vDSO call, not for the data path. */
uint64_t util_now_ns(void);

/*
 * Where a thread goes on when client memory that it copies from vanishes (SIGBUS, lib/ioas); NULL: it reads zeros, and is to ask
 * afterwards. Set around a copy that holds no lock and leaves nothing half done.
 */
extern __thread sigjmp_buf *util_fault_escape;

/* Copy @src into a fixed field of @len bytes, padded with spaces, unterminated. */
void util_pad_ascii(char *dst, size_t len, const char *src);

/* Fill @buf with @len random bytes (getrandom). 0 or -errno. */
int util_random(void *buf, size_t len);

/* Parse all of @s as an unsigned number ("4096", "0x1000"); -EINVAL, -ERANGE. */
int util_parse_u64(const char *s, uint64_t *out);

/*
 * The same for bytes, with a unit that is a power of 1024: "4096", "0x1000", "64k", "256G", "256GiB", "1.5T". The unit is
 * K, M, G, T or P in either case, with "B" or "iB" behind it or not. -EINVAL (also half a byte), -ERANGE.
 */
int util_parse_size(const char *s, uint64_t *out);

/* For the programs: one line on stderr, after the program's name. Gives false, for who passes that on. */
bool util_complain(const char *fmt, ...) printf_like(1, 2);

#endif
