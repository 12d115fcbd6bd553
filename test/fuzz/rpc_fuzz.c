/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The JSON-RPC parser, envelopes, batches and the decoder of params. The input is the stream, cut into pieces at
 * places that its first byte chooses; fed whole it must give the same replies.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "belfry/rpc.h"

struct sink {
	char *text;
	size_t len;
};

struct params {
	const char *s;
	bool b, seen;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int32_t i32;
	uuid_t uuid;
	json_t *o, *a;
};

#define P(name, type)                                              \
	{                                                          \
#name, type, offsetof(struct params, name), false, \
			offsetof(struct params, seen)              \
	}

static const struct rpc_param table[] = {
	P(s, RPC_STRING), P(b, RPC_BOOL),  P(u8, RPC_U8),   P(u16, RPC_U16),
	P(u32, RPC_U32),  P(u64, RPC_U64), P(i32, RPC_I32), P(uuid, RPC_UUID),
	P(o, RPC_OBJECT), P(a, RPC_ARRAY),
};

/* Everything that was decoded is looked at, so that the sanitizers can judge. */
static void
use(struct rpc_req *req, const json_t *in, unsigned flags)
{
	struct params p = { 0 };
	char text[64];

	if (!rpc_decode(req, in, table, ARRAY_SIZE(table), &p, flags))
		return;
	snprintf(text, sizeof(text), "%.8s %d %u %d %zu %zu", p.s ? p.s : "",
		 p.b, p.u8 + p.u16 + p.u32, p.i32, json_object_size(p.o),
		 json_array_size(p.a));
	rpc_result(req, json_pack("{s:I, s:i}", "n", (json_int_t)p.u64, "len",
				  (int)strlen(text)));
}

static void
m_strict(struct rpc_req *req, const json_t *params)
{
	use(req, params, 0);
}

static void
m_relaxed(struct rpc_req *req, const json_t *params)
{
	use(req, params, RPC_RELAXED);
}

static void
m_fail(struct rpc_req *req, const json_t *params)
{
	rpc_errno(req, -ENODEV, NULL);
}

static const struct rpc_method methods[] = {
	{ "m", m_strict, RPC_STARTUP },
	{ "r", m_relaxed, RPC_STARTUP },
	{ "f", m_fail, RPC_STARTUP },
	{ "x", m_strict, RPC_RUNTIME },
};

static void
collect(void *arg, const char *text, size_t len)
{
	struct sink *s = arg;
	json_t *v = json_loadb(text, len, 0, NULL);

	if (!v) /* a reply is always JSON */
		abort();
	json_decref(v);
	s->text = realloc(s->text, s->len + len);
	memcpy(s->text + s->len, text, len);
	s->len += len;
}

static struct sink
run(const uint8_t *data, size_t size, size_t step)
{
	struct sink s = { 0 };
	struct rpc_parser *p = rpc_parser_create(collect, &s);
	size_t n;

	for (; size; data += n, size -= n) {
		n = step && step < size ? step : size;
		if (rpc_parser_feed(p, (const char *)data, n))
			break;
	}
	rpc_parser_destroy(p);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sink whole, pieces;

	rpc_register(methods, ARRAY_SIZE(methods));
	if (!size)
		return 0;
	whole = run(data + 1, size - 1, 0);
	pieces = run(data + 1, size - 1, 1 + data[0] % 16);
	if (whole.len != pieces.len ||
	    (whole.len && memcmp(whole.text, pieces.text, whole.len)))
		abort();
	free(whole.text);
	free(pieces.text);
	return 0;
}
