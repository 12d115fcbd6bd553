/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl bdev ...: create, list, resize, delete block devices.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static const struct {
	const char *opt, *member, *unit;
} limits[] = { { "iops", "rw_ios_per_sec", "I/O/s" },
	       { "rw", "rw_mbytes_per_sec", "MiB/s" },
	       { "read", "r_mbytes_per_sec", "MiB/s read" },
	       { "write", "w_mbytes_per_sec", "MiB/s written" } };

/* "2000 I/O/s, 10 MiB/s read"; "none" */
static const char *
limits_text(const json_t *bdev)
{
	const char *text = "none";

	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		json_int_t v = json_integer_value(json_object_get(
			json_object_get(bdev, "assigned_rate_limits"),
			limits[i].member));

		if (v)
			text = ctl_fmt("%s%s%lld %s",
				       !strcmp(text, "none") ? "" : text,
				       !strcmp(text, "none") ? "" : ", ",
				       (long long)v, limits[i].unit);
	}
	return text;
}

/* What of @key the device's module has to say, or NULL. */
static const json_t *
driver_value(const json_t *bdev, const char *key)
{
	json_t *driver;
	const char *name;

	json_object_foreach(json_object_get(bdev, "driver_specific"), name,
			    driver)
		if (json_object_get(driver, key))
			return json_object_get(driver, key);
	return NULL;
}

static int
bdev_show(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	static const char *const text[][2] = {
		{ "name", "Name" },
		{ "product_name", "Type" },
		{ "uuid", "UUID" },
		{ "claimed_by", "Used by" },
	};
	json_t *r = ctl_call(c, "bdev_get_bdevs",
			     json_pack("{s:s}", "name", args[0]), NULL),
	       *b = json_array_get(r, 0);
	uint64_t block = (uint64_t)json_integer_value(
			 json_object_get(b, "block_size")),
		 n = (uint64_t)json_integer_value(
			 json_object_get(b, "num_blocks"));
	const char *s;

	if (!r)
		return CTL_FAILED;
	for (size_t i = 0; !c->json && i < ARRAY_SIZE(text); i++)
		if ((s = json_string_value(json_object_get(b, text[i][0]))))
			printf("%-9s %s\n", text[i][1], s);
	if (c->json) {
		ctl_print_json(b);
	} else {
		printf("%-9s %s, %llu blocks of %llu bytes\n", "Size",
		       ctl_size(block * n), (unsigned long long)n,
		       (unsigned long long)block);
		if ((s = json_string_value(driver_value(b, "filename"))))
			printf("%-9s %s\n", "File", s);
		if ((s = json_string_value(driver_value(b, "base_bdev_name"))))
			printf("%-9s %s\n", "Base", s);
		if (json_is_true(driver_value(b, "readonly")))
			printf("%-9s refused\n", "Writes");
		printf("%-9s %s\n", "Limits", limits_text(b));
	}
	json_decref(r);
	return CTL_OK;
}

static int
bdev_list(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	bool limited = false;
	json_t *r, *b;
	struct table *t;
	size_t i;

	r = ctl_call(c, "bdev_get_bdevs",
		     nargs ? json_pack("{s:s}", "name", args[0]) : NULL, NULL);
	if (!r)
		return CTL_FAILED;
	if (c->json) {
		ctl_print_json(r);
		json_decref(r);
		return CTL_OK;
	}
	json_array_foreach(r, i, b)
		limited = limited || strcmp(limits_text(b), "none");
	/* a table without that column leaves it out of its rows */
	t = table_new(limited ? "NAME,TYPE,SIZE>,BLOCK>,IN USE,UUID,FILE,LIMITS"
			      : "NAME,TYPE,SIZE>,BLOCK>,IN USE,UUID,FILE");
	json_array_foreach(r, i, b) {
		uint64_t block = (uint64_t)json_integer_value(
			json_object_get(b, "block_size"));
		uint64_t n = (uint64_t)json_integer_value(
			json_object_get(b, "num_blocks"));
		const char *file =
			json_string_value(driver_value(b, "filename"));

		table_row(t, json_string_value(json_object_get(b, "name")),
			  json_string_value(json_object_get(b, "product_name")),
			  ctl_size(block * n),
			  ctl_fmt("%llu", (unsigned long long)block),
			  json_is_true(json_object_get(b, "claimed")) ? "yes"
								      : "no",
			  json_string_value(json_object_get(b, "uuid")),
			  file ? file : "-", limits_text(b), NULL);
	}
	table_print(t, stdout);
	json_decref(r);
	return CTL_OK;
}

