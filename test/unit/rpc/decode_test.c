/* SPDX-License-Identifier: BSD-3-Clause */
/* Params: types, ranges, what is missing, what is too much. */
#include <stdio.h>
#include <string.h>

#include "unit.h"

static const struct decode_case {
	const char *name, *params; /* without "u32":1 */
	const char *member;	   /* named by the error; NULL: accepted */
} cases[] = {
	{ "nothing else", "", NULL },
	{ "a string", "\"str\":\"x\"", NULL },
	{ "an empty string", "\"str\":\"\"", NULL },
	{ "false", "\"flag\":false", NULL },
	{ "the largest u8", "\"u8\":255", NULL },
	{ "the largest u64", "\"u64\":9223372036854775807", NULL },
	{ "the smallest i32", "\"i32\":-2147483648", NULL },
	{ "an integer written as a real", "\"u16\":512.0", NULL },
	{ "an integer with an exponent", "\"u64\":1e3", NULL },
	{ "a UUID", "\"uuid\":\"5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54\"", NULL },
	{ "an object", "\"obj\":{}", NULL },
	{ "an array", "\"arr\":[1]", NULL },
	{ "what is ignored may be anything", "\"old\":[{}]", NULL },
	{ "a number for a string", "\"str\":1", "str" },
	{ "null for a string", "\"str\":null", "str" },
	{ "1 for true", "\"flag\":1", "flag" },
	{ "\"true\" for true", "\"flag\":\"true\"", "flag" },
	{ "u8 too large", "\"u8\":256", "u8" },
	{ "u8 negative", "\"u8\":-1", "u8" },
	{ "u16 too large", "\"u16\":65536", "u16" },
	{ "u64 negative", "\"u64\":-1", "u64" },
	{ "u64 as a string", "\"u64\":\"1\"", "u64" },
	{ "u64 with a fraction", "\"u64\":1.5", "u64" },
	{ "u64 as a huge real", "\"u64\":1e300", "u64" },
	{ "i32 too small", "\"i32\":-2147483649", "i32" },
	{ "i32 too large", "\"i32\":2147483648", "i32" },
	{ "half a UUID", "\"uuid\":\"5e4cd7b9\"", "uuid" },
	{ "a UUID that is a number", "\"uuid\":5", "uuid" },
	{ "an array for an object", "\"obj\":[]", "obj" },
	{ "an object for an array", "\"arr\":{}", "arr" },
	{ "an unknown member", "\"nosuch\":1", "nosuch" },
	{ "another case is another name", "\"STR\":\"x\"", "STR" },
};

static void
test_cases(void **state)
{
	char text[256], want[64];
	struct unit_peer u;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unit_peer_open(&u);
		snprintf(text, sizeof(text),
			 "{\"method\":\"t_decode\",\"id\":1,"
			 "\"params\":{\"u32\":1%s%s}}",
			 *cases[i].params ? "," : "", cases[i].params);
		snprintf(want, sizeof(want), "'%s'", cases[i].member);
		unit_feed(&u, text);
		if (cases[i].member ? !strstr(u.replies, "-32602") ||
					      !strstr(u.replies,
						      "Invalid parameters") ||
					      !strstr(u.replies, want)
				    : !strstr(u.replies, "true"))
			fail_msg("%s: %s", cases[i].name, u.replies);
		unit_peer_close(&u);
	}
}

static void
call(struct unit_peer *u, const char *method, const char *params)
{
	char text[256];

	unit_peer_open(u);
	snprintf(text, sizeof(text), "{\"method\":\"%s\",\"id\":1%s%s}", method,
		 params ? ",\"params\":" : "", params ? params : "");
	unit_feed(u, text);
	unit_peer_close(u);
}

static void
test_missing(void **state)
{
	struct unit_peer u;

	call(&u, "t_decode", "{}");
	assert_non_null(strstr(u.replies, "'u32' is missing"));
	call(&u, "t_decode", NULL);
	assert_non_null(strstr(u.replies, "'u32' is missing"));
	call(&u, "t_decode", "null");
	assert_non_null(strstr(u.replies, "'u32' is missing"));
	call(&u, "t_decode", "[1]");
	assert_non_null(strstr(u.replies, "-32602"));
}

static void
test_values(void **state)
{
	struct unit_peer u;

	call(&u, "t_decode", "{\"u32\":4294967295,\"u64\":7,\"i32\":-3}");
	assert_int_equal(unit_params.u32, UINT32_MAX);
	assert_int_equal(unit_params.u64, 7);
	assert_int_equal(unit_params.i32, -3);
	assert_true(unit_params.u64_seen);
	assert_false(unit_params.uuid_seen);
	call(&u, "t_decode", "{\"u32\":1}");
	assert_false(unit_params.u64_seen);
}

static void
test_relaxed(void **state)
{
	struct unit_peer u;

	call(&u, "t_relaxed", "{\"u32\":1,\"nosuch\":1}");
	assert_non_null(strstr(u.replies, "true"));
	/* what is known is judged all the same */
	call(&u, "t_relaxed", "{\"u32\":1,\"u8\":\"x\"}");
	assert_non_null(strstr(u.replies, "'u8'"));
	call(&u, "t_relaxed", "{\"nosuch\":1}");
	assert_non_null(strstr(u.replies, "'u32' is missing"));
}

int
decode_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_relaxed),
	};

	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
