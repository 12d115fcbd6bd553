/* SPDX-License-Identifier: BSD-3-Clause */
/* What the benchmarks in C share: time, cores, the end on a mistake. */
#ifndef TEST_BENCH_H
#define TEST_BENCH_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/util.h"

static inline void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

/* The calling thread on one core. */
static inline void
pin(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	must(!sched_setaffinity(0, sizeof(set), &set), "no such core");
}

/* The number of an argument; a wrong one ends the program. */
static inline unsigned
number(const char *s)
{
	uint64_t n;

	must(!util_parse_u64(s, &n) && n <= 1u << 30, "not a number in range");
	return (unsigned)n;
}

#endif