/* --block-size, --uuid: common to every kind. False after a message. */
static bool
common_params(json_t *p, const struct ctl_opt *opts)
{
	const char *bs = ctl_opt(opts, "block-size"),
		   *uuid = ctl_opt(opts, "uuid");
	uint64_t block;

	if (bs) {
		if (!ctl_parse_size(bs, "block size", &block))
			return false;
		json_object_set_new(p, "block_size",
				    json_integer((json_int_t)block));
	}
	if (uuid)
		json_object_set_new(p, "uuid", json_string(uuid));
	return true;
}

static int
create_on_file(struct ctl *c, const char *method, char **args,
	       struct ctl_opt *opts)
{
	char *path = ctl_path(args[1]);
	json_t *p = json_pack("{s:s, s:s}", "name", args[0], "filename", path);

	free(path);
	if (!common_params(p, opts)) {
		json_decref(p);
		return CTL_USAGE;
	}
	if (ctl_opt(opts, "read-only"))
		json_object_set_new(p, "readonly", json_true());
	return ctl_do_say(c, method, p, "Created block device %s on %s.",
			  args[0], args[1]);
}

static int
create_aio(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return create_on_file(c, "bdev_aio_create", args, opts);
}

static int
create_uring(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return create_on_file(c, "bdev_uring_create", args, opts);
}

static int
create_sized(struct ctl *c, const char *method, char **args,
	     struct ctl_opt *opts)
{
	json_t *p = json_pack("{s:s, s:i}", "name", args[0], "block_size", 512);
	uint64_t len, block;

	if (!ctl_parse_size(args[1], "size", &len) || !common_params(p, opts)) {
		json_decref(p);
		return CTL_USAGE;
	}
	block = (uint64_t)json_integer_value(json_object_get(p, "block_size"));
	if (!block || len % block || !len) {
		fprintf(stderr,
			"belfryctl: size %s is no multiple of the block size %llu\n",
			args[1], (unsigned long long)block);
		json_decref(p);
		return CTL_USAGE;
	}
	json_object_set_new(p, "num_blocks",
			    json_integer((json_int_t)(len / block)));
	return ctl_do_say(c, method, p, "Created block device %s of %s.",
			  args[0], ctl_size(len));
}

static int
create_malloc(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return create_sized(c, "bdev_malloc_create", args, opts);
}

static int
create_null(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return create_sized(c, "bdev_null_create", args, opts);
}

static int
create_delay(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	static const char *const name[] = { "read", "read-p99", "write",
					    "write-p99" };
	static const char *const member[] = { "avg_read_latency",
					      "p99_read_latency",
					      "avg_write_latency",
					      "p99_write_latency" };
	json_t *p = json_pack("{s:s, s:s}", "name", args[0], "base_bdev_name",
			      args[1]);
	uint32_t us = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
		const char *v = ctl_opt(opts, name[i]);

		if (!(i & 1))
			us = 0; /* an absent p99 is the average */
		if (v && !ctl_parse_u32(v, name[i], &us)) {
			json_decref(p);
			return CTL_USAGE;
		}
		json_object_set_new(p, member[i], json_integer(us));
	}
	return ctl_do_say(c, "bdev_delay_create", p,
			  "Created block device %s over %s.", args[0], args[1]);
}

struct kind {
	const char *word; /* of its product name */
	const char *del, *rescan;
};

/* What the one of an answer of bdev_get_bdevs is. NULL after a message. */
static const struct kind *
kind_of(const json_t *r, const char *name)
{
	static const struct kind kinds[] = {
		{ "AIO", "bdev_aio_delete", "bdev_aio_rescan" },
		{ "URING", "bdev_uring_delete", "bdev_uring_rescan" },
		{ "Malloc", "bdev_malloc_delete", NULL },
		{ "Null", "bdev_null_delete", NULL },
		{ "delay", "bdev_delay_delete", NULL },
		{ "Error", "bdev_error_delete", NULL },
	};
	const char *product = json_string_value(
		json_object_get(json_array_get(r, 0), "product_name"));
	const struct kind *k = NULL;

	for (size_t i = 0; product && !k && i < ARRAY_SIZE(kinds); i++)
		if (strcasestr(product, kinds[i].word))
			k = &kinds[i];
	if (!k)
		fprintf(stderr,
			"belfryctl: block device %s is a '%s', which has no delete method\n",
			name, product ? product : "?");
	return k;
}

static int
bdev_delete(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r = ctl_call(c, "bdev_get_bdevs",
			     json_pack("{s:s}", "name", args[0]), NULL);
	const struct kind *k;
	const char *user;
	int rc = CTL_FAILED;

	if (!r)
		return CTL_FAILED;
	k = kind_of(r, args[0]);
	user = json_string_value(
		json_object_get(json_array_get(r, 0), "claimed_by"));
	if (k && user && !ctl_opt(opts, "force"))
		fprintf(stderr,
			"belfryctl: block device %s is used by %s; --force takes it from there\n",
			args[0], user);
	else if (k)
		rc = ctl_do_say(c, k->del, json_pack("{s:s}", "name", args[0]),
				"Deleted block device %s.", args[0]);
	json_decref(r);
	return rc;
}

