/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small helpers that are too big to be inline. Not for anything with state.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "belfry/util.h"

__thread sigjmp_buf *util_fault_escape;

uint64_t
util_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void
util_pad_ascii(char *dst, size_t len, const char *src)
{
	size_t n = strnlen(src, len);

	memcpy(dst, src, n);
	memset(dst + n, ' ', len - n);
}

int
util_random(void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* 16 or more: not a digit. Not isxdigit(), which minds the locale. */
static unsigned
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return 16;
}

/* Not strtoull(): it takes blanks, signs and octal, and "-1" as 2^64 - 1. */
int
util_parse_u64(const char *s, uint64_t *out)
{
	unsigned base = 10;
	bool overflow = false;
	uint64_t v = 0;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		unsigned d = digit_value(*s);

		if (d >= base)
			return -EINVAL;
		if (__builtin_mul_overflow(v, base, &v) ||
		    __builtin_add_overflow(v, d, &v))
			overflow = true; /* yet "1...1x" is -EINVAL */
	}
	if (overflow)
		return -ERANGE;
	*out = v;
	return 0;
}
