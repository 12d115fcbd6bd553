/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl save, load, rpc, and what concerns the daemon itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"

/* The whole configuration, in the form that belfryd -c and 'load' take; NULL after a message. */
static json_t *
get_config(struct ctl *c)
{
	json_t *names = ctl_call(c, "framework_get_subsystems", NULL, NULL),
	       *name;
	json_t *all = names ? json_array() : NULL;
	size_t i;

	json_array_foreach(names, i, name) {
		const char *s =
			json_string_value(json_object_get(name, "subsystem"));
		json_t *cfg = ctl_call(c, "framework_get_config",
				       json_pack("{s:s}", "name", s), NULL);

		if (!cfg) {
			json_decref(all);
			json_decref(names);
			return NULL;
		}
		json_array_append_new(all, json_pack("{s:s, s:o}", "subsystem",
						     s, "config", cfg));
	}
	json_decref(names);
	return all ? json_pack("{s:o}", "subsystems", all) : NULL;
}

static bool
write_stream(const json_t *v, FILE *f)
{
	return !json_dumpf(v, f, JSON_INDENT(2)) && fputc('\n', f) != EOF &&
	       !fflush(f);
}

/* A file beside @path, as the old one is to who may read it; @st: of the old one, or NULL. */
static FILE *
open_beside(const char *path, char *tmp, const struct stat *st)
{
	mode_t mask = umask(0);
	int fd = mkostemp(tmp, O_CLOEXEC);
	FILE *f;

	umask(mask); /* only asked for: a file of mkostemp() has 0600 */
	if (fd < 0)
		return NULL;
	if (st && fchown(fd, st->st_uid, st->st_gid) && geteuid() == 0)
		fprintf(stderr, "belfryctl: %s changes its owner: %s\n", path,
			strerror(errno));
	fchmod(fd, st ? st->st_mode & 07777 : 0666 & ~mask);
	f = fdopen(fd, "w");
	if (!f)
		close(fd);
	return f;
}

/* Written beside and renamed: a full disk leaves the old file as it was. What is no file (a device, a pipe) is written to. */
static int
write_file(const json_t *v, const char *path)
{
	char *real = realpath(path, NULL), *tmp = NULL; /* a link stays one */
	const char *to = real ? real : path;
	struct stat st;
	bool there = !stat(to, &st), beside = !there || S_ISREG(st.st_mode);
	bool ok = asprintf(&tmp, "%s.XXXXXX", to) > 0;
	FILE *f = !ok	   ? NULL
		  : beside ? open_beside(path, tmp, there ? &st : NULL)
			   : fopen(to, "w");

	ok = f && write_stream(v, f) && (!beside || !fsync(fileno(f)));
	if (ok && beside)
		ok = !rename(tmp, to);
	if (!ok)
		fprintf(stderr, "belfryctl: cannot write %s: %s\n", path,
			strerror(errno));
	if (f)
		fclose(f);
	if (!ok && beside && tmp)
		unlink(tmp);
	free(tmp);
	free(real);
	return ok ? CTL_OK : CTL_FAILED;
}

static int
save(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *cfg = get_config(c);
	int rc = CTL_OK;

	if (!cfg)
		return CTL_FAILED;
	if (nargs && strcmp(args[0], "-"))
		rc = write_file(cfg, args[0]);
	else
		ctl_print_json(cfg);
	json_decref(cfg);
	return rc;
}

/* ---- load ---- */

struct loading {
	struct ctl *c;
	const char *file;
	json_t *known,
		*current; /* the daemon's methods: all, and those that may be called now */
	size_t done, skipped;
};

static bool
has_string(const json_t *array, const char *s)
{
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)array, i, e)
		if (!strcmp(json_string_value(e), s))
			return true;
	return false;
}

static int
load_error(const struct loading *l, const char *subsystem, size_t entry,
	   const char *method, const char *why)
{
	fprintf(stderr, "belfryctl: %s: subsystem %s, entry %zu%s%s: %s\n",
		l->file, subsystem, entry, method ? ", " : "",
		method ? method : "", why);
	return CTL_FAILED;
}

