/* SPDX-License-Identifier: BSD-3-Clause */
/* VERSION's payload: what clients send, what nobody should, and our answer. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#define CAPS(x) "{\"capabilities\":{" x "}}"

/* clang-format off */
static const struct {
	const char *name, *json;	/* NULL: no JSON at all */
	uint16_t major, minor;
	int want;
	uint32_t fds;
	bool iommufd;
} parse_cases[] = {
	{ "QEMU's", LEGACY_JSON, 0, 0, 0, 16, false },
	{ "none, as SPDK's client", NULL, 0, 1, 0, 1, false },
	{ "empty text", "", 0, 0, 0, 1, false },
	{ "any minor", NULL, 0, 65535, 0, 1, false },
	{ "no capabilities", "{}", 0, 0, 0, 1, false },
	{ "empty capabilities", CAPS(""), 0, 0, 0, 1, false },
	{ "unknown keys", CAPS("\"x\":[1,{}],\"y\":null"), 0, 0, 0, 1, false },
	{ "unknown key above", "{\"z\":1,\"capabilities\":{}}", 0, 0, 0, 1, false },
	{ "iommufd", IOMMUFD_JSON, 0, 0, 0, 1, true },
	{ "iommufd unsupported", CAPS("\"iommufd\":{\"supported\":false}"), 0, 0, 0, 1, false },
	{ "iommufd says nothing", CAPS("\"iommufd\":{}"), 0, 0, 0, 1, false },
	{ "twin socket asked", CAPS("\"twin_socket\":{\"supported\":true}"), 0, 0, 0, 1, false },
	{ "no descriptors", CAPS("\"max_msg_fds\":0"), 0, 0, 0, 0, false },
	{ "huge number", CAPS("\"max_msg_fds\":9223372036854775807"), 0, 0, 0, UINT32_MAX, false },
	{ "another major", NULL, 1, 0, -EINVAL },
	{ "another major with JSON", LEGACY_JSON, 65535, 0, -EINVAL },
	{ "number too big", CAPS("\"max_msg_fds\":99999999999999999999"), 0, 0, -EINVAL },
	{ "negative", CAPS("\"max_msg_fds\":-1"), 0, 0, -EINVAL },
	{ "fraction", CAPS("\"max_msg_fds\":1.5"), 0, 0, -EINVAL },
	{ "string for a number", CAPS("\"max_data_xfer_size\":\"1\""), 0, 0, -EINVAL },
	{ "negative maps", CAPS("\"max_dma_maps\":-5"), 0, 0, -EINVAL },
	{ "pgsizes an object", CAPS("\"pgsizes\":{}"), 0, 0, -EINVAL },
	{ "iommufd a bool", CAPS("\"iommufd\":true"), 0, 0, -EINVAL },
	{ "iommufd a list", CAPS("\"iommufd\":[]"), 0, 0, -EINVAL },
	{ "supported a number", CAPS("\"iommufd\":{\"supported\":1}"), 0, 0, -EINVAL },
	{ "twin socket a number", CAPS("\"twin_socket\":2"), 0, 0, -EINVAL },
	{ "write_multiple a number", CAPS("\"write_multiple\":1"), 0, 0, -EINVAL },
	{ "capabilities a list", "{\"capabilities\":[]}", 0, 0, -EINVAL },
	{ "capabilities null", "{\"capabilities\":null}", 0, 0, -EINVAL },
	{ "top is a list", "[]", 0, 0, -EINVAL },
	{ "top is a number", "7", 0, 0, -EINVAL },
	{ "cut off", "{\"capabilities\":{", 0, 0, -EINVAL },
	{ "rubbish after it", "{}x", 0, 0, -EINVAL },
	{ "no UTF-8", "{\"\xff\xfe\":1}", 0, 0, -EINVAL },
	{ "just a brace", "{", 0, 0, -EINVAL },
	{ "nothing but blanks", "  ", 0, 0, -EINVAL },
};
/* clang-format on */

