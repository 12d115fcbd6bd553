/* SPDX-License-Identifier: BSD-3-Clause */
/* TEST_ONLY=test_name: a test program runs that one only, in each of its groups. "*" and "?" stand for any characters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void
only(void)
{
	const char *name = getenv("TEST_ONLY");

	if (name && *name)
		cmocka_set_test_filter(name);
}