/* Before anything is changed: does the daemon know this method? */
static int
check_entry(struct loading *l, const char *subsystem, size_t i, json_t *e)
{
	const char *method = json_string_value(json_object_get(e, "method"));

	if (!method)
		return load_error(l, subsystem, i, NULL,
				  "'method' is missing or no string");
	if (!has_string(l->known, method))
		return load_error(l, subsystem, i, method,
				  "Method not found; nothing was loaded");
	return CTL_OK;
}

static int
load_entry(struct loading *l, const char *subsystem, size_t i, json_t *e)
{
	const char *method = json_string_value(json_object_get(e, "method")),
		   *why;
	json_t *error, *r;
	int rc = CTL_OK;

	if (!has_string(l->current, method)) {
		l->skipped++;
		return CTL_OK;
	}
	r = ctl_call(l->c, method, json_incref(json_object_get(e, "params")),
		     &error);
	why = json_string_value(json_object_get(error, "message"));
	if (r)
		l->done++;
	else
		rc = load_error(l, subsystem, i, method,
				why ? why : "no answer");
	json_decref(error);
	json_decref(r);
	return rc;
}

static int
for_each_entry(struct loading *l, json_t *subsystems,
	       int (*fn)(struct loading *l, const char *subsystem, size_t i,
			 json_t *e))
{
	json_t *s, *e;
	size_t i, k;

	json_array_foreach(subsystems, i, s) {
		const char *name =
			json_string_value(json_object_get(s, "subsystem"));

		json_array_foreach(json_object_get(s, "config"), k, e) {
			int rc = fn(l, name ? name : "?", k, e);

			if (rc)
				return rc;
		}
	}
	return CTL_OK;
}

static json_t *
read_config(const char *file)
{
	json_error_t jerr;
	json_t *cfg =
		strcmp(file, "-")
			? json_load_file(file, JSON_REJECT_DUPLICATES, &jerr)
			: json_loadf(stdin, JSON_REJECT_DUPLICATES, &jerr);

	if (!cfg && jerr.line > 0)
		fprintf(stderr, "belfryctl: %s: line %d, column %d: %s\n", file,
			jerr.line, jerr.column, jerr.text);
	else if (!cfg)
		fprintf(stderr, "belfryctl: %s\n", jerr.text);
	else if (!json_is_array(json_object_get(cfg, "subsystems")))
		fprintf(stderr,
			"belfryctl: %s: no \"subsystems\" array; 'belfryctl save' shows the form\n",
			file);
	else
		return cfg;
	json_decref(cfg);
	return NULL;
}

/* As belfryd -c has it: a misspelt "config" would be a part that is not loaded. */
static int
check_subsystem(const struct loading *l, json_t *s, size_t i)
{
	const char *name = json_string_value(json_object_get(s, "subsystem"));
	const json_t *config = json_object_get(s, "config");
	size_t known = (name != NULL) + (config != NULL);

	if (name && json_object_size(s) == known &&
	    (!config || json_is_array(config) || json_is_null(config)))
		return CTL_OK;
	fprintf(stderr,
		"belfryctl: %s: 'subsystems' %zu must be an object with a string 'subsystem', an array 'config' and no other member; nothing was loaded\n",
		l->file, i);
	return CTL_FAILED;
}

static int
load_all(struct loading *l, json_t *subsystems)
{
	int rc = CTL_OK;
	json_t *s;
	size_t i;

	json_array_foreach(subsystems, i, s)
		if (!rc)
			rc = check_subsystem(l, s, i);
	if (!rc)
		rc = for_each_entry(l, subsystems, check_entry);

	if (rc)
		return rc;
	rc = for_each_entry(l, subsystems, load_entry);
	if (!l->c->json)
		fprintf(rc ? stderr : stdout, "%zu entries loaded%s.\n",
			l->done, rc ? ", then stopped: they stay" : "");
	if (l->skipped)
		fprintf(stderr,
			"belfryctl: %s: %zu entries skipped, which only go before the daemon has begun: see belfryd -c\n",
			l->file, l->skipped);
	return rc;
}

