/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a value ends, whole and byte by byte. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static const struct scan_case {
	const char *name, *text;
	ssize_t want; /* bytes of the first value, 0: not whole yet */
} cases[] = {
	{ "an empty object", "{}", 2 },
	{ "an empty array", "[]", 2 },
	{ "space before it counts", " \t\r\n{}", 6 },
	{ "what follows does not", "{}{}", 2 },
	{ "brackets in a string", "{\"a\":\"}]{[\"}", 12 },
	{ "a quote in a string", "{\"a\\\"}\":1}", 10 },
	{ "a backslash before the closing quote", "{\"\\\\\":1}", 8 },
	{ "nothing", "", 0 },
	{ "space alone", "   ", 0 },
	{ "half an object", "{\"a\":", 0 },
	{ "half a string", "{\"a", 0 },
	{ "half an escape", "{\"a\\", 0 },
	{ "an inner value ends, not the outer", "[{},{}", 0 },
	{ "a wrong pair ends it too", "{]", 2 },
	{ "a string", "\"x\"", -EINVAL },
	{ "a number", "1", -EINVAL },
	{ "a word", "true", -EINVAL },
	{ "a closing bracket", "}", -EINVAL },
	{ "a NUL", "\x01", -EINVAL },
	{ "HTTP", "GET / HTTP/1.1\r\n", -EINVAL },
	{ "UTF-8's byte order mark", "\xef\xbb\xbf{}", -EINVAL },
};

static void
test_whole(void **state)
{
	struct rpc_scan s;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		s = (struct rpc_scan){ 0 };
		if (rpc_scan(&s, cases[i].text, strlen(cases[i].text)) !=
		    cases[i].want)
			fail_msg("%s", cases[i].name);
	}
}

static void
test_bytewise(void **state)
{
	struct rpc_scan s;
	ssize_t r = 0;
	size_t n;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		s = (struct rpc_scan){ 0 };
		r = 0;
		for (n = 0; cases[i].text[n] && !r; n++)
			r = rpc_scan(&s, cases[i].text + n, 1);
		if (r > 0)
			r = (ssize_t)n;
		if (r != cases[i].want)
			fail_msg("%s: %zd", cases[i].name, r);
	}
}

static void
test_depth(void **state)
{
	char text[RPC_MAX_DEPTH + 1];
	struct rpc_scan s = { 0 };

	memset(text, '[', sizeof(text));
	assert_int_equal(rpc_scan(&s, text, RPC_MAX_DEPTH), 0);
	s = (struct rpc_scan){ 0 };
	assert_int_equal(rpc_scan(&s, text, RPC_MAX_DEPTH + 1), -ELOOP);
}

static void
test_values(void **state)
{
	size_t n = RPC_MAX_VALUES + 1;
	struct rpc_scan s = { 0 };
	char *text = malloc(n + 1);

	assert_non_null(text);
	memset(text, ',', n);
	text[0] = '[';
	text[n - 1] = ']';
	assert_int_equal(rpc_scan(&s, text, n), n);
	text[n - 1] = ',';
	text[n] = ']';
	s = (struct rpc_scan){ 0 };
	assert_int_equal(rpc_scan(&s, text, n + 1), -E2BIG);
	free(text);
}

int
scan_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_bytewise),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
