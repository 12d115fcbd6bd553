/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of rpc share: methods to call, and a parser whose replies are kept. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <uuid/uuid.h>

#include "internal.h"

struct unit_peer {
	struct rpc_parser *parser;
	char replies[64 * 1024]; /* one line each */
	size_t len;
	unsigned count;
};
void unit_peer_open(struct unit_peer *u);
void unit_peer_close(struct unit_peer *u);
/* Feed a string; gives rpc_parser_feed()'s word. */
int unit_feed(struct unit_peer *u, const char *text);

/* The request that t_later holds, or NULL. */
extern struct rpc_req *unit_later;
/* How often t_runtime was called. */
extern unsigned unit_ran;
/* What t_decode got. */
struct unit_params {
	const char *str;
	bool flag, u64_seen, uuid_seen;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int32_t i32;
	uuid_t uuid;
	json_t *obj, *arr;
};
extern struct unit_params unit_params;
void unit_methods(void);

int scan_tests(void);
int request_tests(void);
int decode_tests(void);
int server_tests(void);

#endif
