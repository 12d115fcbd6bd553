/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line. Each complaint names the value and says what would be right.
 */
#include <ctype.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf.h"

static void
usage(FILE *out)
{
	fputs("Usage: belfry-perf -s SOCKET [OPTIONS]\n"
	      "Put load on an NVMe controller behind a vfio-user socket, and measure.\n\n"
	      "  -s, --socket SOCKET   the controller's socket (DIR/cntrl), or its folder\n"
	      "      --mode MODE       auto, iommufd or legacy addresses [auto]\n"
	      "      --rw KIND         randread, randwrite, randrw, read, write or rw [randread]\n"
	      "      --rwmixread PCT   share of reads in randrw and rw [50]\n"
	      "      --bs SIZE         bytes of a command, with k or m [4k]\n"
	      "      --qd N            commands in flight in a queue [128]\n"
	      "      --queues N        queue pairs [1]\n"
	      "      --time S          seconds to measure [5]\n"
	      "      --warmup S        seconds before that do not count [0.5]\n"
	      "      --rate N          I/Os a second at most, of all queues\n"
	      "      --size SIZE       use only the first SIZE bytes, with k, m, g or t\n"
	      "      --nsid N          the namespace [the first]\n"
	      "      --cpu LIST        a thread pinned to each, as in 1,4-6 [one thread, not pinned]\n"
	      "      --verify crc32c   write blocks that know themselves, read back and check\n"
	      "      --irq             sleep until an interrupt instead of polling\n"
	      "      --shadow          use shadow doorbells (Doorbell Buffer Config)\n"
	      "      --json            print the result as JSON\n"
	      "  -h, --help            this text\n"
	      "      --version         version\n\n"
	      "Exit status: 0 done, 1 failed, 2 wrong usage, 3 wrong data.\n",
	      out);
}

static bool
parse_size(const char *name, const char *s, uint64_t min, uint64_t max,
	   uint64_t *out)
{
	if (util_parse_size(s, out) || *out < min || *out > max)
		return util_complain(
			"%s '%s': not a size from %llu to %llu bytes, as in 512, 4k, 1m",
			name, s, (unsigned long long)min,
			(unsigned long long)max);
	return true;
}

static bool
parse_number(const char *name, const char *s, uint64_t min, uint64_t max,
	     uint64_t *out)
{
	if (util_parse_u64(s, out) || *out < min || *out > max)
		return util_complain("%s '%s': not a number from %llu to %llu",
				     name, s, (unsigned long long)min,
				     (unsigned long long)max);
	return true;
}

static bool
parse_seconds(const char *name, const char *s, double min, double *out)
{
	char *end;

	*out = strtod(s, &end);
	if (end == s || *end || !(*out >= min && *out <= 1e6))
		return util_complain(
			"%s '%s': not a number of seconds from %g on", name, s,
			min);
	return true;
}

static bool
parse_rw(const char *s, struct options *o)
{
	static const struct {
		const char *name;
		bool random;
		unsigned write_pct;
	} kinds[] = {
		{ "randread", true, 0 }, { "randwrite", true, 100 },
		{ "randrw", true, 50 },	 { "read", false, 0 },
		{ "write", false, 100 }, { "rw", false, 50 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(s, kinds[i].name)) {
			o->rw = kinds[i].name;
			o->random = kinds[i].random;
			o->write_pct = kinds[i].write_pct;
			return true;
		}
	return util_complain(
		"--rw '%s': one of randread, randwrite, randrw, read, write, rw",
		s);
}

static bool
parse_mode(const char *s, struct options *o)
{
	if (!strcmp(s, "auto"))
		o->mode = BELFRY_AUTO;
	else if (!strcmp(s, "legacy"))
		o->mode = BELFRY_LEGACY;
	else if (!strcmp(s, "iommufd"))
		o->mode = BELFRY_IOMMUFD;
	else
		return util_complain(
			"--mode '%s': one of auto, iommufd, legacy", s);
	return true;
}

static bool
add_cpu(const char *list, unsigned long cpu, struct options *o)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(set), &set) ||
	    !CPU_ISSET(cpu, &set))
		return util_complain(
			"--cpu '%s': CPU %lu is not online, or this process may not run on it (see taskset -p)",
			list, cpu);
	if (o->ncpus == MAX_CPUS)
		return util_complain("--cpu '%s': more than %d CPUs", list,
				     MAX_CPUS);
	o->cpus[o->ncpus++] = (unsigned)cpu;
	return true;
}

static bool
parse_cpus(const char *list, struct options *o)
{
	const char *s = list;

	o->ncpus = 0;
	for (;;) {
		unsigned long a, b;
		char *end;

		if (!isdigit((unsigned char)*s))
			break;
		a = b = strtoul(s, &end, 10);
		if (*end == '-' && isdigit((unsigned char)end[1]))
			b = strtoul(end + 1, &end, 10);
		if (a > b || b > CPU_SETSIZE)
			break;
		for (; a <= b; a++)
			if (!add_cpu(list, a, o))
				return false;
		if (!*end)
			return true;
		if (*end != ',')
			break;
		s = end + 1;
	}
	return util_complain("--cpu '%s': not a list of CPUs, as in 1 or 0,4-6",
			     list);
}

