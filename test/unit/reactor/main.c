/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

void
unit_init(unsigned n, enum reactor_idle idle, uint32_t spin_us)
{
	unsigned cores[REACTOR_MAX];
	struct reactor_config cfg = {
		.cores = cores,
		.ncores = n,
		.idle = idle,
		.spin_us = spin_us,
		.no_pin = true,
	};

	for (unsigned i = 0; i < REACTOR_MAX; i++)
		cores[i] = i;
	assert_int_equal(reactors_init(&cfg), 0);
}

int
main(void)
{
	return event_tests() + idle_tests() + mailbox_tests() + poller_tests() +
	       reactor_tests() + timer_tests() + work_tests();
}
