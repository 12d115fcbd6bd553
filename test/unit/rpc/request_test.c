/* SPDX-License-Identifier: BSD-3-Clause */
/* Envelopes, ids, batches, notifications, limits, peers that vanish. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define OK(id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":true}\n"
#define BAD "\"code\":-32600"

static const struct request_case {
	const char *name, *text, *want; /* a part of the replies; "": none */
	unsigned replies;
} cases[] = {
	{ "a plain call",
	  "{\"jsonrpc\":\"2.0\",\"method\":\"t_echo\",\"id\":1}", OK("1"), 1 },
	{ "jsonrpc may be missing", "{\"method\":\"t_echo\",\"id\":1}", OK("1"),
	  1 },
	{ "a string id", "{\"method\":\"t_echo\",\"id\":\"x\"}", OK("\"x\""),
	  1 },
	{ "a null id wants an answer", "{\"method\":\"t_echo\",\"id\":null}",
	  OK("null"), 1 },
	{ "pretty-printed", "{\n  \"method\": \"t_echo\",\n  \"id\": 1\n}",
	  OK("1"), 1 },
	{ "null params are none",
	  "{\"method\":\"t_echo\",\"id\":1,\"params\":null}", "\"id\":1", 1 },
	{ "two without a space",
	  "{\"method\":\"t_echo\",\"id\":1}{\"method\":\"t_echo\",\"id\":2}",
	  OK("1") OK("2"), 2 },
	{ "a notification", "{\"method\":\"t_echo\"}", "", 0 },
	{ "a notification that fails", "{\"method\":\"t_fail\"}", "", 0 },
	{ "a notification to nobody", "{\"method\":\"nobody\"}", "", 0 },
	{ "an unknown method", "{\"method\":\"nobody\",\"id\":1}",
	  "\"code\":-32601,\"message\":\"Method not found\"", 1 },
	{ "an errno", "{\"method\":\"t_fail\",\"id\":1}",
	  "\"code\":-19,\"message\":\"No such device: disk 'x'\"", 1 },
	{ "a result out of memory", "{\"method\":\"t_null\",\"id\":1}",
	  "\"code\":-32603", 1 },
	{ "another version",
	  "{\"jsonrpc\":\"1.0\",\"method\":\"t_echo\",\"id\":1}", BAD, 1 },
	{ "a numeric version",
	  "{\"jsonrpc\":2.0,\"method\":\"t_echo\",\"id\":1}", BAD, 1 },
	{ "no method", "{\"jsonrpc\":\"2.0\",\"id\":1}", BAD, 1 },
	{ "a method that is no string", "{\"method\":1,\"id\":1}", BAD, 1 },
	{ "an unknown member", "{\"method\":\"t_echo\",\"id\":1,\"x\":1}", BAD,
	  1 },
	{ "params that are a string",
	  "{\"method\":\"t_echo\",\"id\":1,\"params\":\"x\"}", BAD, 1 },
	{ "an id that is an object", "{\"method\":\"t_echo\",\"id\":{}}",
	  "\"id\":null", 1 },
	{ "an id that is true", "{\"method\":\"t_echo\",\"id\":true}",
	  "\"id\":null", 1 },
	{ "an empty object", "{}", BAD, 1 },
	{ "an empty batch", "[]", BAD, 1 },
	{ "a batch of nonsense", "[1,2]", BAD, 1 },
	{ "a batch",
	  "[{\"method\":\"t_echo\",\"id\":1},{\"method\":\"t_echo\"},"
	  "{\"method\":\"nobody\",\"id\":2}]",
	  "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true},{\"jsonrpc\"", 1 },
	{ "a batch of notifications",
	  "[{\"method\":\"t_echo\"},{\"method\":\"t_fail\"}]", "", 0 },
	{ "a batch in a batch", "[[{\"method\":\"t_echo\",\"id\":1}]]", BAD,
	  1 },
};

static void
test_cases(void **state)
{
	struct unit_peer u;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unit_peer_open(&u);
		assert_int_equal(unit_feed(&u, cases[i].text), 0);
		if (!strstr(u.replies, cases[i].want) ||
		    u.count != cases[i].replies)
			fail_msg("%s: %s", cases[i].name, u.replies);
		unit_peer_close(&u);
	}
}

