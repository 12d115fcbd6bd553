/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A peer: bytes in, whole requests out. Not for sockets (server.c) nor for what a request means (request.c).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"

#include "internal.h"

void
rpc_peer_init(struct rpc_peer *p,
	      void (*send)(struct rpc_peer *p, const char *text, size_t len))
{
	*p = (struct rpc_peer){ .send = send };
	list_init(&p->reqs);
}

void
rpc_peer_complain(struct rpc_peer *p, int code, const char *fmt, ...)
{
	char text[256];
	json_t *reply;
	va_list ap;
	char *s;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	reply = json_pack("{s:s, s:n, s:o}", "jsonrpc", "2.0", "id", "error",
			  rpc_error_object(code, text));
	s = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
	if (s)
		p->send(p, s, strlen(s));
	free(s);
	json_decref(reply);
}

char *
rpc_peer_room(struct rpc_peer *p, size_t *room)
{
	size_t cap;
	char *buf;

	if (p->start) {
		memmove(p->buf, p->buf + p->start, p->len - p->start);
		p->len -= p->start;
		p->start = 0;
	}
	if (p->len == p->cap) {
		cap = p->cap ? p->cap * 2 : 4096;
		if (cap > RPC_MAX_REQUEST) {
			p->broken = true;
			rpc_peer_complain(
				p, RPC_INVALID_REQUEST,
				"Invalid request: larger than %d bytes",
				RPC_MAX_REQUEST);
			return NULL;
		}
		buf = realloc(p->buf, cap);
		if (!buf) {
			p->broken = true;
			return NULL;
		}
		p->buf = buf;
		p->cap = cap;
	}
	*room = p->cap - p->len;
	return p->buf + p->len;
}

void
rpc_peer_filled(struct rpc_peer *p, size_t len)
{
	p->len += len;
}

static void
scan_failed(struct rpc_peer *p, int err)
{
	p->broken = true;
	if (err == -ELOOP)
		rpc_peer_complain(p, RPC_PARSE_ERROR,
				  "Parse error: nested deeper than %d",
				  RPC_MAX_DEPTH);
	else if (err == -E2BIG)
		rpc_peer_complain(p, RPC_INVALID_REQUEST,
				  "Invalid request: more than %d values",
				  RPC_MAX_VALUES);
	else
		rpc_peer_complain(p, RPC_PARSE_ERROR,
				  "Parse error: a request starts with { or [");
}

/* Is it JSON, but such that we take none? Then the next request starts where the scanner says. */
static bool
well_formed(const json_error_t *error)
{
	enum json_error_code code = json_error_code(error);

	return code == json_error_duplicate_key ||
	       code == json_error_numeric_overflow ||
	       code == json_error_null_character;
}

static void
peer_value(struct rpc_peer *p, const char *text, size_t len)
{
	json_error_t error;
	json_t *value;

	value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!value) {
		/* else where the next one starts is anybody's guess now */
		p->broken = !well_formed(&error);
		rpc_peer_complain(p, RPC_PARSE_ERROR,
				  "Parse error: %s (line %d, column %d)",
				  error.text, error.line, error.column);
		return;
	}
	rpc_handle(p, value);
}

/* The next whole value in the buffer. False: there is none, or none that can be taken now. */
static bool
next_value(struct rpc_peer *p)
{
	size_t at = p->start + p->seen;
	ssize_t end;

	if (p->broken || p->seen == p->len - p->start ||
	    p->pending >= RPC_MAX_PENDING)
		return false;
	end = rpc_scan(&p->scan, p->buf + at, p->len - at);
	if (end < 0) {
		scan_failed(p, (int)end);
		return false;
	}
	if (!end) {
		p->seen = p->len - p->start;
		return false;
	}
	end += (ssize_t)p->seen;
	at = p->start;
	p->start += (size_t)end;
	p->seen = 0;
	peer_value(p, p->buf + at, (size_t)end);
	return true;
}

bool
rpc_peer_pump(struct rpc_peer *p, unsigned budget)
{
	while (budget--)
		if (!(p->batch_due && rpc_batch_step(p)) && !next_value(p))
			return false;
	return true;
}

void
rpc_peer_eof(struct rpc_peer *p)
{
	if (!p->broken && p->scan.depth)
		rpc_peer_complain(p, RPC_PARSE_ERROR,
				  "Parse error: the request ends too soon");
	p->broken = true;
}

void
rpc_peer_fini(struct rpc_peer *p)
{
	rpc_abandon(p);
	free(p->buf);
	p->buf = NULL;
}

/* ---- a peer without a socket ---- */
struct rpc_parser {
	struct rpc_peer peer;
	void (*reply)(void *arg, const char *text, size_t len);
	void *arg;
};

static void
parser_send(struct rpc_peer *p, const char *text, size_t len)
{
	struct rpc_parser *parser = container_of(p, struct rpc_parser, peer);

	parser->reply(parser->arg, text, len);
}

struct rpc_parser *
rpc_parser_create(void (*reply)(void *arg, const char *text, size_t len),
		  void *arg)
{
	struct rpc_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	rpc_peer_init(&p->peer, parser_send);
	p->reply = reply;
	p->arg = arg;
	return p;
}

/* 0; -EPROTO: the stream is broken (an error was replied), feed no more; -EAGAIN: too many wait for their answer. */
int
rpc_parser_feed(struct rpc_parser *p, const char *buf, size_t len)
{
	size_t room;
	char *to;

	while (len) {
		if (p->peer.broken)
			return -EPROTO;
		to = rpc_peer_room(&p->peer, &room);
		if (!to)
			return -EPROTO;
		room = MIN(room, len);
		memcpy(to, buf, room);
		rpc_peer_filled(&p->peer, room);
		buf += room;
		len -= room;
		rpc_peer_pump(&p->peer, UINT32_MAX);
		if (p->peer.pending >= RPC_MAX_PENDING)
			return -EAGAIN;
	}
	rpc_peer_pump(&p->peer, UINT32_MAX);
	return p->peer.broken ? -EPROTO : 0;
}

void
rpc_parser_destroy(struct rpc_parser *p)
{
	if (!p)
		return;
	rpc_peer_fini(&p->peer);
	free(p);
}
