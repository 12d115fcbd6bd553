/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc, the inside: scanner, peers, requests. Not for other modules.
 *
 * A peer is whoever sends requests and takes replies: a connection (server.c), a
 * test (parser.c). A request belongs to nobody but its handler; its peer may be gone
 * before the answer comes.
 */
#ifndef RPC_INTERNAL_H
#define RPC_INTERNAL_H

#include "belfry/rpc.h"

#define RPC_MAX_REQUEST (256 * 1024)
#define RPC_MAX_REPLY (32 * 1024 * 1024)
#define RPC_MAX_VALUES 8192
#define RPC_MAX_DEPTH 64
#define RPC_MAX_ID 128
#define RPC_MAX_CONNS 64
#define RPC_MAX_PENDING \
	128 /* requests of one peer that wait for their answer */

/* scan.c: where does the next JSON value end? Each byte is looked at once. */
struct rpc_scan {
	unsigned depth;
	unsigned values; /* at least as many as there are */
	bool in_string, escape;
};
/*
 * Look at @len more bytes. Gives how many of them end the value, 0: all of them
 * belong to it (or to the space before it). -EINVAL: neither object nor array;
 * -ELOOP: nested too deep; -E2BIG: too many values.
 */
ssize_t rpc_scan(struct rpc_scan *s, const char *buf, size_t len);

/* peer.c */
struct rpc_peer {
	/* Borrows @text. Must not free the peer. */
	void (*send)(struct rpc_peer *p, const char *text, size_t len);
	/* One request less is pending, or batch_due is set. May be NULL. Must not free the peer. */
	void (*settled)(struct rpc_peer *p);
	char *buf;
	size_t start, len, cap; /* unread bytes are buf[start .. len) */
	size_t seen;		/* of them the scanner has looked at */
	struct rpc_scan scan;
	struct list reqs;
	unsigned pending; /* requests and batches without an answer */
	bool broken;	  /* the stream lost its sense: read no more */
	bool batch_due;	  /* a batch may go on: rpc_peer_pump() */
};
void rpc_peer_init(struct rpc_peer *p,
		   void (*send)(struct rpc_peer *p, const char *text,
				size_t len));
/* Requests that wait go on without it; their answers go nowhere. */
void rpc_peer_fini(struct rpc_peer *p);
/* Room for bytes to come, at least 1. NULL: none (a request too large, no memory); p->broken then. */
char *rpc_peer_room(struct rpc_peer *p, size_t *room);
void rpc_peer_filled(struct rpc_peer *p, size_t len);
/*
 * Start at most @budget requests: the next ones of batches first. true: there may be more; what waits for others to be
 * answered (RPC_MAX_PENDING) is no more.
 */
bool rpc_peer_pump(struct rpc_peer *p, unsigned budget);
/* No more bytes will come: half a request left over is answered with an error. */
void rpc_peer_eof(struct rpc_peer *p);
/* An answer to nobody in particular (id null). */
void rpc_peer_complain(struct rpc_peer *p, int code, const char *fmt, ...)
	printf_like(3, 4);

/* request.c */
/* A parsed value from @p: a request, which is started, or a batch, which is not. Takes @value. */
void rpc_handle(struct rpc_peer *p, json_t *value);
/* Start the next request of a batch; false: each is done or waits for the answer before. */
bool rpc_batch_step(struct rpc_peer *p);
/* Those that waited for RPC_RUNTIME. */
void rpc_run_held(void);
/* @p goes: what waits for an answer has no peer then. */
void rpc_abandon(struct rpc_peer *p);
json_t *rpc_error_object(int code, const char *message);

/* method.c */
const struct rpc_method *rpc_find(const char *name);
/* What to use instead of it, or NULL. */
const char *rpc_advice(const char *name);

#endif
