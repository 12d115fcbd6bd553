/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process that has no descriptors left, for units with a listening socket.
 */
#ifndef FAKE_NOFILE_H
#define FAKE_NOFILE_H

#include <sys/resource.h>
#include <unistd.h>

#include "belfry/reactor.h"

/*
 * Let reactor 0 run for 250 ms without a descriptor for the client that has connected: its socket, which stays readable, is looked
 * at now and then.
 */
static inline void
fake_no_descriptors(int fd)
{
	struct rlimit old, low;
	int spare = dup(fd); /* the lowest that is free */
	unsigned busy = 0;
	uint64_t end;

	close(spare);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)spare;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (end = util_now_ns() + 250000000; util_now_ns() < end;)
		busy += reactor_step(reactor_get(0)) != 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_in_range(busy, 1, 30);
}

#endif