static void
test_parse(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(parse_cases); i++) {
		const char *json = parse_cases[i].json;
		size_t text = json ? strlen(json) + 1 : 0;
		uint8_t *buf = malloc(4 + text); /* exact, for ASan */
		struct vu_version v = { parse_cases[i].major,
					parse_cases[i].minor };
		struct vu_caps caps;
		int err;

		memcpy(buf, &v, sizeof(v));
		if (text)
			memcpy(buf + 4, json, text);
		err = vu_version_parse(buf, 4 + text, &caps);
		if (err != parse_cases[i].want)
			fail_msg("%s: %d", parse_cases[i].name, err);
		if (!err) {
			assert_int_equal(caps.max_msg_fds, parse_cases[i].fds);
			assert_int_equal(caps.iommufd, parse_cases[i].iommufd);
			assert_int_equal(caps.has_json, json != NULL);
		}
		free(buf);
	}
}

static void
test_parse_bytes(void **state)
{
	struct vu_caps caps;

	for (size_t len = 0; len < 4; len++)
		assert_int_equal(vu_version_parse("\0\0\0\0", len, &caps),
				 -EINVAL);
	/* a NUL is missing, stands in the middle, stands at the end twice */
	assert_int_equal(vu_version_parse("\0\0\0\0{}", 6, &caps), -EINVAL);
	assert_int_equal(vu_version_parse("\0\0\0\0{}\0{}", 10, &caps),
			 -EINVAL);
	assert_int_equal(vu_version_parse("\0\0\0\0{}\0\0", 8, &caps), 0);
}

/* Deep nesting ends in an error, not in the stack. */
static void
test_parse_deep(void **state)
{
	size_t len = VU_VERSION_MAX;
	uint8_t *buf = malloc(len);
	struct vu_caps caps;

	memset(buf, '[', len);
	memset(buf, 0, 4);
	buf[len - 1] = '\0';
	assert_int_equal(vu_version_parse(buf, len, &caps), -EINVAL);
	free(buf);
}

/* At every length: valid or absent JSON, NUL at the end, the keys in their order. */
static void
test_reply_lengths(void **state)
{
	static const char *const order[] = {
		"iommufd",	"max_msg_fds", "max_data_xfer_size",
		"max_dma_maps", "pgsizes",     "write_multiple"
	};
	struct vu_caps client = { .minor = 7 };

	for (size_t max = 4; max <= VU_VERSION_REPLY_MAX; max++) {
		char *buf = malloc(max);
		size_t len = vu_version_reply(&client, true, 100, buf, max);
		json_t *root, *caps;
		bool gap = false;

		assert_in_range(len, 4, max);
		assert_memory_equal(buf, "\0\0\2\0", 4);
		if (len == 4) {
			assert_true(max < 4 + sizeof(CAPS("")));
			free(buf);
			continue;
		}
		assert_int_equal(buf[len - 1], '\0');
		assert_int_equal(strlen(buf + 4), len - 5);
		root = json_loads(buf + 4, 0, NULL);
		caps = json_object_get(root, "capabilities");
		assert_true(json_is_object(caps));
		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			bool has = json_object_get(caps, order[i]) != NULL;

			assert_false(has && gap);
			gap = gap || !has;
		}
		assert_int_equal(gap, max < 4 + 150);
		json_decref(root);
		free(buf);
	}
}

static void
test_reply_values(void **state)
{
	struct vu_caps client = { .minor = 1 };
	char buf[VU_VERSION_REPLY_MAX];

	vu_version_reply(&client, false, 1000000, buf, sizeof(buf));
	assert_memory_equal(buf, "\0\0\1\0", 4);
	assert_string_equal(
		buf + 4,
		CAPS("\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
		     "\"max_dma_maps\":65535,\"pgsizes\":4096,"
		     "\"write_multiple\":true"));
}

/* A client that asked for iommufd has room to be told so. */
static void
test_reply_fits_iommufd(void **state)
{
	struct vu_caps client = { 0 };
	char buf[sizeof(struct vu_version) + sizeof(IOMMUFD_JSON)];

	assert_int_equal(vu_version_reply(&client, true, 1, buf, sizeof(buf)),
			 sizeof(buf));
	assert_string_equal(buf + 4, IOMMUFD_JSON);
}

int
version_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_bytes),
		cmocka_unit_test(test_parse_deep),
		cmocka_unit_test(test_reply_lengths),
		cmocka_unit_test(test_reply_values),
		cmocka_unit_test(test_reply_fits_iommufd),
	};

	return cmocka_run_group_tests_name("version", tests, NULL, NULL);
}