enum {
	OPT_MODE = 256,
	OPT_RW,
	OPT_MIX,
	OPT_BS,
	OPT_QD,
	OPT_QUEUES,
	OPT_TIME,
	OPT_WARMUP,
	OPT_RATE,
	OPT_SIZE,
	OPT_NSID,
	OPT_CPU,
	OPT_VERIFY,
	OPT_IRQ,
	OPT_SHADOW,
	OPT_JSON,
	OPT_VERSION,
};

static const struct option longs[] = {
	{ "socket", 1, NULL, 's' },	     { "mode", 1, NULL, OPT_MODE },
	{ "rw", 1, NULL, OPT_RW },	     { "rwmixread", 1, NULL, OPT_MIX },
	{ "bs", 1, NULL, OPT_BS },	     { "qd", 1, NULL, OPT_QD },
	{ "queues", 1, NULL, OPT_QUEUES },   { "time", 1, NULL, OPT_TIME },
	{ "warmup", 1, NULL, OPT_WARMUP },   { "rate", 1, NULL, OPT_RATE },
	{ "size", 1, NULL, OPT_SIZE },	     { "nsid", 1, NULL, OPT_NSID },
	{ "cpu", 1, NULL, OPT_CPU },	     { "verify", 1, NULL, OPT_VERIFY },
	{ "irq", 0, NULL, OPT_IRQ },	     { "shadow", 0, NULL, OPT_SHADOW },
	{ "json", 0, NULL, OPT_JSON },	     { "help", 0, NULL, 'h' },
	{ "version", 0, NULL, OPT_VERSION }, { 0 },
};

static bool
parse_small(int opt, const char *s, struct options *o, int *mix)
{
	uint64_t v = 0;
	bool ok;

	switch (opt) {
	case OPT_MIX:
		ok = parse_number("--rwmixread", s, 0, 100, &v);
		*mix = (int)v;
		return ok;
	case OPT_BS:
		ok = parse_size("--bs", s, 512, 2 << 20, &v);
		o->bs = (uint32_t)v;
		return ok;
	case OPT_QD:
		ok = parse_number("--qd", s, 1, MAX_QD, &v);
		o->qd = (unsigned)v;
		return ok;
	case OPT_QUEUES:
		ok = parse_number("--queues", s, 1, MAX_QUEUES, &v);
		o->queues = (unsigned)v;
		return ok;
	case OPT_NSID:
		ok = parse_number("--nsid", s, 1, 0xfffffffe, &v);
		o->nsid = (uint32_t)v;
		return ok;
	}
	return false;
}

static bool
parse_one(int opt, const char *s, struct options *o, int *mix)
{
	switch (opt) {
	case 's':
		o->socket = s;
		return *s || util_complain("--socket is empty");
	case OPT_MODE:
		return parse_mode(s, o);
	case OPT_RW:
		return parse_rw(s, o);
	case OPT_TIME:
		return parse_seconds("--time", s, 0.01, &o->time_s);
	case OPT_WARMUP:
		return parse_seconds("--warmup", s, 0, &o->warmup_s);
	case OPT_RATE:
		return parse_number("--rate", s, 1, 1ull << 40, &o->rate);
	case OPT_SIZE:
		return parse_size("--size", s, 512, 1ull << 62, &o->size);
	case OPT_CPU:
		return parse_cpus(s, o);
	case OPT_VERIFY:
		o->verify = true;
		return !strcmp(s, "crc32c") ||
		       util_complain("--verify '%s': only crc32c is known", s);
	case OPT_IRQ:
		return o->irq = true;
	case OPT_SHADOW:
		return o->shadow = true;
	case OPT_JSON:
		return o->json = true;
	}
	return parse_small(opt, s, o, mix);
}

int
options_parse(int argc, char **argv, struct options *o)
{
	int opt, mix = -1;

	*o = (struct options){
		.bs = 4096, .qd = 128, .queues = 1, .time_s = 5, .warmup_s = 0.5
	};
	parse_rw("randread", o);
	while ((opt = getopt_long(argc, argv, "hs:", longs, NULL)) != -1) {
		if (opt == 'h') {
			usage(stdout);
			return 1 + EXIT_OK;
		}
		if (opt == OPT_VERSION) {
			puts("belfry-perf " BELFRY_VERSION);
			return 1 + EXIT_OK;
		}
		if (opt == '?' || !parse_one(opt, optarg, o, &mix)) {
			fputs("See belfry-perf --help.\n", stderr);
			return 1 + EXIT_USAGE;
		}
	}
	if (optind < argc || !o->socket) {
		if (optind < argc)
			util_complain("'%s' is no option", argv[optind]);
		else
			util_complain("which socket? -s DIR/cntrl");
		fputs("See belfry-perf --help.\n", stderr);
		return 1 + EXIT_USAGE;
	}
	if (mix >= 0 && (!o->write_pct || o->write_pct == 100)) {
		util_complain("--rwmixread goes with --rw randrw or rw, not %s",
			      o->rw);
		return 1 + EXIT_USAGE;
	}
	if (mix >= 0)
		o->write_pct = 100 - (unsigned)mix;
	return 0;
}