/* After these nothing more is read. */
static const struct broken_case {
	const char *name, *text, *want;
} broken[] = {
	{ "no JSON", "hello", "\"code\":-32700" },
	{ "a value that is no object", "\"x\"", "\"code\":-32700" },
	{ "a wrong pair of brackets", "{]", "\"code\":-32700" },
	{ "a bad literal", "{\"a\":tru}", "\"code\":-32700" },
	{ "bytes that are no UTF-8", "{\"method\":\"\xff\xfe\"}",
	  "\"code\":-32700" },
	{ "a number of a script", "{\"id\":NaN,\"method\":\"t_echo\"}",
	  "\"code\":-32700" },
};

static void
test_broken(void **state)
{
	struct unit_peer u;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(broken); i++) {
		unit_peer_open(&u);
		if (unit_feed(&u, broken[i].text) != -EPROTO ||
		    !strstr(u.replies, broken[i].want) || u.count != 1)
			fail_msg("%s: %s", broken[i].name, u.replies);
		assert_int_equal(unit_feed(&u, "{}"), -EPROTO);
		assert_int_equal(u.count, 1);
		unit_peer_close(&u);
	}
}

/* JSON, but none that is taken: where the next request starts is known. */
static const struct refused_case {
	const char *name, *text;
} refused[] = {
	{ "a name twice", "{\"id\":1,\"id\":2,\"method\":\"t_echo\"}" },
	{ "an integer too large",
	  "{\"id\":99999999999999999999,\"method\":\"t_echo\"}" },
	{ "a real too large", "{\"id\":1e999,\"method\":\"t_echo\"}" },
	{ "a NUL in a string", "{\"method\":\"a\\u0000b\",\"id\":1}" },
};

static void
test_refused(void **state)
{
	struct unit_peer u;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		unit_peer_open(&u);
		if (unit_feed(&u, refused[i].text) ||
		    !strstr(u.replies, "\"id\":null") ||
		    !strstr(u.replies, "\"code\":-32700"))
			fail_msg("%s: %s", refused[i].name, u.replies);
		unit_feed(&u, "{\"method\":\"t_echo\",\"id\":7}");
		assert_non_null(strstr(u.replies, OK("7")));
		unit_peer_close(&u);
	}
}

static void
test_long_id(void **state)
{
	char text[RPC_MAX_ID + 64];
	struct unit_peer u;

	unit_peer_open(&u);
	snprintf(text, sizeof(text), "{\"method\":\"t_echo\",\"id\":\"%0*d\"}",
		 RPC_MAX_ID, 0);
	assert_int_equal(unit_feed(&u, text), 0);
	assert_non_null(strstr(u.replies, "\"result\":true"));
	snprintf(text, sizeof(text), "{\"method\":\"t_echo\",\"id\":\"%0*d\"}",
		 RPC_MAX_ID + 1, 0);
	assert_int_equal(unit_feed(&u, text), 0);
	assert_non_null(strstr(u.replies, BAD));
	unit_peer_close(&u);
}

static void
test_size_limit(void **state)
{
	size_t len = RPC_MAX_REQUEST + 2;
	char *text = malloc(len);
	struct unit_peer u;

	assert_non_null(text);
	memset(text, 'x', len);
	memcpy(text, "{\"", 2);
	unit_peer_open(&u);
	assert_int_equal(rpc_parser_feed(u.parser, text, RPC_MAX_REQUEST), 0);
	assert_int_equal(u.count, 0);
	assert_int_equal(rpc_parser_feed(u.parser, text + RPC_MAX_REQUEST, 2),
			 -EPROTO);
	assert_non_null(strstr(u.replies, "larger than 262144 bytes"));
	unit_peer_close(&u);
	free(text);
}

/* A megabyte of small requests passes: only one request is limited. */
static void
test_many(void **state)
{
	static const char one[] = "{\"method\":\"t_echo\"} ";
	struct unit_peer u;
	unsigned i;

	unit_peer_open(&u);
	for (i = 0; i < 50000; i++)
		assert_int_equal(unit_feed(&u, one), 0);
	assert_int_equal(unit_feed(&u, "{\"method\":\"t_echo\",\"id\":1}"), 0);
	assert_string_equal(u.replies, OK("1"));
	unit_peer_close(&u);
}

static void
test_later(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	unit_feed(&u, "{\"method\":\"t_later\",\"id\":1}"
		      "{\"method\":\"t_echo\",\"id\":2}");
	assert_string_equal(u.replies, OK("2"));
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	assert_string_equal(u.replies, OK("2") OK("1"));
	unit_peer_close(&u);
}

