/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl stat: rates of block devices and reactors between two looks, once or as a live view. Not for percentiles: cmd_histogram.c.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

struct sample {
	json_t *iostat;	    /* of bdev_get_iostat */
	json_t *reactors;   /* of framework_get_reactors */
	json_t *groups;	    /* of nvmf_get_stats */
	json_t *subsystems; /* of nvmf_get_subsystems */
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static void
sample_drop(struct sample *s)
{
	json_decref(s->iostat);
	json_decref(s->reactors);
	json_decref(s->groups);
	json_decref(s->subsystems);
	*s = (struct sample){ 0 };
}

static bool
sample_take(struct ctl *c, struct sample *s)
{
	*s = (struct sample){ 0 };
	if ((s->iostat = ctl_call(c, "bdev_get_iostat", NULL, NULL)) &&
	    (s->reactors = ctl_call(c, "framework_get_reactors", NULL, NULL)) &&
	    (s->groups = ctl_call(c, "nvmf_get_stats", NULL, NULL)) &&
	    (s->subsystems = ctl_call(c, "nvmf_get_subsystems", NULL, NULL)))
		return true;
	sample_drop(s);
	return false;
}

static double
number(const json_t *o, const char *key)
{
	return (double)json_integer_value(json_object_get(o, key));
}

static double
delta(const json_t *was, const json_t *is, const char *key)
{
	double d = number(is, key) - number(was, key);

	return d < 0 ? 0 : d; /* somebody reset the counters */
}

/* The element of @array whose @key is that of @like; @like itself if there was none yet. */
static const json_t *
before(const json_t *array, const char *key, const json_t *like)
{
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)array, i, e)
		if (json_equal(json_object_get(e, key),
			       json_object_get(like, key)))
			return e;
	return like;
}

/* ---- block devices ---- */

struct row {
	const char *name;
	double ops[3], bytes[3],
		ns[3];	      /* read, write, unmap: between the looks */
	double depth, errors; /* now, and since the start */
};

static double
error_count(const json_t *bdev)
{
	double n = 0;
	const char *key;
	json_t *v;

	json_object_foreach(json_object_get(bdev, "io_error"), key, v)
		n += (double)json_integer_value(v);
	return n;
}

static struct row
row_of(const struct sample *a, const json_t *is)
{
	static const char *const key[3][3] = {
		{ "num_read_ops", "bytes_read", "read_latency_ticks" },
		{ "num_write_ops", "bytes_written", "write_latency_ticks" },
		{ "num_unmap_ops", "bytes_unmapped", "unmap_latency_ticks" },
	};
	const json_t *was =
		before(json_object_get(a->iostat, "bdevs"), "name", is);
	struct row r = { .name = json_string_value(json_object_get(is, "name")),
			 .depth = number(is, "queue_depth"),
			 .errors = error_count(is) };

	for (unsigned i = 0; i < 3; i++) {
		r.ops[i] = delta(was, is, key[i][0]);
		r.bytes[i] = delta(was, is, key[i][1]);
		r.ns[i] = delta(was, is, key[i][2]) * 1e9 /
			  number(a->iostat, "tick_rate");
	}
	return r;
}

static void
row_add(struct row *sum, const struct row *r)
{
	for (unsigned i = 0; i < 3; i++) {
		sum->ops[i] += r->ops[i];
		sum->bytes[i] += r->bytes[i];
		sum->ns[i] += r->ns[i];
	}
	sum->depth += r->depth;
	sum->errors += r->errors;
}

static int
busier(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double d = y->ops[0] + y->ops[1] + y->ops[2] -
		   (x->ops[0] + x->ops[1] + x->ops[2]);

	return d > 0 ? 1 : d < 0 ? -1 : strcmp(x->name, y->name);
}

/* The directories where a client finds this device. */
static json_t *
exported_on(const json_t *subsystems, const char *name)
{
	json_t *out = json_array(), *s, *ns, *addr;
	size_t i, k;

	json_array_foreach((json_t *)subsystems, i, s) {
		bool has = false;

		json_array_foreach(json_object_get(s, "namespaces"), k, ns)
			has = has || !strcmp(json_string_value(json_object_get(
						     ns, "bdev_name")),
					     name);
		if (!has)
			continue;
		json_array_foreach(json_object_get(s, "listen_addresses"), k,
				   addr)
			json_array_append(out, json_object_get(addr, "traddr"));
	}
	return out;
}

