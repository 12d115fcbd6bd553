/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests, batches and their answers (JSON-RPC 2.0). Not for bytes: peer.c finds whole values, server.c has the sockets.
 *
 * The requests of a batch run one after the other, so that a batch may create what a later entry of it uses;
 * separate requests of a connection run side by side.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"

#include "internal.h"

/* Who waits for one answer, or for all those of a batch. */
struct ticket {
	struct list node;      /* in peer->reqs; alone when the peer has gone */
	struct rpc_peer *peer; /* valid while node is in a list */
	json_t *requests;      /* of a batch, else NULL */
	size_t next;
	bool waiting; /* for the answer of requests[next - 1] */
	FILE *replies; /* a batch's, as text: that is a tenth of what they are as values */
	char *text;
	size_t len;
};

struct rpc_req {
	struct ticket *ticket; /* NULL: from inside */
	json_t *root;	       /* keeps id and params */
	json_t *id;	       /* borrowed from root; NULL: notification */
	const struct rpc_method *method;
	void *user;
	void (*done)(void *arg, const json_t *result, const json_t *error);
	void *arg;
	struct list node; /* held */
	void (*then)(struct rpc_req *req);
};

#define SWEEP 1024 /* after so many more, those held whose client has gone go */

static struct list held = LIST_INIT(held); /* for RPC_RUNTIME */
static unsigned held_so_far;
static bool holding;

json_t *
rpc_error_object(int code, const char *message)
{
	json_t *s = json_string(message);
	char *copy, *c;

	/* a sentence may quote bytes that are no UTF-8, or a name that was cut in the middle of a character */
	if (!s && (copy = strdup(message))) {
		for (c = copy; *c; c++)
			if (*c & 0x80)
				*c = '?';
		s = json_string(copy);
		free(copy);
	}
	return json_pack("{s:i, s:o}", "code", code, "message", s);
}

static void
settled(struct rpc_peer *p)
{
	if (p->settled)
		p->settled(p);
}

static void
ticket_free(struct ticket *t)
{
	if (!list_empty(&t->node)) {
		t->peer->pending--;
		list_remove(&t->node);
		settled(t->peer);
	}
	json_decref(t->requests);
	if (t->replies)
		fclose(t->replies);
	free(t->text);
	free(t);
}

static void
send_text(struct rpc_peer *p, const char *text, size_t len)
{
	if (text && len <= RPC_MAX_REPLY)
		p->send(p, text, len);
	else
		rpc_peer_complain(p, RPC_INTERNAL, "Internal error: %s",
				  text ? "the reply is too large"
				       : "out of memory");
}

static void
send_json(struct rpc_peer *p, const json_t *reply)
{
	char *text = json_dumps(reply, JSON_COMPACT);

	send_text(p, text, text ? strlen(text) : 0);
	free(text);
}

/* What goes beyond the largest reply is not kept: there will be a complaint instead. */
static void
batch_append(struct ticket *t, const json_t *reply)
{
	if (!t->replies)
		t->replies = open_memstream(&t->text, &t->len);
	if (!t->replies || ftello(t->replies) > RPC_MAX_REPLY)
		return;
	fputc(ftello(t->replies) ? ',' : '[', t->replies);
	json_dumpf(reply, t->replies, JSON_COMPACT);
}

static void
batch_end(struct ticket *t)
{
	bool lost = false;

	if (t->replies) {
		fputc(']', t->replies);
		lost = fflush(t->replies) || ferror(t->replies);
		send_text(t->peer, lost ? NULL : t->text, t->len);
	}
	ticket_free(t);
}

/* @reply is taken; NULL for a notification. */
static void
ticket_answer(struct ticket *t, json_t *reply)
{
	bool gone = list_empty(&t->node);

	if (reply && !gone && t->requests)
		batch_append(t, reply);
	else if (reply && !gone)
		send_json(t->peer, reply);
	json_decref(reply);
	t->waiting = false;
	if (!t->requests || gone) {
		ticket_free(t);
	} else if (t->next == json_array_size(t->requests)) {
		batch_end(t);
	} else {
		/* not from here: whoever answers may be in the middle of what the next one changes */
		t->peer->batch_due = true;
		settled(t->peer);
	}
}