/* The daemon tells about those that cannot. */
static int
bdev_rescan(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r = ctl_call(c, "bdev_get_bdevs",
			     json_pack("{s:s}", "name", args[0]), NULL);
	const struct kind *k = r ? kind_of(r, args[0]) : NULL;

	json_decref(r);
	return k ? ctl_do_say(c, k->rescan ? k->rescan : "bdev_aio_rescan",
			      json_pack("{s:s}", "name", args[0]),
			      "Rescanned %s.", args[0])
		 : CTL_FAILED;
}

static int
bdev_resize(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	uint64_t len;

	if (!ctl_parse_size(args[1], "size", &len))
		return CTL_USAGE;
	if (!len || len % (1u << 20)) {
		fprintf(stderr, "belfryctl: size %s is no multiple of 1M\n",
			args[1]);
		return CTL_USAGE;
	}
	return ctl_do_say(c, "bdev_null_resize",
			  json_pack("{s:s, s:I}", "name", args[0], "new_size",
				    (json_int_t)(len >> 20)),
			  "Resized %s to %s.", args[0], ctl_size(len));
}

static int
bdev_limit(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *p = json_pack("{s:s}", "name", args[0]);
	uint32_t n;

	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		const char *v = ctl_opt(opts, limits[i].opt);

		if (!v)
			continue;
		if (!ctl_parse_u32(v, limits[i].opt, &n)) {
			json_decref(p);
			return CTL_USAGE;
		}
		json_object_set_new(p, limits[i].member, json_integer(n));
	}
	if (json_object_size(p) == 1) {
		json_decref(p);
		fprintf(stderr,
			"belfryctl: give at least one of --iops, --rw, --read and --write; 0 lifts a limit\n");
		return CTL_USAGE;
	}
	return ctl_do_say(c, "bdev_set_qos_limit", p, "Limited %s.", args[0]);
}

#define COMMON_OPTS                                                      \
	{ "block-size", "N",                                             \
	  "bytes a block: 512 or 4096 [a disk's own, else 512]", NULL }, \
	{                                                                \
		"uuid", "UUID", "identity shown to guests", NULL         \
	}

struct ctl_cmd cmds_bdev[] = {
	{ "bdev list",
	  "[NAME]",
	  "List block devices",
	  0,
	  1,
	  bdev_list,
	  { { 0 } } },
	{ "bdev show",
	  "NAME",
	  "Show one with its options and limits",
	  1,
	  1,
	  bdev_show,
	  { { 0 } } },
	{ "bdev create aio",
	  "NAME FILE",
	  "Make a block device of a file or a disk",
	  2,
	  2,
	  create_aio,
	  { COMMON_OPTS, { "read-only", NULL, "refuse writes", NULL } } },
	{ "bdev create uring",
	  "NAME FILE",
	  "The same by io_uring instead of libaio",
	  2,
	  2,
	  create_uring,
	  { COMMON_OPTS, { "read-only", NULL, "refuse writes", NULL } } },
	{ "bdev create malloc",
	  "NAME SIZE",
	  "Make a block device in memory",
	  2,
	  2,
	  create_malloc,
	  { COMMON_OPTS } },
	{ "bdev create null",
	  "NAME SIZE",
	  "Make one that drops writes, for benchmarks",
	  2,
	  2,
	  create_null,
	  { COMMON_OPTS } },
	{ "bdev create delay",
	  "NAME BASE",
	  "Make one that slows another down, for tests",
	  2,
	  2,
	  create_delay,
	  { { "read", "US", "average latency added to reads", NULL },
	    { "read-p99", "US", "99th percentile of it", NULL },
	    { "write", "US", "average latency added to writes", NULL },
	    { "write-p99", "US", "99th percentile of it", NULL } } },
	{ "bdev rescan",
	  "NAME",
	  "Notice that a file or disk changed its size",
	  1,
	  1,
	  bdev_rescan,
	  { { 0 } } },
	{ "bdev resize",
	  "NAME SIZE",
	  "Resize a null device",
	  2,
	  2,
	  bdev_resize,
	  { { 0 } } },
	{ "bdev limit",
	  "NAME",
	  "Limit how fast a device is; 0 lifts a limit",
	  1,
	  1,
	  bdev_limit,
	  { { "iops", "N", "I/Os a second", NULL },
	    { "rw", "MIB", "MiB a second, reading and writing together", NULL },
	    { "read", "MIB", "MiB a second of reading", NULL },
	    { "write", "MIB", "MiB a second of writing", NULL } } },
	{ "bdev delete",
	  "NAME",
	  "Delete one that nobody uses",
	  1,
	  1,
	  bdev_delete,
	  { { "force", NULL, "one in use, too: guests lose it at once", NULL,
	      0 } } },
	{ 0 },
};
