/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

struct rpc_req *unit_later;
struct unit_params unit_params;

static void
peer_reply(void *arg, const char *text, size_t len)
{
	struct unit_peer *u = arg;

	assert_true(len + 1 < sizeof(u->replies) - u->len);
	memcpy(u->replies + u->len, text, len);
	u->len += len;
	u->replies[u->len++] = '\n';
	u->replies[u->len] = '\0';
	u->count++;
}

void
unit_peer_open(struct unit_peer *u)
{
	memset(u, 0, sizeof(*u));
	u->parser = rpc_parser_create(peer_reply, u);
	assert_non_null(u->parser);
}

void
unit_peer_close(struct unit_peer *u)
{
	rpc_parser_destroy(u->parser);
	u->parser = NULL;
}

int
unit_feed(struct unit_peer *u, const char *text)
{
	return rpc_parser_feed(u->parser, text, strlen(text));
}

static void
t_echo(struct rpc_req *req, const json_t *params)
{
	rpc_result(req, params ? json_deep_copy(params) : json_true());
}

unsigned unit_ran;

static void
t_counted(struct rpc_req *req, const json_t *params)
{
	unit_ran++;
	t_echo(req, params);
}

static void
t_later(struct rpc_req *req, const json_t *params)
{
	assert_null(unit_later);
	unit_later = req;
}

static void
t_fail(struct rpc_req *req, const json_t *params)
{
	rpc_errno(req, -ENODEV, "disk '%s'", "x");
}

static void
t_null(struct rpc_req *req, const json_t *params)
{
	rpc_result(req, NULL);
}

static void
t_long(struct rpc_req *req, const json_t *params)
{
	size_t len = 1 << 20;
	char *s = malloc(len);

	assert_non_null(s);
	memset(s, 'x', len);
	rpc_result(req, json_stringn(s, len));
	free(s);
}

static const struct rpc_param table[] = {
	{ "str", RPC_STRING, offsetof(struct unit_params, str), false, 0 },
	{ "flag", RPC_BOOL, offsetof(struct unit_params, flag), false, 0 },
	{ "u8", RPC_U8, offsetof(struct unit_params, u8), false, 0 },
	{ "u16", RPC_U16, offsetof(struct unit_params, u16), false, 0 },
	{ "u32", RPC_U32, offsetof(struct unit_params, u32), true, 0 },
	{ "u64", RPC_U64, offsetof(struct unit_params, u64), false,
	  offsetof(struct unit_params, u64_seen) },
	{ "i32", RPC_I32, offsetof(struct unit_params, i32), false, 0 },
	{ "uuid", RPC_UUID, offsetof(struct unit_params, uuid), false,
	  offsetof(struct unit_params, uuid_seen) },
	{ "obj", RPC_OBJECT, offsetof(struct unit_params, obj), false, 0 },
	{ "arr", RPC_ARRAY, offsetof(struct unit_params, arr), false, 0 },
	{ "old", RPC_IGNORE, 0, false, 0 },
};

static void
decode(struct rpc_req *req, const json_t *params, unsigned flags)
{
	memset(&unit_params, 0, sizeof(unit_params));
	if (rpc_decode(req, params, table, ARRAY_SIZE(table), &unit_params,
		       flags))
		rpc_result(req, json_true());
}

static void
t_decode(struct rpc_req *req, const json_t *params)
{
	decode(req, params, 0);
}

static void
t_relaxed(struct rpc_req *req, const json_t *params)
{
	decode(req, params, RPC_RELAXED);
}

static const struct rpc_method methods[] = {
	{ "t_echo", t_echo, RPC_STARTUP | RPC_RUNTIME },
	{ "t_later", t_later, RPC_STARTUP | RPC_RUNTIME },
	{ "t_long", t_long, RPC_STARTUP | RPC_RUNTIME },
	{ "t_fail", t_fail, RPC_STARTUP | RPC_RUNTIME },
	{ "t_null", t_null, RPC_STARTUP | RPC_RUNTIME },
	{ "t_decode", t_decode, RPC_STARTUP | RPC_RUNTIME },
	{ "t_relaxed", t_relaxed, RPC_STARTUP | RPC_RUNTIME },
	{ "t_startup", t_echo, RPC_STARTUP },
	{ "t_runtime", t_counted, RPC_RUNTIME },
};

void
unit_methods(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}

int
main(void)
{
	unit_methods();
	return scan_tests() + request_tests() + decode_tests() + server_tests();
}