/* "/run/vm0", "/run/vm0 +2", "-" */
static const char *
exported_text(const struct sample *b, const char *name)
{
	json_t *dirs = exported_on(b->subsystems, name);
	size_t n = json_array_size(dirs);
	const char *first = json_string_value(json_array_get(dirs, 0)), *text;

	text = n > 1   ? ctl_fmt("%s +%zu", first, n - 1)
	       : first ? ctl_fmt("%s", first)
		       : "-";
	json_decref(dirs);
	return text;
}

/* "-" where nothing was done: the mean of nothing is not 0 */
static const char *
mean_us(const struct row *r, unsigned i)
{
	return r->ops[i] ? ctl_fmt("%.1f", r->ns[i] / r->ops[i] / 1000) : "-";
}

static void
print_row(struct table *t, const struct row *r, double s, const char *where)
{
	table_row(t, r->name, ctl_fmt("%.0f", r->ops[0] / s),
		  ctl_fmt("%.1f", r->bytes[0] / s / 1048576), mean_us(r, 0),
		  ctl_fmt("%.0f", r->ops[1] / s),
		  ctl_fmt("%.1f", r->bytes[1] / s / 1048576), mean_us(r, 1),
		  ctl_fmt("%.0f", r->ops[2] / s), ctl_fmt("%.0f", r->depth),
		  ctl_fmt("%.0f", r->errors), where, NULL);
}

static double
seconds(const struct sample *a, const struct sample *b)
{
	double s = delta(a->iostat, b->iostat, "ticks") /
		   number(b->iostat, "tick_rate");

	return s > 0 ? s : 1;
}

/* All of them, or where no more than @room lines fit, the busiest. */
static void
show_bdevs(const struct sample *a, const struct sample *b, size_t room)
{
	json_t *bdevs = json_object_get(b->iostat, "bdevs"), *e;
	size_t n = json_array_size(bdevs), shown = n, i;
	struct row *rows = calloc(n + 1, sizeof(*rows));
	struct row total = { .name = "TOTAL" };
	double s = seconds(a, b);
	struct table *t = table_new(
		"BDEV,READ/S>,MiB/S>,MEAN us>,WRITE/S>,MiB/S>,MEAN us>,TRIM/S>,DEPTH>,ERRORS>,EXPORTED ON");

	json_array_foreach(bdevs, i, e) {
		if (!rows)
			break;
		rows[i] = row_of(a, e);
		row_add(&total, &rows[i]);
	}
	if (rows && n > room) {
		qsort(rows, n, sizeof(*rows), busier);
		shown = room;
	}
	for (i = 0; rows && i < shown; i++)
		print_row(t, &rows[i], s, exported_text(b, rows[i].name));
	if (n > 1)
		print_row(t, &total, s,
			  shown < n
				  ? ctl_fmt("the %zu busiest of %zu are shown",
					    shown, n)
				  : "");
	table_print(t, stdout);
	free(rows);
}

/* ---- reactors ---- */

struct load {
	double busy, iops, irqs, queues, ctrls;
};

static struct load
load_of(const struct sample *a, const struct sample *b, const json_t *is)
{
	const json_t *was =
		before(json_object_get(a->reactors, "reactors"), "lcore", is);
	const json_t *thread =
		json_array_get(json_object_get(is, "lw_threads"), 0);
	json_t *groups = json_object_get(b->groups, "poll_groups");
	const json_t *g = before(groups, "name", thread);
	const json_t *g_was = before(json_object_get(a->groups, "poll_groups"),
				     "name", thread);
	const json_t *t = json_array_get(json_object_get(g, "transports"), 0);
	const json_t *t_was =
		json_array_get(json_object_get(g_was, "transports"), 0);
	double busy = delta(was, is, "busy"), idle = delta(was, is, "idle"),
	       s = seconds(a, b);

	return (struct load){
		.busy = busy + idle > 0 ? 100 * busy / (busy + idle) : 0,
		.iops = delta(g_was, g, "completed_nvme_io") / s,
		.irqs = delta(t_was, t, "ctrlr_intr") / s,
		.queues = number(g, "current_io_qpairs"),
		.ctrls = number(g, "current_admin_qpairs"),
	};
}

static void
show_reactors(const struct sample *a, const struct sample *b)
{
	struct table *t =
		table_new("CORE>,BUSY>,I/O/S>,INTR/S>,CONTROLLERS>,QUEUES>");
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(b->reactors, "reactors"), i, e) {
		struct load l = load_of(a, b, e);

		table_row(t, ctl_fmt("%.0f", number(e, "lcore")),
			  ctl_fmt("%.0f %%", l.busy), ctl_fmt("%.0f", l.iops),
			  ctl_fmt("%.0f", l.irqs), ctl_fmt("%.0f", l.ctrls),
			  ctl_fmt("%.0f", l.queues), NULL);
	}
	table_print(t, stdout);
}

