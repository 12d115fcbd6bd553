/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl histogram ...: how long I/Os take, as percentiles. Not for rates and means: cmd_stat.c.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "ctl.h"

/* Counts of bdev_get_histogram; doc/rpc.md says which values a bucket has. */
struct hist {
	unsigned granularity, min_range;
	size_t buckets;
	uint64_t *counts;
};

static void
hist_drop(struct hist *h)
{
	free(h->counts);
	h->counts = NULL;
}

/* False: that is no histogram. */
static bool
hist_decode(const json_t *r, struct hist *h)
{
	const char *text = json_string_value(json_object_get(r, "histogram"));
	json_int_t g = json_integer_value(json_object_get(r, "granularity")),
		   min = json_integer_value(json_object_get(r, "min_range")),
		   max = json_integer_value(json_object_get(r, "max_range"));
	size_t len = text ? strlen(text) : 0, room = len / 4 * 3;

	if (!text || g < 0 || g > 16 || min < 0 || max < min || max > 64)
		return false;
	*h = (struct hist){ (unsigned)g, (unsigned)min,
			    (size_t)(max - min + 1) << g, malloc(room + 1) };
	if (h->counts && room >= h->buckets * sizeof(uint64_t) &&
	    EVP_DecodeBlock((uint8_t *)h->counts, (const uint8_t *)text,
			    (int)len) == (int)room) {
		for (size_t i = 0; i < h->buckets; i++)
			h->counts[i] = le64toh(h->counts[i]);
		return true;
	}
	hist_drop(h);
	return false;
}

/* The first value above bucket @i. */
static double
bucket_end(const struct hist *h, size_t i)
{
	unsigned range = h->min_range + (unsigned)(i >> h->granularity);
	double k = (double)(i & ((1u << h->granularity) - 1)) + 1;

	if (range == 0)
		return k;
	return (double)(1ull << (range - 1)) *
	       ((double)(1u << h->granularity) + k);
}

static uint64_t
hist_total(const struct hist *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < h->buckets; i++)
		n += h->counts[i];
	return n;
}

/* Below which @percent of the I/Os took, in us: the end of the bucket where that is. */
static double
percentile(const struct hist *h, double percent)
{
	uint64_t total = hist_total(h), seen = 0;
	double want = (double)total * percent / 100;
	size_t i = 0;

	for (; i < h->buckets; i++) {
		seen += h->counts[i];
		if (seen && (double)seen >= want)
			break;
	}
	return bucket_end(h, MIN(i, h->buckets - 1)) / 1000;
}

/* ---- commands ---- */

/* The devices that a command is for: that named, or all. NULL after a message. */
static json_t *
devices(struct ctl *c, char **args, int nargs)
{
	json_t *r = ctl_call(c, "bdev_get_bdevs",
			     nargs ? json_pack("{s:s}", "name", args[0]) : NULL,
			     NULL),
	       *names = r ? json_array() : NULL, *b;
	size_t i;

	json_array_foreach(r, i, b)
		json_array_append(names, json_object_get(b, "name"));
	json_decref(r);
	return names;
}

static int
enable(struct ctl *c, char **args, int nargs, bool on, const char *op)
{
	json_t *names = devices(c, args, nargs), *name;
	int rc = names ? CTL_OK : CTL_FAILED;
	size_t i, done = 0;

	json_array_foreach(names, i, name) {
		json_t *p = json_pack("{s:O, s:b}", "name", name, "enable", on);

		if (op)
			json_object_set_new(p, "opc", json_string(op));
		rc = ctl_do(c, "bdev_enable_histogram", p);
		if (rc)
			break;
		done++;
	}
	if (!rc && !c->json)
		printf("%s %zu block device%s.\n",
		       on ? "Counting I/Os of" : "No longer counting those of",
		       done, done == 1 ? "" : "s");
	json_decref(names);
	return rc;
}

static int
start(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return enable(c, args, nargs, true, ctl_opt(opts, "op"));
}

static int
stop(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return enable(c, args, nargs, false, NULL);
}

#define NO_HISTOGRAM (-2) /* ENOENT of bdev_get_histogram */
#define GONE (-19)	  /* ENODEV */

/* One hist a name; without counts where there is none. False after a message. */
static bool
look(struct ctl *c, json_t *names, struct hist *hists)
{
	json_t *name;
	size_t i;

	json_array_foreach(names, i, name) {
		json_t *error,
			*r = ctl_call(c, "bdev_get_histogram",
				      json_pack("{s:O}", "name", name), &error);
		json_int_t code =
			json_integer_value(json_object_get(error, "code"));
		bool ok = r ? hist_decode(r, &hists[i])
			    : error && (code == NO_HISTOGRAM || code == GONE);

		if (!ok && (r || error))
			fprintf(stderr, "belfryctl: bdev_get_histogram: %s\n",
				r ? "malformed reply"
				  : json_string_value(
					    json_object_get(error, "message")));
		json_decref(error);
		json_decref(r);
		if (!ok)
			return false;
	}
	return true;
}

