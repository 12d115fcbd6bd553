/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Find the end of a JSON value in a stream that comes in pieces. Not for judging it: jansson
 * does that once the value is whole, so that a slow sender does not make us parse it again and again.
 */
#include <errno.h>
#include <sys/types.h>

#include "internal.h"

static void
scan_string(struct rpc_scan *s, char c)
{
	if (s->escape)
		s->escape = false;
	else if (c == '\\')
		s->escape = true;
	else if (c == '"')
		s->in_string = false;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* 1: the value ends here; 0; or -errno. */
static int
scan_byte(struct rpc_scan *s, char c)
{
	switch (c) {
	case '{':
	case '[':
		if (s->depth == RPC_MAX_DEPTH)
			return -ELOOP;
		s->depth++;
		s->values++;
		break;
	case '}':
	case ']':
		/* a wrong pair ends the value too: the parser will say so */
		s->depth--;
		return s->depth == 0;
	case '"':
		s->in_string = true;
		break;
	case ',':
	case ':':
		s->values++;
		break;
	}
	return s->values > RPC_MAX_VALUES ? -E2BIG : 0;
}

ssize_t
rpc_scan(struct rpc_scan *s, const char *buf, size_t len)
{
	size_t i;
	int end;

	for (i = 0; i < len; i++) {
		if (s->in_string) {
			scan_string(s, buf[i]);
			continue;
		}
		if (!s->depth) {
			if (is_space(buf[i]))
				continue;
			if (buf[i] != '{' && buf[i] != '[')
				return -EINVAL;
		}
		end = scan_byte(s, buf[i]);
		if (end < 0)
			return end;
		if (end) {
			*s = (struct rpc_scan){ 0 };
			return (ssize_t)i + 1;
		}
	}
	return 0;
}