static void
req_free(struct rpc_req *req)
{
	json_decref(req->root);
	free(req);
}

/* Takes @result or @error; the other is NULL. */
static void
req_finish(struct rpc_req *req, json_t *result, json_t *error)
{
	struct ticket *t = req->ticket;
	json_t *reply = NULL;

	if (!result && !error)
		error = rpc_error_object(RPC_INTERNAL,
					 "Internal error: out of memory");
	if (req->done)
		req->done(req->arg, result, error);
	if (t && req->id)
		reply = json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "id",
				  req->id, error ? "error" : "result",
				  error ? error : result);
	json_decref(result);
	json_decref(error);
	req_free(req);
	if (t)
		ticket_answer(t, reply);
}

void
rpc_result(struct rpc_req *req, json_t *result)
{
	req_finish(req, result, NULL);
}

void
rpc_error(struct rpc_req *req, int code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	req_finish(req, NULL, rpc_error_object(code, text));
}

void
rpc_errno(struct rpc_req *req, int err, const char *fmt, ...)
{
	char text[1024], why[128];
	size_t len;
	va_list ap;

	if (err > 0)
		err = -err;
	snprintf(text, sizeof(text), "%s", strerror_r(-err, why, sizeof(why)));
	if (fmt) {
		len = strlen(text);
		len += (size_t)snprintf(text + len, sizeof(text) - len, ": ");
		va_start(ap, fmt);
		vsnprintf(text + len, sizeof(text) - len, fmt, ap);
		va_end(ap);
	}
	req_finish(req, NULL, rpc_error_object(err, text));
}

void *
rpc_req_user(struct rpc_req *req)
{
	return req->user;
}

const struct rpc_method *
rpc_req_method(const struct rpc_req *req)
{
	return req->method;
}

bool
rpc_req_gone(const struct rpc_req *req)
{
	return req->ticket && list_empty(&req->ticket->node);
}

void
rpc_req_set_user(struct rpc_req *req, void *user)
{
	req->user = user;
}

/* What is wrong with the envelope? NULL: nothing. */
static const char *
envelope_error(const json_t *request)
{
	const char *key;
	json_t *v;

	if (!json_is_object(request))
		return "a request is an object";
	json_object_foreach((json_t *)request, key, v) {
		if (strcmp(key, "jsonrpc") && strcmp(key, "method") &&
		    strcmp(key, "params") && strcmp(key, "id"))
			return "a member that is none of jsonrpc, id, method, params";
	}
	v = json_object_get(request, "jsonrpc");
	if (v && (!json_is_string(v) || strcmp(json_string_value(v), "2.0")))
		return "'jsonrpc' is not \"2.0\"";
	if (!json_is_string(json_object_get(request, "method")))
		return "'method' is missing or no string";
	v = json_object_get(request, "params");
	if (v && !json_is_object(v) && !json_is_array(v) && !json_is_null(v))
		return "'params' is no object";
	return NULL;
}

static bool
id_ok(const json_t *id)
{
	return json_is_null(id) || json_is_integer(id) || json_is_real(id) ||
	       (json_is_string(id) && json_string_length(id) <= RPC_MAX_ID);
}

static void
run_handler(struct rpc_req *req)
{
	req->method->handler(req, json_object_get(req->root, "params"));
}

/* Runs the handler, or answers with an error. @free_for_all: whatever the state. */
static void
req_dispatch(struct rpc_req *req, const char *name, const json_t *params,
	     bool free_for_all)
{
	const struct rpc_method *m = rpc_find(name);
	const char *advice = m ? NULL : rpc_advice(name);

	req->method = m;
	log_debug(rpc, "rpc: %.64s", name);
	if (!m)
		rpc_error(req, RPC_METHOD_NOT_FOUND, "Method not found%s%s",
			  advice ? ": " : "", advice ? advice : "");
	else if (free_for_all || (m->flags & rpc_get_state()))
		m->handler(req, params);
	else if (holding)
		rpc_when_runtime(req, run_handler);
	else if (rpc_get_state() == RPC_STARTUP)
		rpc_error(
			req, RPC_INVALID_STATE,
			"Method may only be called after framework is initialized using framework_start_init RPC.");
	else
		rpc_error(
			req, RPC_INVALID_STATE,
			"Method may only be called before framework is initialized using framework_start_init RPC.");
}

