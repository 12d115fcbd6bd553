/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc: a JSON-RPC 2.0 server on a UNIX socket. Control plane only.
 *
 * Methods register by name; a handler gets its params (borrowed) and answers once with rpc_result or rpc_error, at once
 * or later. Wire format and limits: doc/rpc.md.
 *
 * Thread: the control reactor (0).
 */
#ifndef BELFRY_RPC_H
#define BELFRY_RPC_H

#include <jansson.h>

#include "belfry/reactor.h"

#define RPC_PARSE_ERROR (-32700)
#define RPC_INVALID_REQUEST (-32600)
#define RPC_METHOD_NOT_FOUND (-32601)
#define RPC_INVALID_PARAMS (-32602)
#define RPC_INTERNAL (-32603)
#define RPC_INVALID_STATE (-1)

struct rpc_server;
struct rpc_req; /* one request that waits for its answer; outlives its connection */

#define RPC_STARTUP 1u /* allowed before framework_start_init */
#define RPC_RUNTIME 2u /* allowed after it */
struct rpc_method {
	const char *name;
	void (*handler)(struct rpc_req *req, const json_t *params);
	unsigned flags; /* RPC_STARTUP | RPC_RUNTIME */
};
/* Register a table (borrowed for the life of the process). */
void rpc_register(const struct rpc_method *methods, size_t n);
/* @advice: for a name that is no method, what to use instead (a sentence), or NULL. */
void rpc_set_advice(const char *(*advice)(const char *method));
/* State: RPC_STARTUP until rpc_set_state(RPC_RUNTIME). */
void rpc_set_state(unsigned state);
/*
 * What waits for RPC_RUNTIME runs then, in the order it came, if its client is still there. After rpc_hold(), when the
 * start is under way: all that is allowed only after it, which is refused otherwise.
 */
void rpc_hold(void);
/* For RPC_RUNTIME, to call @then: at once where it is there. */
void rpc_when_runtime(struct rpc_req *req, void (*then)(struct rpc_req *req));
/* There will be no RPC_RUNTIME: an error for those. */
void rpc_drop_held(void);
unsigned rpc_get_state(void);
/* Methods allowed now (@current) or all, sorted; a new array. */
json_t *rpc_methods(bool current);

/*
 * Listen. The lock file <path>.lock is held (flock) for the life of the server: -EWOULDBLOCK: another daemon runs there.
 * A socket that a dead daemon left is replaced. Mode 0600. -EEXIST: no socket. -ENAMETOOLONG: over RPC_MAX_PATH bytes.
 */
#define RPC_MAX_PATH 103 /* what an address takes, less ".new" */
int rpc_listen(struct reactor *control, const char *path,
	       struct rpc_server **out);
/* Serve nobody any more: connections and socket go, the lock stays until rpc_close(). */
void rpc_stop(struct rpc_server *s);
void rpc_close(struct rpc_server *s);

/* Answer, once. result: takes @result (a NULL is out of memory: internal error). error: @code and a sentence. */
void rpc_result(struct rpc_req *req, json_t *result);
void rpc_error(struct rpc_req *req, int code, const char *fmt, ...)
	printf_like(3, 4);
/* -errno -> the code and text SPDK's clients expect ("No such device", ...), followed by @fmt when not NULL. */
void rpc_errno(struct rpc_req *req, int err, const char *fmt, ...)
	printf_like(3, 4);
/* The row of the table that @req's method was registered with. */
const struct rpc_method *rpc_req_method(const struct rpc_req *req);
/* Has the client gone? Then what waits for something may stop: its answer, which is still due, goes nowhere. */
bool rpc_req_gone(const struct rpc_req *req);
void *rpc_req_user(struct rpc_req *req);
void rpc_req_set_user(struct rpc_req *req, void *user);

/*
 * Call a method from inside (config files): @done with the result or error object (borrowed), maybe at once.
 */
void rpc_call(const char *method, const json_t *params,
	      void (*done)(void *arg, const json_t *result,
			   const json_t *error),
	      void *arg);

/*
 * Decode params into a struct. Strings are borrowed from @params. Absent optional members leave the field as it was.
 * On failure an error that names the member has been sent, and false is given: the handler returns.
 * Unknown members are errors that name the known ones; with RPC_RELAXED a line in the log. RPC_IGNORE: known to have no
 * meaning here. RPC_ANY: the handler reads it itself.
 */
enum rpc_type {
	RPC_STRING,
	RPC_BOOL,
	RPC_U8,
	RPC_U16,
	RPC_U32,
	RPC_U64,
	RPC_I32,
	RPC_UUID,
	RPC_OBJECT,
	RPC_ARRAY,
	RPC_ANY,
	RPC_IGNORE
};
struct rpc_param {
	const char *name;
	enum rpc_type
		type; /* field: const char *, bool, uintN_t, int32_t, uuid_t, json_t * */
	size_t offset;
	bool required;
	size_t seen_offset; /* of a bool set when present; 0: none (so never the struct's first field) */
};
#define RPC_RELAXED 1u
bool rpc_decode(struct rpc_req *req, const json_t *params,
		const struct rpc_param *table, size_t n, void *out,
		unsigned flags);

/* Feed bytes to a parser without a socket: for the fuzzer and unit tests. @reply gets each reply's text. */
struct rpc_parser;
struct rpc_parser *rpc_parser_create(void (*reply)(void *arg, const char *text,
						   size_t len),
				     void *arg);
int rpc_parser_feed(struct rpc_parser *p, const char *buf, size_t len);
void rpc_parser_destroy(struct rpc_parser *p);

#endif