static int
load(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	struct loading l = { .c = c, .file = args[0] };
	json_t *cfg = read_config(args[0]);
	int rc = CTL_FAILED;

	if (!cfg)
		return CTL_FAILED;
	l.known = ctl_call(c, "rpc_get_methods", NULL, NULL);
	l.current = l.known ? ctl_call(c, "rpc_get_methods",
				       json_pack("{s:b}", "current", 1), NULL)
			    : NULL;
	if (l.current)
		rc = load_all(&l, json_object_get(cfg, "subsystems"));
	json_decref(l.known);
	json_decref(l.current);
	json_decref(cfg);
	return rc;
}

static int
rpc(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *params = NULL, *error, *r;
	json_error_t jerr;

	if (nargs > 1) {
		params = strcmp(args[1], "-") ? json_loads(args[1], 0, &jerr)
					      : json_loadf(stdin, 0, &jerr);
		if (!params) {
			fprintf(stderr, "belfryctl: params: column %d: %s\n",
				jerr.column, jerr.text);
			return CTL_USAGE;
		}
	}
	r = ctl_call(c, args[0], params, &error);
	if (r) {
		ctl_print_json(r);
	} else if (error) {
		json_dumpf(error, stderr, JSON_INDENT(2) | JSON_ENCODE_ANY);
		fputc('\n', stderr);
		json_decref(error);
	}
	json_decref(r);
	return r ? CTL_OK : CTL_FAILED;
}

static int
version(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r = ctl_call(c, "spdk_get_version", NULL, NULL);

	if (!r)
		return CTL_FAILED;
	if (c->json)
		ctl_print_json(r);
	else
		printf("%s\n",
		       json_string_value(json_object_get(r, "version")));
	json_decref(r);
	return CTL_OK;
}

static int
methods(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r = ctl_call(c, "rpc_get_methods", NULL, NULL), *m;
	size_t i;

	if (!r)
		return CTL_FAILED;
	if (c->json)
		ctl_print_json(r);
	else
		json_array_foreach(r, i, m)
			printf("%s\n", json_string_value(m));
	json_decref(r);
	return CTL_OK;
}

static int
log_level(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r;

	if (!nargs) {
		r = ctl_call(c, "log_get_level", NULL, NULL);
		if (r && c->json)
			ctl_print_json(r);
		else if (r)
			printf("%s\n", json_string_value(r));
		json_decref(r);
		return r ? CTL_OK : CTL_FAILED;
	}
	return ctl_do_say(c, "log_set_level",
			  json_pack("{s:s}", "level", args[0]),
			  "Log level is now %s.", args[0]);
}

static int
stop(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return ctl_do_say(c, "spdk_kill_instance",
			  json_pack("{s:s}", "sig_name", "SIGTERM"),
			  "belfryd is stopping.");
}

/* All flags, or one set or cleared. */
static int
log_flag(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	bool on = nargs == 2 && !strcmp(args[1], "on");
	json_t *r, *v;
	const char *flag;

	if (nargs == 1 || (nargs == 2 && !on && strcmp(args[1], "off"))) {
		fprintf(stderr,
			"belfryctl: 'log-flag' needs FLAG and on or off; alone it shows them\n");
		return CTL_USAGE;
	}
	if (nargs)
		return ctl_do_say(c, on ? "log_set_flag" : "log_clear_flag",
				  json_pack("{s:s}", "flag", args[0]),
				  "Messages of %s at level DEBUG are %s now.",
				  args[0], args[1]);
	r = ctl_call(c, "log_get_flags", NULL, NULL);
	if (!r)
		return CTL_FAILED;
	if (c->json)
		ctl_print_json(r);
	else
		json_object_foreach(r, flag, v)
			printf("%-10s %s\n", flag,
			       json_is_true(v) ? "on" : "off");
	json_decref(r);
	return CTL_OK;
}

