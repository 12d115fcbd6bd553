/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

int
main(void)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .no_pin = true };
	int failed;

	if (reactors_init(&cfg) || irq_watchdog_init())
		return 1;
	failed = version_tests() + frame_tests() + command_tests() +
		 iommufd_tests() + irqs_tests() + session_tests() +
		 vanish_tests() + listen_tests();
	irq_watchdog_fini();
	reactors_fini();
	return failed;
}