/* What came since @old, unless it was started anew since. */
static void
subtract(struct hist *h, const struct hist *old)
{
	if (!h->counts || !old->counts || h->buckets != old->buckets ||
	    h->granularity != old->granularity ||
	    h->min_range != old->min_range)
		return;
	for (size_t i = 0; i < h->buckets; i++)
		if (h->counts[i] < old->counts[i])
			return;
	for (size_t i = 0; i < h->buckets; i++)
		h->counts[i] -= old->counts[i];
}

static const struct {
	const char *key;
	double percent;
} shown[] = { { "p50_us", 50 },
	      { "p90_us", 90 },
	      { "p99_us", 99 },
	      { "p99.9_us", 99.9 },
	      { "max_us", 100 } };

static void
print_json(json_t *names, const struct hist *hists)
{
	json_t *out = json_array(), *name, *o;
	size_t i;

	json_array_foreach(names, i, name) {
		uint64_t n;

		if (!hists[i].counts)
			continue;
		n = hist_total(&hists[i]);
		o = json_pack("{s:O, s:I}", "name", name, "count",
			      (json_int_t)n);
		for (size_t k = 0; k < ARRAY_SIZE(shown); k++)
			json_object_set_new(
				o, shown[k].key,
				n ? json_real(percentile(&hists[i],
							 shown[k].percent))
				  : json_null());
		json_array_append_new(out, o);
	}
	ctl_print_json(out);
	json_decref(out);
}

static void
print_table(json_t *names, const struct hist *hists)
{
	struct table *t = table_new(
		"BDEV,I/Os>,P50 us>,P90 us>,P99 us>,P99.9 us>,MAX us>");
	json_t *name;
	size_t i;

	json_array_foreach(names, i, name) {
		const char *cell[ARRAY_SIZE(shown)];
		uint64_t n;

		if (!hists[i].counts)
			continue;
		n = hist_total(&hists[i]);
		for (size_t k = 0; k < ARRAY_SIZE(shown); k++)
			cell[k] = n ? ctl_fmt("%.1f",
					      percentile(&hists[i],
							 shown[k].percent))
				    : "-";
		table_row(t, json_string_value(name),
			  ctl_fmt("%llu", (unsigned long long)n), cell[0],
			  cell[1], cell[2], cell[3], cell[4], NULL);
	}
	table_print(t, stdout);
}

static bool
any(const struct hist *hists, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (hists[i].counts)
			return true;
	fprintf(stderr,
		"belfryctl: %s%s has %s histogram; 'belfryctl histogram start%s%s' makes one\n",
		name ? "block device " : "no block device", name ? name : "",
		name ? "no" : "a", name ? " " : "", name ? name : "");
	return false;
}

static int
show_looks(struct ctl *c, json_t *names, const char *named, double interval)
{
	size_t n = json_array_size(names);
	struct hist *first = calloc(n + 1, sizeof(*first)),
		    *hists = calloc(n + 1, sizeof(*hists));
	bool ok = first && hists;

	if (ok && interval > 0) {
		ok = look(c, names, first) && any(first, n, named);
		if (ok)
			ctl_sleep(interval);
	}
	ok = ok && look(c, names, hists) && any(hists, n, named);
	for (size_t i = 0; ok && i < n; i++)
		subtract(&hists[i], &first[i]);
	if (ok && c->json)
		print_json(names, hists);
	else if (ok)
		print_table(names, hists);
	for (size_t i = 0; first && hists && i < n; i++) {
		hist_drop(&first[i]);
		hist_drop(&hists[i]);
	}
	free(first);
	free(hists);
	return ok ? CTL_OK : CTL_FAILED;
}

static int
show(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	double interval = 0;
	json_t *names;
	int rc = CTL_FAILED;

	if (!ctl_parse_interval(ctl_opt(opts, "interval"), &interval))
		return CTL_USAGE;
	names = devices(c, args, nargs);
	if (names)
		rc = show_looks(c, names, nargs ? args[0] : NULL, interval);
	json_decref(names);
	return rc;
}

struct ctl_cmd cmds_histogram[] = {
	{ "histogram start",
	  "[NAME]",
	  "Count I/Os by how long they take, from 0",
	  0,
	  1,
	  start,
	  { { "op", "OP", "only read, write, unmap, flush or write_zeroes [all]",
	      NULL, 0 } } },
	{ "histogram stop", "[NAME]", "End that", 0, 1, stop, { { 0 } } },
	{ "histogram show",
	  "[NAME]",
	  "Percentiles of latency since the start",
	  0,
	  1,
	  show,
	  { { "interval", "S", "of those in the next S seconds", NULL, 'i' } } },
	{ 0 },
};
