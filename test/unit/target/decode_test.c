/* SPDX-License-Identifier: BSD-3-Clause */
/* Identifiers in and out of JSON. */
#include <string.h>

#include "unit.h"

static const struct hex_case {
	const char *text;
	bool ok;
} hex_cases[] = {
	{ "0001020304050607", true },
	{ "ABCDEFabcdef0123", true },
	{ "000102030405060", false },
	{ "00010203040506070", false },
	{ "", false },
	{ "0x01020304050607", false },
	{ " 001020304050607", false },
	{ "+1+2+3+4+5+6+7+8", false },
	{ "000102030405060g", false },
	{ "00010203-4050607", false },
	{ "0001020304050607\n", false },
};

static void
test_hex(void **state)
{
	static const uint8_t want[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	uint8_t out[8];
	unsigned i;
	json_t *v;

	for (i = 0; i < ARRAY_SIZE(hex_cases); i++)
		if (parse_hex(hex_cases[i].text, out, 8) != hex_cases[i].ok)
			fail_msg("'%s'", hex_cases[i].text);
	assert_true(parse_hex(hex_cases[0].text, out, 8));
	assert_memory_equal(out, want, 8);
	v = hex_json(want, 8);
	assert_string_equal(json_string_value(v), "0001020304050607");
	json_decref(v);
}

static void
test_pci_ids(void **state)
{
	struct pci_ids ids = { 0 };
	json_t *in, *out = json_object();

	in = json_pack("{s:s, s:i, s:i}", "pci_vendor_id", "0x1b36",
		       "pci_device_id", 16, "other", 1);
	assert_true(pci_ids_decode(NULL, in, &ids));
	assert_int_equal(ids.vendor, 0x1b36);
	assert_int_equal(ids.device, 16);
	assert_int_equal(ids.sub_vendor, 0);
	pci_ids_json(out, &ids);
	assert_int_equal(json_object_size(out), 2);
	assert_string_equal(
		json_string_value(json_object_get(out, "pci_device_id")),
		"0x0010");
	json_decref(in);
	json_decref(out);
}

static void
test_trtype(void **state)
{
	assert_true(is_vfiouser("VFIOUSER"));
	assert_true(is_vfiouser("vfiouser"));
	assert_false(is_vfiouser("VFIOUSER "));
	assert_false(is_vfiouser("TCP"));
	assert_false(is_vfiouser(""));
}

int
decode_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_pci_ids),
		cmocka_unit_test(test_trtype),
	};

	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
