/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Values of belfryd's options. Each complaint names the value and says what would be right.
 */
#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"

#include "belfryd.h"

#define MAX_CORE 4096

static bool
core_allowed(unsigned core)
{
	cpu_set_t *set = CPU_ALLOC(MAX_CORE);
	size_t size = CPU_ALLOC_SIZE(MAX_CORE);
	bool yes;

	if (!set)
		return false;
	yes = !sched_getaffinity(0, size, set) && CPU_ISSET_S(core, size, set);
	CPU_FREE(set);
	return yes;
}

static bool
core_add(struct options *o, const char *value, unsigned long core)
{
	unsigned i;

	if (core >= MAX_CORE)
		return util_complain("-m %s: the number of a core is below %d",
				     value, MAX_CORE);
	if (!core_allowed((unsigned)core))
		return util_complain(
			"-m %s: core %lu is not online, or this process may not run on it (see taskset -p)",
			value, core);
	for (i = 0; i < o->ncores; i++)
		if (o->cores[i] == core)
			return util_complain("-m %s: core %lu is named twice",
					     value, core);
	if (o->ncores == REACTOR_MAX)
		return util_complain("-m %s: more than %d cores", value,
				     REACTOR_MAX);
	o->cores[o->ncores++] = (unsigned)core;
	return true;
}

/* "0x3": bit n is core n; as many digits as one likes. */
static bool
parse_mask(struct options *o, const char *value)
{
	const char *digits = value + 2;
	size_t n = strlen(digits), i;
	unsigned bit, v;

	if (!n || strspn(digits, "0123456789abcdefABCDEF") != n)
		return util_complain(
			"-m %s: a mask is 0x and hexadecimal digits, such as 0x3",
			value);
	for (i = n; i-- > 0;) {
		v = (unsigned)strtoul((char[]){ digits[i], '\0' }, NULL, 16);
		for (bit = 0; bit < 4; bit++)
			if ((v & (1u << bit)) &&
			    !core_add(o, value, (n - 1 - i) * 4 + bit))
				return false;
	}
	return o->ncores ||
	       util_complain("-m %s: a mask without a core", value);
}

/* "0,2-3", in brackets for those who write it the way of SPDK */
static bool
parse_list(struct options *o, const char *value)
{
	bool bracket = value[0] == '[';
	const char *p = value + bracket;
	unsigned long first, last;
	char *end;

	for (;;) {
		if (!isdigit((unsigned char)*p))
			break;
		first = last = strtoul(p, &end, 10);
		p = end;
		if (*p == '-') {
			if (!isdigit((unsigned char)p[1]))
				break;
			last = strtoul(p + 1, &end, 10);
			p = end;
		}
		if (last < first)
			return util_complain("-m %s: %lu-%lu runs backwards",
					     value, first, last);
		for (; first <= last; first++)
			if (!core_add(o, value, first))
				return false;
		if (!strcmp(p, bracket ? "]" : ""))
			return true;
		if (*p++ != ',')
			break;
	}
	return util_complain(
		"-m %s: neither a mask (0x3) nor a list (0,2-3) of cores",
		value);
}

static bool
set_cores(struct options *o, const char *value)
{
	o->ncores = 0;
	if (value[0] == '0' && (value[1] == 'x' || value[1] == 'X'))
		return parse_mask(o, value);
	return parse_list(o, value);
}

static bool
set_socket(struct options *o, const char *value)
{
	unsigned i = o->target.rpc_paths[0] ? 1 : 0;

	if (!*value)
		return util_complain(
			"-r: empty; it takes the path of a socket");
	if (o->target.rpc_paths[1])
		return util_complain(
			"-r %s: a third socket; at most two are opened", value);
	if (i && !strcmp(value, o->target.rpc_paths[0]))
		return util_complain("-r %s: given twice", value);
	o->target.rpc_paths[i] = value;
	return true;
}

static bool
set_arena(struct options *o, const char *value)
{
	uint64_t n;

	if (util_parse_size(value, &n) || n < 1ull << 30 || n > 1ull << 46)
		return util_complain(
			"--arena-size %s: a size from 1G to 64T, such as 256G",
			value);
	o->target.arena_len = n;
	return true;
}

static bool
set_idle(struct options *o, const char *value)
{
	if (!strcmp(value, "poll"))
		o->idle = REACTOR_IDLE_POLL;
	else if (!strcmp(value, "adaptive"))
		o->idle = REACTOR_IDLE_ADAPTIVE;
	else
		return util_complain("--idle %s: poll or adaptive", value);
	return true;
}

static bool
set_spin(struct options *o, const char *value)
{
	uint64_t n;

	if (util_parse_u64(value, &n) || n < 1 || n > 10000000)
		return util_complain(
			"--spin-us %s: microseconds, 1 to 10000000", value);
	o->spin_us = (uint32_t)n;
	return true;
}

static bool
set_level(const char *value)
{
	enum log_level level;

	if (log_level_parse(value, &level))
		return util_complain(
			"-L %s: ERROR, WARNING, NOTICE, INFO or DEBUG", value);
	log_set_level(level);
	return true;
}

static bool
set_flag(const char *value)
{
	if (log_set_flag(value, true))
		return util_complain("--log-flag %s: none of " LOG_FLAG_NAMES,
				     value);
	return true;
}

bool
option_set(struct options *o, int opt, const char *value)
{
	switch (opt) {
	case 'm':
		return set_cores(o, value);
	case 'r':
		return set_socket(o, value);
	case 'c':
		o->target.config = value;
		return true;
	case 'L':
		return set_level(value);
	case OPT_FLAG:
		return set_flag(value);
	case OPT_IDLE:
		return set_idle(o, value);
	case OPT_SPIN:
		return set_spin(o, value);
	case OPT_ARENA:
		return set_arena(o, value);
	case OPT_WAIT:
		o->target.wait_for_rpc = true;
		return true;
	default:
		return false;
	}
}

bool
options_default(struct options *o)
{
	unsigned core;

	if (!o->target.rpc_paths[0])
		o->target.rpc_paths[0] = DEFAULT_SOCKET;
	if (o->spin_us && o->idle == REACTOR_IDLE_POLL)
		return util_complain(
			"--spin-us goes with --idle adaptive, not with poll");
	for (core = 0; !o->ncores && core < MAX_CORE; core++)
		if (core_allowed(core))
			o->cores[o->ncores++] = core;
	return o->ncores || util_complain("there is no core to run on");
}
