/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl stat: rates of block devices and reactors between two looks, once or as a live view.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

struct sample {
	json_t *iostat;	  /* of bdev_get_iostat */
	json_t *reactors; /* of framework_get_reactors */
	double at;	  /* seconds */
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool
sample_take(struct ctl *c, struct sample *s)
{
	s->iostat = ctl_call(c, "bdev_get_iostat", NULL, NULL);
	s->reactors =
		s->iostat ? ctl_call(c, "framework_get_reactors", NULL, NULL)
			  : NULL;
	s->at = now_s();
	if (s->reactors)
		return true;
	json_decref(s->iostat);
	s->iostat = NULL;
	return false;
}

static void
sample_drop(struct sample *s)
{
	json_decref(s->iostat);
	json_decref(s->reactors);
	s->iostat = s->reactors = NULL;
}

static double
delta(const json_t *a, const json_t *b, const char *key)
{
	double d = (double)json_integer_value(json_object_get(b, key)) -
		   (double)json_integer_value(json_object_get(a, key));

	return d < 0 ? 0 : d; /* somebody reset the counters */
}

static json_t *
same(json_t *array, const char *key, const json_t *like)
{
	json_t *e;
	size_t i;

	json_array_foreach(array, i, e)
		if (json_equal(json_object_get(e, key),
			       json_object_get(like, key)))
			return e;
	return NULL;
}

struct bdev_rate {
	double r_iops, w_iops, r_mib, w_mib, r_us, w_us;
};

static struct bdev_rate
rate_of(const struct sample *a, const struct sample *b, const json_t *was,
	const json_t *is)
{
	double s = b->at - a->at;
	double tick_us = 1e6 / (double)json_integer_value(
				       json_object_get(b->iostat, "tick_rate"));
	double r = delta(was, is, "num_read_ops"),
	       w = delta(was, is, "num_write_ops");

	return (struct bdev_rate){
		.r_iops = r / s,
		.w_iops = w / s,
		.r_mib = delta(was, is, "bytes_read") / s / 1048576,
		.w_mib = delta(was, is, "bytes_written") / s / 1048576,
		.r_us = r ? delta(was, is, "read_latency_ticks") * tick_us / r
			  : 0,
		.w_us = w ? delta(was, is, "write_latency_ticks") * tick_us / w
			  : 0,
	};
}

static double
busy_of(const struct sample *a, const json_t *reactor)
{
	json_t *was = same(json_object_get(a->reactors, "reactors"), "lcore",
			   reactor);
	double busy = delta(was, reactor, "busy"),
	       idle = delta(was, reactor, "idle");

	return was && busy + idle > 0 ? 100 * busy / (busy + idle) : 0;
}

static void
show_json(const struct sample *a, const struct sample *b)
{
	json_t *out = json_pack("{s:f, s:[], s:[]}", "seconds", b->at - a->at,
				"bdevs", "reactors"),
	       *e;
	size_t i;

	json_array_foreach(json_object_get(b->iostat, "bdevs"), i, e) {
		json_t *was =
			same(json_object_get(a->iostat, "bdevs"), "name", e);
		struct bdev_rate r = rate_of(a, b, was ? was : e, e);

		json_array_append_new(
			json_object_get(out, "bdevs"),
			json_pack("{s:O, s:f, s:f, s:f, s:f, s:f, s:f}", "name",
				  json_object_get(e, "name"), "read_iops",
				  r.r_iops, "write_iops", r.w_iops,
				  "read_mib_s", r.r_mib, "write_mib_s", r.w_mib,
				  "read_us", r.r_us, "write_us", r.w_us));
	}
	json_array_foreach(json_object_get(b->reactors, "reactors"), i, e)
		json_array_append_new(json_object_get(out, "reactors"),
				      json_pack("{s:O, s:f}", "core",
						json_object_get(e, "lcore"),
						"busy_percent", busy_of(a, e)));
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(out);
}

static void
show_tables(const struct sample *a, const struct sample *b)
{
	struct table *t = table_new(
		"BDEV,READ/S>,MiB/S>,MEAN us>,WRITE/S>,MiB/S>,MEAN us>");
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(b->iostat, "bdevs"), i, e) {
		json_t *was =
			same(json_object_get(a->iostat, "bdevs"), "name", e);
		struct bdev_rate r = rate_of(a, b, was ? was : e, e);

		table_row(t, json_string_value(json_object_get(e, "name")),
			  ctl_fmt("%.0f", r.r_iops), ctl_fmt("%.1f", r.r_mib),
			  ctl_fmt("%.1f", r.r_us), ctl_fmt("%.0f", r.w_iops),
			  ctl_fmt("%.1f", r.w_mib), ctl_fmt("%.1f", r.w_us),
			  NULL);
	}
	table_print(t, stdout);
	putchar('\n');
	t = table_new("CORE,BUSY>");
	json_array_foreach(json_object_get(b->reactors, "reactors"), i, e)
		table_row(t,
			  ctl_fmt("%lld", (long long)json_integer_value(
						  json_object_get(e, "lcore"))),
			  ctl_fmt("%.0f %%", busy_of(a, e)), NULL);
	table_print(t, stdout);
}

static int
stat_loop(struct ctl *c, double interval, uint32_t count)
{
	bool live = !c->json && count != 1 && isatty(STDOUT_FILENO);
	struct sample a, b;

	if (!sample_take(c, &a))
		return CTL_FAILED;
	for (uint32_t n = 0; !interrupted && (!count || n < count); n++) {
		struct timespec ts = {
			(time_t)interval,
			(long)((interval - (double)(time_t)interval) * 1e9)
		};

		nanosleep(&ts, NULL);
		if (interrupted || !sample_take(c, &b))
			break;
		if (live)
			printf("\033[H\033[2J");
		else if (n && !c->json)
			putchar('\n');
		if (c->json)
			show_json(&a, &b);
		else
			show_tables(&a, &b);
		if (live)
			printf("\nEvery %g s; Ctrl-C ends.\n", interval);
		fflush(stdout);
		sample_drop(&a);
		a = b;
	}
	sample_drop(&a);
	return CTL_OK;
}

static int
stat_cmd(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	struct sigaction sa = { .sa_handler = on_signal };
	const char *s = ctl_opt(opts, "interval");
	double interval = 1;
	uint32_t count = isatty(STDOUT_FILENO) ? 0 : 1;
	char *end;

	if (s) {
		interval = strtod(s, &end);
		if (*end || !(interval >= 0.1 && interval <= 3600)) {
			fprintf(stderr,
				"belfryctl: interval '%s' is not a number of seconds from 0.1 to 3600\n",
				s);
			return CTL_USAGE;
		}
	}
	s = ctl_opt(opts, "count");
	if (s && !ctl_parse_u32(s, "count", &count))
		return CTL_USAGE;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	return stat_loop(c, interval, count);
}

struct ctl_cmd cmds_stat[] = {
	{ "stat",
	  "",
	  "Show rates: live on a terminal, else once",
	  0,
	  0,
	  stat_cmd,
	  { { "interval", "S", "seconds between two looks [1]", NULL },
	    { "count", "N", "looks; 0: until interrupted", NULL } } },
	{ 0 },
};