static void
test_vanished(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	unit_feed(&u, "{\"method\":\"t_later\",\"id\":1}");
	unit_peer_close(&u);
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	assert_int_equal(u.count, 0);
	/* the rest of a batch is not begun for nobody */
	unit_peer_open(&u);
	unit_feed(&u, "[{\"method\":\"t_later\",\"id\":1},"
		      "{\"method\":\"t_later\",\"id\":2}]");
	assert_false(rpc_req_gone(unit_later));
	unit_peer_close(&u);
	assert_true(rpc_req_gone(unit_later));
	rpc_error(unit_later, -1, "x");
	unit_later = NULL;
	assert_int_equal(u.count, 0);
	/* nor one that could go on now */
	unit_peer_open(&u);
	unit_feed(&u, "[{\"method\":\"t_later\",\"id\":1},"
		      "{\"method\":\"t_later\",\"id\":2}]");
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	unit_peer_close(&u);
	assert_null(unit_later);
	assert_int_equal(u.count, 0);
}

static void
test_batch_in_order(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	unit_feed(&u, "[{\"method\":\"t_later\",\"id\":1},"
		      "{\"method\":\"t_echo\",\"id\":2}]");
	assert_int_equal(u.count, 0);
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	/* whoever answered may still hold what the next one changes */
	assert_int_equal(u.count, 0);
	unit_feed(&u, "");
	assert_string_equal(
		u.replies, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true},"
			   "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":true}]\n");
	unit_peer_close(&u);
}

/* A complaint that was cut in the middle of a character, or quotes what is none, is told all the same. */
static void
test_cut_text(void **state)
{
	static const char *const texts[] = { "ab\xc3", "\xe2\x82 ab",
					     "ab \xff\xfe" };
	const char *s;
	json_t *o;

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		o = rpc_error_object(-1, texts[i]);
		s = json_string_value(json_object_get(o, "message"));
		assert_non_null(s);
		assert_non_null(strstr(s, "ab"));
		assert_int_equal(strlen(s), strlen(texts[i]));
		json_decref(o);
	}
	o = rpc_error_object(-1, "\xe2\x82\xac");
	assert_string_equal(json_string_value(json_object_get(o, "message")),
			    "\xe2\x82\xac");
	json_decref(o);
}

/* More than the longest reply, one after the other: told, and not kept. */
static void
test_batch_too_long(void **state)
{
	struct unit_peer u;
	unsigned i;

	unit_peer_open(&u);
	unit_feed(&u, "[");
	for (i = 0; i < 40; i++) /* a megabyte each */
		unit_feed(&u, "{\"method\":\"t_long\",\"id\":1},");
	unit_feed(&u, "{\"method\":\"t_echo\",\"id\":2}]");
	assert_int_equal(u.count, 1);
	assert_non_null(strstr(u.replies, "the reply is too large"));
	unit_peer_close(&u);
}

static void
count_reply(void *arg, const char *text, size_t len)
{
	unsigned *n = arg;

	assert_true(text[0] == '[' && text[len - 1] == ']');
	for (size_t i = 0; i + 6 < len; i++)
		*n += !memcmp(text + i, "-32600", 6);
}

/* Thousands in a batch must not pile up on the stack. */
static void
test_long_batch(void **state)
{
	char text[16400] = "[1";
	struct rpc_parser *p;
	unsigned errors = 0;
	size_t n = 2;

	while (n < 2 * 8000) {
		text[n++] = ',';
		text[n++] = '1';
	}
	text[n++] = ']';
	p = rpc_parser_create(count_reply, &errors);
	assert_int_equal(rpc_parser_feed(p, text, n), 0);
	assert_int_equal(errors, 8000);
	rpc_parser_destroy(p);
}

static void
test_state(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	rpc_set_state(RPC_STARTUP);
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":1}");
	assert_non_null(strstr(u.replies, "\"code\":-1,"));
	assert_non_null(strstr(u.replies, "framework_start_init"));
	unit_feed(&u, "{\"method\":\"t_startup\",\"id\":2}");
	assert_non_null(strstr(u.replies, OK("2")));
	rpc_set_state(RPC_RUNTIME);
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":3}"
		      "{\"method\":\"t_startup\",\"id\":4}");
	assert_non_null(strstr(u.replies, OK("3")));
	assert_null(strstr(u.replies, OK("4")));
	unit_peer_close(&u);
	rpc_set_state(RPC_STARTUP);
}

