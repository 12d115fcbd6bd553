/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

int
main(void)
{
	return sqe_tests() + client_tests() + host_tests() + qpair_tests();
}
