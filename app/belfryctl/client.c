/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The JSON-RPC client: one blocking connection with a time-out. Not for the daemon's side (lib/rpc).
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl.h"

#define REPLY_MAX (64u << 20)

static int
connect_to(struct ctl *c)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int err;

	memcpy(sa.sun_path, c->socket, strlen(c->socket));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return 0;
	err = -errno;
	close(c->fd);
	c->fd = -1;
	if (c->quiet)
		return err;
	fprintf(stderr, "belfryctl: cannot reach belfryd at %s: %s\n",
		c->socket, strerror(-err));
	if (err == -ENOENT || err == -ECONNREFUSED)
		fprintf(stderr,
			"Is it running? Start it with 'belfryd', or name its socket with -s.\n");
	else if (err == -EACCES)
		fprintf(stderr,
			"The socket is for the user that runs belfryd: become that one, with sudo for root.\n");
	return err;
}

static int
send_all(struct ctl *c, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* More bytes behind c->rx. */
static int
receive_more(struct ctl *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int rc = poll(&p, 1, (int)(c->timeout_s * 1000));
	char *grown;
	ssize_t n;

	if (rc == 0)
		return -ETIMEDOUT;
	if (rc < 0)
		return errno == EINTR ? 0 : -errno;
	if (c->rx_len >= REPLY_MAX)
		return -EMSGSIZE;
	grown = realloc(c->rx, c->rx_len + 65536);
	if (!grown)
		return -ENOMEM;
	c->rx = grown;
	n = recv(c->fd, c->rx + c->rx_len, 65536, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	c->rx_len += (size_t)n;
	return 0;
}

/* The length of the JSON object at the start of the buffer; 0: not whole yet. Linear: remembers nothing, reads once. */
static size_t
whole_object(const char *p, size_t len)
{
	bool string = false, escape = false;
	unsigned depth = 0;

	for (size_t i = 0; i < len; i++) {
		if (escape)
			escape = false;
		else if (string && p[i] == '\\')
			escape = true;
		else if (p[i] == '"')
			string = !string;
		else if (string)
			continue;
		else if (p[i] == '{' || p[i] == '[')
			depth++;
		else if ((p[i] == '}' || p[i] == ']') && depth && --depth == 0)
			return i + 1;
	}
	return 0;
}

static json_t *
receive_reply(struct ctl *c, int *err)
{
	json_error_t jerr;
	json_t *reply;
	size_t len;

	for (;;) {
		/* Only a closing bracket can end a reply: look when one came last. */
		char last = c->rx_len ? c->rx[c->rx_len - 1] : 0;

		if (last == '}' || last == '\n' || last == ' ') {
			len = whole_object(c->rx, c->rx_len);
			if (len)
				break;
		}
		*err = receive_more(c);
		if (*err)
			return NULL;
	}
	reply = json_loadb(c->rx, len, 0, &jerr);
	memmove(c->rx, c->rx + len, c->rx_len - len);
	c->rx_len -= len;
	if (!reply)
		*err = -EBADMSG;
	return reply;
}

static json_t *
transact(struct ctl *c, const char *method, json_t *params, int *err)
{
	json_t *req = json_pack("{s:s, s:i, s:s}", "jsonrpc", "2.0", "id",
				++c->next_id, "method", method);
	json_t *reply = NULL;
	char *text = NULL;

	if (params)
		json_object_set_new(req, "params", params);
	text = json_dumps(req, JSON_COMPACT);
	json_decref(req);
	*err = text ? send_all(c, text, strlen(text)) : -ENOMEM;
	free(text);
	if (!*err)
		reply = receive_reply(c, err);
	return reply;
}

json_t *
ctl_call(struct ctl *c, const char *method, json_t *params, json_t **error)
{
	json_t *reply, *result, *e;
	int err;

	if (error)
		*error = NULL;
	if (c->fd < 0 && connect_to(c)) {
		json_decref(params);
		return NULL;
	}
	reply = transact(c, method, params, &err);
	if (!reply) {
		fprintf(stderr, "belfryctl: %s: %s\n", method,
			err == -ETIMEDOUT ? "no answer in time (see --timeout)"
			: err == -ECONNRESET
				? "the daemon closed the connection"
				: strerror(-err));
		return NULL;
	}
	result = json_object_get(reply, "result");
	e = json_object_get(reply, "error");
	if (result)
		json_incref(result);
	else if (error)
		*error = json_incref(e ? e : json_null());
	else
		fprintf(stderr, "belfryctl: %s: %s (%lld)\n", method,
			json_string_value(json_object_get(e, "message"))
				? json_string_value(
					  json_object_get(e, "message"))
				: "malformed reply",
			(long long)json_integer_value(
				json_object_get(e, "code")));
	json_decref(reply);
	return result;
}

int
ctl_do(struct ctl *c, const char *method, json_t *params)
{
	json_t *r = ctl_call(c, method, params, NULL);

	json_decref(r);
	return r ? CTL_OK : CTL_FAILED;
}

int
ctl_do_say(struct ctl *c, const char *method, json_t *params,
	   const char *said_fmt, ...)
{
	json_t *r = ctl_call(c, method, params, NULL);
	va_list ap;

	if (!r)
		return CTL_FAILED;
	if (c->json) {
		ctl_print_json(r);
	} else {
		va_start(ap, said_fmt);
		vprintf(said_fmt, ap);
		va_end(ap);
		putchar('\n');
	}
	json_decref(r);
	return CTL_OK;
}

void
ctl_close(struct ctl *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->rx);
	c->rx = NULL;
}
