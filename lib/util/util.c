/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small helpers that are too big to be inline. Not for anything with state.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
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

/* The unit at the end of @s, as a shift; @len: of what is before it. */
static unsigned
unit_shift(const char *s, size_t *len)
{
	static const char units[] = "kmgtp";
	size_t n = strlen(s);
	const char *u;

	if (n && (s[n - 1] | 0x20) == 'b')
		n--;
	*len = n;
	if (n > 1 && s[n - 1] == 'i' && strchr(units, s[n - 2] | 0x20))
		n--;
	u = n ? strchr(units, s[n - 1] | 0x20) : NULL;
	if (!u)
		return 0;
	*len = n - 1;
	return 10 * (unsigned)(u - units + 1);
}

/* "5" of "1.5G": it must make whole bytes. */
static int
parse_fraction(const char *digits, unsigned shift, uint64_t *out)
{
	unsigned __int128 scaled;
	uint64_t v, ten = 1;
	size_t i;

	for (i = 0; digits[i] >= '0' && digits[i] <= '9' && i < 18; i++)
		ten *= 10;
	if (digits[i] || util_parse_u64(digits, &v))
		return -EINVAL;
	scaled = (unsigned __int128)v << shift;
	*out = (uint64_t)(scaled / ten);
	return scaled % ten ? -EINVAL : 0;
}

int
util_parse_size(const char *s, uint64_t *out)
{
	uint64_t whole, part = 0;
	char number[48], *point;
	unsigned shift;
	size_t len;
	int err;

	if (s[0] == '0' && (s[1] | 0x20) == 'x') /* where a B is a digit */
		return util_parse_u64(s, out);
	shift = unit_shift(s, &len);
	if (len >= sizeof(number))
		return -EINVAL;
	memcpy(number, s, len);
	number[len] = '\0';
	point = strchr(number, '.');
	if (point) {
		*point = '\0';
		if (parse_fraction(point + 1, shift, &part))
			return -EINVAL;
	}
	err = util_parse_u64(number, &whole);
	if (err)
		return err;
	if (whole > UINT64_MAX >> shift ||
	    __builtin_add_overflow(whole << shift, part, &part))
		return -ERANGE;
	*out = part;
	return 0;
}

bool
util_complain(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return false;
}
