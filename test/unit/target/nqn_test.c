/* SPDX-License-Identifier: BSD-3-Clause */
/* Names that NVMe allows, and those it does not. */
#include <errno.h>
#include <string.h>

#include "unit.h"

static const struct nqn_case {
	const char *nqn;
	bool ok;
} cases[] = {
	{ "nqn.2024-01.io.example:disk", true },
	{ "nqn.2014-08.org.nvmexpress.discovery", true },
	{ "nqn.2016-06.io.spdk:cnode1", true },
	{ "nqn.2024-12.com.a-b.c:x:y/z z", true },
	{ "nqn.2024-01.io", true },
	{ "nqn.2024-01.io.example:\xc3\xa9", true },
	{ "nqn.2014-08.org.nvmexpress:uuid:5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54",
	  true },
	{ "nqn.2014-08.org.nvmexpress:uuid:5e4cd7b9", false },
	{ "nqn.2014-08.org.nvmexpress:uuid:", false },
	{ "", false },
	{ "nqn", false },
	{ "nqn.", false },
	{ "nqn.x", false },
	{ "NQN.2024-01.io.example:disk", false },
	{ "iqn.2024-01.io.example:disk", false },
	{ "nqn.2024-00.io.example:disk", false },
	{ "nqn.2024-13.io.example:disk", false },
	{ "nqn.2024-1.io.example:disk", false },
	{ "nqn.24-01.io.example:disk", false },
	{ "nqn.2024-01", false },
	{ "nqn.2024-01.", false },
	{ "nqn.2024-01io.example:disk", false },
	{ "nqn.2024-01..example:disk", false },
	{ "nqn.2024-01.io.:disk", false },
	{ "nqn.2024-01.-io.example:disk", false },
	{ "nqn.2024-01.io-.example:disk", false },
	{ "nqn.2024-01.io.ex ample:disk", false },
	{ "nqn.2024-01.io.example:", false },
	{ "nqn.2024-01.io.example:a\nb", false },
	{ "nqn.2024-01.io.example:a\tb", false },
};

static void
test_cases(void **state)
{
	char why[128];
	unsigned i;
	int err;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		why[0] = '\0';
		err = nqn_check(cases[i].nqn, why, sizeof(why));
		if (err != (cases[i].ok ? 0 : -EINVAL) ||
		    !cases[i].ok != !!*why)
			fail_msg("'%s': %d %s", cases[i].nqn, err, why);
	}
}

static void
test_length(void **state)
{
	char nqn[256] = "nqn.2024-01.io.example:", why[128];

	memset(nqn + 23, 'x', 223 - 23);
	assert_int_equal(nqn_check(nqn, why, sizeof(why)), 0);
	nqn[223] = 'x';
	assert_int_equal(nqn_check(nqn, why, sizeof(why)), -EINVAL);
}

int
nqn_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_length),
	};

	return cmocka_run_group_tests_name("nqn", tests, NULL, NULL);
}