/* Prints what came from *id on, and moves it behind that. */
static int
events_print(struct ctl *c, json_int_t *id)
{
	json_t *r = ctl_call(c, "notify_get_notifications",
			     json_pack("{s:I}", "id", *id), NULL),
	       *e;
	size_t i;

	if (!r)
		return CTL_FAILED;
	json_array_foreach(r, i, e) {
		json_int_t n = json_integer_value(json_object_get(e, "id"));

		if (n > *id && !c->json)
			printf("%lld to %lld are not kept any more\n",
			       (long long)*id, (long long)n - 1);
		*id = n + 1;
		if (c->json) {
			json_dumpf(e, stdout, JSON_COMPACT);
			putchar('\n');
			continue;
		}
		printf("%6lld  %-15s  %s\n", (long long)n,
		       json_string_value(json_object_get(e, "type")),
		       json_string_value(json_object_get(e, "ctx")));
	}
	fflush(stdout);
	json_decref(r);
	return CTL_OK;
}

static int
events(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	const char *since = ctl_opt(opts, "since");
	uint32_t from = 0;
	json_int_t id;
	int rc;

	if (since && !ctl_parse_u32(since, "since", &from))
		return CTL_USAGE;
	id = from;
	rc = events_print(c, &id);
	while (!rc && ctl_opt(opts, "follow") && !ferror(stdout)) {
		ctl_sleep(0.5);
		rc = events_print(c, &id);
	}
	return rc;
}

/* For scripts that start the daemon: its socket may not be there yet, and a configuration takes its time. */
static int
wait_ready(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	double left = c->timeout_s;
	json_t *r = NULL;

	for (c->quiet = true; !r && left > 0; left -= 0.02) {
		r = ctl_call(c, "framework_wait_init", NULL, NULL);
		if (!r && c->fd >= 0)
			return CTL_FAILED; /* reached, and refused */
		if (!r)
			ctl_sleep(0.02);
	}
	c->quiet = false;
	if (!r)
		return ctl_do(c, "framework_wait_init", NULL);
	json_decref(r);
	return CTL_OK;
}

struct ctl_cmd cmds_daemon[] = {
	{ "save",
	  "[FILE]",
	  "Write the configuration (to stdout, or FILE)",
	  0,
	  1,
	  save,
	  { { 0 } } },
	{ "load", "FILE", "Apply a saved configuration", 1, 1, load, { { 0 } } },
	{ "rpc",
	  "METHOD [JSON]",
	  "Call any method ('-' reads params from stdin)",
	  1,
	  2,
	  rpc,
	  { { 0 } } },
	{ "methods", "", "List the daemon's methods", 0, 0, methods, { { 0 } } },
	{ "log-level",
	  "[LEVEL]",
	  "ERROR, WARNING, NOTICE, INFO or DEBUG",
	  0,
	  1,
	  log_level,
	  { { 0 } } },
	{ "log-flag",
	  "[FLAG on|off]",
	  "Show or set which parts write at level DEBUG",
	  0,
	  2,
	  log_flag,
	  { { 0 } } },
	{ "events",
	  "",
	  "Show which block devices came and went",
	  0,
	  0,
	  events,
	  { { "since", "ID", "from this one on [the oldest kept]", NULL, 0 },
	    { "follow", NULL, "go on until interrupted", NULL, 'f' } } },
	{ "wait",
	  "",
	  "Wait until the daemon is there and ready",
	  0,
	  0,
	  wait_ready,
	  { { 0 } } },
	{ "version", "", "The daemon's version", 0, 0, version, { { 0 } } },
	{ "stop", "", "Stop the daemon cleanly", 0, 0, stop, { { 0 } } },
	{ 0 },
};