void
rpc_hold(void)
{
	holding = true;
}

/* To all of them, or to those whose client has gone: it hears nothing. */
static void
refuse_held(bool all)
{
	struct rpc_req *req, *next;

	list_for_each_safe(req, next, &held, node) {
		if (!all && !rpc_req_gone(req))
			continue;
		list_remove(&req->node);
		rpc_error(req, RPC_INVALID_STATE, "the daemon did not start");
	}
}

void
rpc_when_runtime(struct rpc_req *req, void (*then)(struct rpc_req *req))
{
	if (rpc_get_state() == RPC_RUNTIME) {
		then(req);
		return;
	}
	if (!(++held_so_far % SWEEP))
		refuse_held(false);
	req->then = then;
	list_push_back(&held, &req->node);
}

void
rpc_run_held(void)
{
	struct rpc_req *req;

	holding = false;
	refuse_held(false);
	while ((req = list_first(&held, struct rpc_req, node))) {
		list_remove(&req->node);
		req->then(req);
	}
}

void
rpc_drop_held(void)
{
	holding = false;
	refuse_held(true);
}

/* Takes @request. */
static void
start_request(struct ticket *t, json_t *request)
{
	const char *why = envelope_error(request);
	json_t *id = json_object_get(request, "id");
	struct rpc_req *req = calloc(1, sizeof(*req));

	if (!why && id && !id_ok(id))
		why = "'id' is no number and no string of at most 128 bytes";
	if (!req) {
		json_decref(request);
		ticket_answer(
			t, json_pack("{s:s, s:n, s:o}", "jsonrpc", "2.0", "id",
				     "error",
				     rpc_error_object(
					     RPC_INTERNAL,
					     "Internal error: out of memory")));
		return;
	}
	req->ticket = t;
	req->root = request;
	req->id = id;
	if (why) {
		/* whoever sends nonsense gets an answer, id or not */
		if (!id || !id_ok(id)) {
			req->root = json_pack("{s:n}", "id");
			req->id = json_object_get(req->root, "id");
			json_decref(request);
		}
		rpc_error(req, RPC_INVALID_REQUEST, "Invalid request: %s", why);
		return;
	}
	req_dispatch(req, json_string_value(json_object_get(request, "method")),
		     json_object_get(request, "params"), false);
}

void
rpc_handle(struct rpc_peer *p, json_t *value)
{
	struct ticket *t;

	if (json_is_array(value) && !json_array_size(value)) {
		rpc_peer_complain(p, RPC_INVALID_REQUEST,
				  "Invalid request: an empty batch");
		json_decref(value);
		return;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		rpc_peer_complain(p, RPC_INTERNAL,
				  "Internal error: out of memory");
		json_decref(value);
		return;
	}
	t->peer = p;
	list_push_back(&p->reqs, &t->node);
	p->pending++;
	if (json_is_array(value)) {
		t->requests = value;
		p->batch_due = true;
	} else {
		start_request(t, value);
	}
}

bool
rpc_batch_step(struct rpc_peer *p)
{
	struct ticket *t;

	list_for_each(t, &p->reqs, node) {
		if (!t->requests || t->waiting)
			continue;
		t->waiting = true;
		start_request(
			t, json_incref(json_array_get(t->requests, t->next++)));
		return true;
	}
	p->batch_due = false;
	return false;
}

void
rpc_abandon(struct rpc_peer *p)
{
	struct ticket *t, *next;

	list_for_each_safe(t, next, &p->reqs, node) {
		list_remove(&t->node);
		if (t->requests && !t->waiting)
			ticket_free(t);
	}
}

void
rpc_call(const char *method, const json_t *params,
	 void (*done)(void *arg, const json_t *result, const json_t *error),
	 void *arg)
{
	struct rpc_req *req = calloc(1, sizeof(*req));
	json_t *error;

	if (!req) {
		error = rpc_error_object(RPC_INTERNAL,
					 "Internal error: out of memory");
		done(arg, NULL, error);
		json_decref(error);
		return;
	}
	req->root = json_incref((json_t *)params);
	req->done = done;
	req->arg = arg;
	req_dispatch(req, method, params, true);
}
