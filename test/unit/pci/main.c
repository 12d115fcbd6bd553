/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

int
main(void)
{
	return config_tests() + caps_tests();
}
