/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

int
main(void)
{
	return list_tests() + log_tests() + util_tests();
}
