/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of methods, and which of them are allowed now. Not for their handlers.
 */
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"

#include "internal.h"

#define MAX_TABLES 64

static struct {
	const struct rpc_method *methods;
	size_t n;
} tables[MAX_TABLES];
static unsigned table_count;
static unsigned state = RPC_STARTUP;
static const char *(*get_advice)(const char *method);

void
rpc_register(const struct rpc_method *methods, size_t n)
{
	unsigned i;

	for (i = 0; i < table_count; i++)
		if (tables[i].methods == methods)
			return;
	if (table_count == MAX_TABLES) {
		log_error("rpc: no room for the methods from %s on",
			  methods->name);
		return;
	}
	tables[table_count].methods = methods;
	tables[table_count++].n = n;
}

void
rpc_set_state(unsigned s)
{
	state = s;
	if (s == RPC_RUNTIME)
		rpc_run_held();
}

unsigned
rpc_get_state(void)
{
	return state;
}

const struct rpc_method *
rpc_find(const char *name)
{
	unsigned i;
	size_t j;

	for (i = 0; i < table_count; i++)
		for (j = 0; j < tables[i].n; j++)
			if (!strcmp(tables[i].methods[j].name, name))
				return &tables[i].methods[j];
	return NULL;
}

void
rpc_set_advice(const char *(*advice)(const char *method))
{
	get_advice = advice;
}

const char *
rpc_advice(const char *name)
{
	return get_advice ? get_advice(name) : NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

json_t *
rpc_methods(bool current)
{
	json_t *out = json_array();
	size_t n = 0, j, k = 0;
	const char **names;
	unsigned i;

	for (i = 0; i < table_count; i++)
		n += tables[i].n;
	names = calloc(n + 1, sizeof(*names));
	if (!names || !out) {
		free(names);
		json_decref(out);
		return NULL;
	}
	for (i = 0; i < table_count; i++)
		for (j = 0; j < tables[i].n; j++)
			if (!current || (tables[i].methods[j].flags & state))
				names[k++] = tables[i].methods[j].name;
	qsort(names, k, sizeof(*names), by_name);
	for (j = 0; j < k; j++)
		json_array_append_new(out, json_string(names[j]));
	free(names);
	return out;
}
