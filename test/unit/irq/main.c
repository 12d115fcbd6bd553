/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

int
main(void)
{
	struct reactor_config cfg = { .cores = (unsigned[]){ 0 },
				      .ncores = 1,
				      .no_pin = true };
	int failed;

	if (reactors_init(&cfg) || irq_watchdog_init())
		return 1;
	failed = irq_tests() + watch_tests();
	irq_watchdog_fini();
	reactors_fini();
	return failed;
}