/* While the start is under way, what may only come after it waits, in order; or hears that nothing came of it. */
static void
test_hold(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	rpc_set_state(RPC_STARTUP);
	rpc_hold();
	unit_feed(
		&u,
		"{\"method\":\"t_runtime\",\"id\":1}"
		"[{\"method\":\"t_runtime\",\"id\":2},{\"method\":\"t_echo\",\"id\":3}]");
	assert_string_equal(u.replies, "");
	unit_feed(&u, "{\"method\":\"t_startup\",\"id\":4}");
	assert_non_null(strstr(u.replies, OK("4")));
	assert_null(strstr(u.replies, OK("1")));
	rpc_set_state(RPC_RUNTIME);
	unit_feed(&u, " ");
	assert_non_null(strstr(u.replies, OK("1")));
	assert_non_null(strstr(u.replies, "\"id\":2,\"result\":true}"));
	assert_non_null(strstr(u.replies, "\"id\":3,\"result\":true}"));
	rpc_set_state(RPC_STARTUP);
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":5}");
	assert_non_null(strstr(u.replies, "framework_start_init"));
	rpc_hold();
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":6}");
	assert_null(strstr(u.replies, "\"id\":6"));
	rpc_drop_held();
	assert_non_null(strstr(u.replies, "did not start"));
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":7}");
	rpc_hold();
	unit_feed(&u, "{\"method\":\"t_runtime\",\"id\":8}");
	unit_peer_close(&u); /* gone meanwhile */
	rpc_drop_held();
}

/* Who has gone before the start was done wants nothing of it any more. */
static void
test_hold_for_the_gone(void **state)
{
	struct unit_peer stays, goes;
	unsigned i;

	unit_peer_open(&stays);
	unit_peer_open(&goes);
	rpc_set_state(RPC_STARTUP);
	rpc_hold();
	for (i = 0; i < 20; i++)
		unit_feed(&goes, "{\"method\":\"t_runtime\",\"id\":1}");
	unit_feed(&stays, "{\"method\":\"t_runtime\",\"id\":2}");
	unit_feed(&goes, "{\"method\":\"t_runtime\",\"id\":3}");
	unit_peer_close(&goes);
	unit_ran = 0;
	rpc_set_state(RPC_RUNTIME);
	assert_int_equal(unit_ran, 1);
	assert_non_null(strstr(stays.replies, OK("2")));
	unit_peer_close(&stays);
	rpc_set_state(RPC_STARTUP);
}

static const char *
advice(const char *method)
{
	return strcmp(method, "old_thing") ? NULL : "use t_echo";
}

static void
test_advice(void **state)
{
	struct unit_peer u;

	unit_peer_open(&u);
	rpc_set_advice(advice);
	unit_feed(&u, "{\"method\":\"old_thing\",\"id\":1}");
	assert_non_null(strstr(u.replies, "\"Method not found: use t_echo\""));
	unit_feed(&u, "{\"method\":\"nobody\",\"id\":1}");
	assert_non_null(strstr(u.replies, "\"Method not found\""));
	rpc_set_advice(NULL);
	unit_peer_close(&u);
}

static void
test_methods(void **state)
{
	json_t *all = rpc_methods(false), *now = rpc_methods(true);

	assert_int_equal(json_array_size(all), 9);
	assert_int_equal(json_array_size(now), 8);
	assert_string_equal(json_string_value(json_array_get(all, 0)),
			    "t_decode");
	json_decref(all);
	json_decref(now);
}

static void
call_done(void *arg, const json_t *result, const json_t *error)
{
	*(int *)arg =
		error ? (int)json_integer_value(json_object_get(error, "code"))
		      : json_is_true(result);
}

static void
test_call(void **state)
{
	int got = 0;

	rpc_call("t_echo", NULL, call_done, &got);
	assert_int_equal(got, 1);
	rpc_call("t_fail", NULL, call_done, &got);
	assert_int_equal(got, -ENODEV);
	rpc_call("nobody", NULL, call_done, &got);
	assert_int_equal(got, RPC_METHOD_NOT_FOUND);
	/* from inside, the state does not matter */
	rpc_call("t_runtime", NULL, call_done, &got);
	assert_int_equal(got, 1);
}

int
request_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_long_id),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_later),
		cmocka_unit_test(test_vanished),
		cmocka_unit_test(test_batch_in_order),
		cmocka_unit_test(test_cut_text),
		cmocka_unit_test(test_batch_too_long),
		cmocka_unit_test(test_long_batch),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_hold_for_the_gone),
		cmocka_unit_test(test_advice),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_call),
	};

	return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