/* ---- a look ---- */

static json_t *
row_json(const struct sample *b, const struct row *r, double s)
{
	static const char *const kind[] = { "read", "write", "trim" };
	json_t *o = json_pack("{s:s}", "name", r->name);

	for (unsigned i = 0; i < 3; i++) {
		json_object_set_new(o, ctl_fmt("%s_iops", kind[i]),
				    json_real(r->ops[i] / s));
		json_object_set_new(o, ctl_fmt("%s_mib_s", kind[i]),
				    json_real(r->bytes[i] / s / 1048576));
		json_object_set_new(
			o, ctl_fmt("%s_us", kind[i]),
			r->ops[i] ? json_real(r->ns[i] / r->ops[i] / 1000)
				  : json_null());
	}
	json_object_set_new(o, "queue_depth",
			    json_integer((json_int_t)r->depth));
	json_object_set_new(o, "errors", json_integer((json_int_t)r->errors));
	json_object_set_new(o, "exported_on",
			    exported_on(b->subsystems, r->name));
	return o;
}

static void
show_json(const struct sample *a, const struct sample *b)
{
	double s = seconds(a, b);
	json_t *out = json_pack("{s:I, s:f, s:[], s:[]}", "time",
				(json_int_t)time(NULL), "seconds", s, "bdevs",
				"reactors"),
	       *e;
	size_t i;

	json_array_foreach(json_object_get(b->iostat, "bdevs"), i, e) {
		struct row r = row_of(a, e);

		json_array_append_new(json_object_get(out, "bdevs"),
				      row_json(b, &r, s));
	}
	json_array_foreach(json_object_get(b->reactors, "reactors"), i, e) {
		struct load l = load_of(a, b, e);

		json_array_append_new(
			json_object_get(out, "reactors"),
			json_pack("{s:O, s:f, s:f, s:f, s:i, s:i}", "core",
				  json_object_get(e, "lcore"), "busy_percent",
				  l.busy, "iops", l.iops, "interrupts_s",
				  l.irqs, "controllers", (int)l.ctrls, "queues",
				  (int)l.queues));
	}
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(out);
}

/* What the terminal has left for devices; there are 7 lines of other things. */
static size_t
lines_for_bdevs(const struct sample *b)
{
	size_t others =
		7 + json_array_size(json_object_get(b->reactors, "reactors"));
	struct winsize ws;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || !ws.ws_row)
		return SIZE_MAX;
	return ws.ws_row > others + 3 ? ws.ws_row - others : 3;
}

static int
stat_loop(struct ctl *c, double interval, uint32_t count)
{
	bool live = !c->json && count != 1 && isatty(STDOUT_FILENO);
	struct sample a, b;
	int rc = CTL_OK;

	if (!sample_take(c, &a))
		return CTL_FAILED;
	for (uint32_t n = 0; !interrupted && (!count || n < count); n++) {
		ctl_sleep(interval);
		if (interrupted)
			break;
		if (!sample_take(c, &b)) {
			rc = CTL_FAILED;
			break;
		}
		if (live)
			printf("\033[H\033[2J");
		else if (n && !c->json)
			putchar('\n');
		if (c->json) {
			show_json(&a, &b);
		} else {
			show_bdevs(&a, &b,
				   live ? lines_for_bdevs(&b) : SIZE_MAX);
			putchar('\n');
			show_reactors(&a, &b);
		}
		if (live)
			printf("\nEvery %g s; Ctrl-C ends.\n", interval);
		fflush(stdout);
		sample_drop(&a);
		a = b;
	}
	sample_drop(&a);
	return rc;
}

static int
stat_cmd(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	struct sigaction sa = { .sa_handler = on_signal };
	const char *s = ctl_opt(opts, "count");
	uint32_t count = isatty(STDOUT_FILENO) ? 0 : 1;
	double interval = 1;

	if (!ctl_parse_interval(ctl_opt(opts, "interval"), &interval))
		return CTL_USAGE;
	if (s && !ctl_parse_u32(s, "count", &count))
		return CTL_USAGE;
	if (ctl_opt(opts, "once"))
		count = 1;
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
	  { { "interval", "S", "seconds between two looks [1]", NULL, 'i' },
	    { "count", "N", "looks; 0: until interrupted", NULL, 'n' },
	    { "once", NULL, "one look, as --count 1", NULL, 0 } } },
	{ 0 },
};
