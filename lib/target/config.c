/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Load a configuration file: RPC methods, one after the other. Not for saving: framework_get_config gives the same form.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

struct loading {
	const char *path;
	json_t *root, *subsystems;
	size_t subsystem, entry;
	void (*done)(const char *error);
	bool stepping, waiting;
	char error[1536];
};

static void loading_run(struct loading *l);

static void
loading_end(struct loading *l)
{
	void (*done)(const char *error) = l->done;

	done(l->error[0] ? l->error : NULL);
	json_decref(l->root);
	free(l);
}

static void loading_error(struct loading *l, const char *fmt, ...)
	printf_like(2, 3);

static void
loading_error(struct loading *l, const char *fmt, ...)
{
	int n = snprintf(l->error, sizeof(l->error), "%.512s: ", l->path);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->error + n, sizeof(l->error) - (size_t)n, fmt, ap);
	va_end(ap);
}

static const char *
subsystem_name(const struct loading *l)
{
	const char *name = json_string_value(json_object_get(
		json_array_get(l->subsystems, l->subsystem), "subsystem"));

	return name ? name : "?";
}

static json_t *
current_config(const struct loading *l)
{
	return json_object_get(json_array_get(l->subsystems, l->subsystem),
			       "config");
}

/* A misspelt "config" would be a part that is not loaded. */
static bool
subsystem_ok(struct loading *l)
{
	json_t *s = json_array_get(l->subsystems, l->subsystem), *v;
	const char *key;

	if (!json_is_object(s) ||
	    !json_is_string(json_object_get(s, "subsystem"))) {
		loading_error(
			l,
			"'subsystems' %zu must be an object with a string 'subsystem' and an array 'config'",
			l->subsystem);
		return false;
	}
	json_object_foreach(s, key, v) {
		if (!strcmp(key, "subsystem") || !strcmp(key, "config"))
			continue;
		loading_error(l, "subsystem \"%s\": unknown member '%.64s'",
			      subsystem_name(l), key);
		return false;
	}
	v = json_object_get(s, "config");
	if (!v || json_is_array(v) || json_is_null(v))
		return true;
	loading_error(l, "subsystem \"%s\": 'config' is no array",
		      subsystem_name(l));
	return false;
}

static void
entry_done(void *arg, const json_t *result, const json_t *error)
{
	struct loading *l = arg;
	const json_t *entry = json_array_get(current_config(l), l->entry);

	if (error)
		loading_error(
			l, "subsystem \"%s\", entry %zu, %s: %s",
			subsystem_name(l), l->entry,
			json_string_value(json_object_get(entry, "method")),
			json_string_value(json_object_get(error, "message")));
	l->entry++;
	l->waiting = false;
	if (!l->stepping)
		loading_run(l);
}

static void
load_entry(struct loading *l, const json_t *entry)
{
	const char *method =
			   json_string_value(json_object_get(entry, "method")),
		   *key;
	json_t *v;

	if (!method) {
		loading_error(
			l,
			"subsystem \"%s\", entry %zu: 'method' is missing or no string",
			subsystem_name(l), l->entry);
		return;
	}
	json_object_foreach((json_t *)entry, key, v) {
		if (!strcmp(key, "method") || !strcmp(key, "params"))
			continue;
		loading_error(
			l,
			"subsystem \"%s\", entry %zu, %s: unknown member '%.64s'",
			subsystem_name(l), l->entry, method, key);
		return;
	}
	l->waiting = true;
	rpc_call(method, json_object_get(entry, "params"), entry_done, l);
}

/* Entries are called in a loop, so that a long file of quick ones does not pile up on the stack. */
static void
loading_run(struct loading *l)
{
	const json_t *config;

	l->stepping = true;
	while (!l->error[0] && !target_is_stopping() &&
	       l->subsystem < json_array_size(l->subsystems)) {
		config = current_config(l);
		if (!l->entry && !subsystem_ok(l))
			break;
		if (l->entry >= json_array_size(config)) {
			l->subsystem++;
			l->entry = 0;
		} else {
			load_entry(l, json_array_get(config, l->entry));
			if (l->waiting) {
				l->stepping = false;
				return;
			}
		}
	}
	loading_end(l);
}

void
config_load(const char *path, void (*done)(const char *error))
{
	struct loading *l = calloc(1, sizeof(*l));
	json_error_t error;
	struct stat st;
	FILE *f;

	if (!l) {
		done("out of memory");
		return;
	}
	l->path = path;
	l->done = done;
	f = fopen(path, "r");
	if (!f) {
		loading_error(
			l,
			"%s; 'belfryctl save' writes one, and {\"subsystems\": []} is the empty one",
			strerror(errno));
		loading_end(l);
		return;
	}
	l->root = json_loadf(f, JSON_REJECT_DUPLICATES, &error);
	fclose(f);
	l->subsystems = json_object_get(l->root, "subsystems");
	if (!l->root && !stat(path, &st) && S_ISDIR(st.st_mode))
		loading_error(l, "is a directory");
	else if (!l->root && error.line > 0)
		loading_error(l, "line %d, column %d: %s", error.line,
			      error.column, error.text);
	else if (!l->root)
		loading_error(l, "%s", error.text);
	else if (!json_is_array(l->subsystems))
		loading_error(l, "no array 'subsystems' in it");
	loading_run(l);
}
