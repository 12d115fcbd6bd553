/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Params to structs, by a table. Every complaint names the member. Not for what the values mean.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "belfry/log.h"

#include "internal.h"

#define SAID_MAX 16 /* unknown members of a request that are named in the log */

static const char *
type_name(enum rpc_type type)
{
	static const char *const names[] = {
		[RPC_STRING] = "a string",
		[RPC_BOOL] = "true or false",
		[RPC_U8] = "an integer from 0 to 255",
		[RPC_U16] = "an integer from 0 to 65535",
		[RPC_U32] = "an integer from 0 to 4294967295",
		[RPC_U64] = "an integer from 0 to 9223372036854775807",
		[RPC_I32] = "an integer from -2147483648 to 2147483647",
		[RPC_UUID] = "a UUID string",
		[RPC_OBJECT] = "an object",
		[RPC_ARRAY] = "an array",
	};

	return names[type];
}

/* Some clients write integers as 1e3 or 512.0. */
static bool
get_int(const json_t *v, json_int_t min, json_int_t max, json_int_t *out)
{
	double d;

	if (json_is_real(v)) {
		d = json_real_value(v);
		if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) ||
		    d != (double)(json_int_t)d)
			return false;
		*out = (json_int_t)d;
	} else if (json_is_integer(v)) {
		*out = json_integer_value(v);
	} else {
		return false;
	}
	return *out >= min && *out <= max;
}

static bool
decode_int(const json_t *v, enum rpc_type type, void *field)
{
	static const struct {
		json_int_t min, max;
	} range[] = {
		[RPC_U8] = { 0, UINT8_MAX },
		[RPC_U16] = { 0, UINT16_MAX },
		[RPC_U32] = { 0, UINT32_MAX },
		[RPC_U64] = { 0, INT64_MAX },
		[RPC_I32] = { INT32_MIN, INT32_MAX },
	};
	json_int_t n;

	if (!get_int(v, range[type].min, range[type].max, &n))
		return false;
	switch (type) {
	case RPC_U8:
		*(uint8_t *)field = (uint8_t)n;
		break;
	case RPC_U16:
		*(uint16_t *)field = (uint16_t)n;
		break;
	case RPC_U32:
		*(uint32_t *)field = (uint32_t)n;
		break;
	case RPC_I32:
		*(int32_t *)field = (int32_t)n;
		break;
	default:
		*(uint64_t *)field = (uint64_t)n;
		break;
	}
	return true;
}

static bool
decode_one(json_t *v, enum rpc_type type, void *field)
{
	switch (type) {
	case RPC_STRING:
		if (!json_is_string(v))
			return false;
		*(const char **)field = json_string_value(v);
		return true;
	case RPC_BOOL:
		if (!json_is_boolean(v))
			return false;
		*(bool *)field = json_is_true(v);
		return true;
	case RPC_UUID:
		return json_is_string(v) &&
		       !uuid_parse(json_string_value(v), field);
	case RPC_OBJECT:
	case RPC_ARRAY:
		if (type == RPC_OBJECT ? !json_is_object(v) : !json_is_array(v))
			return false;
		*(json_t **)field = v;
		return true;
	case RPC_ANY:
	case RPC_IGNORE:
		return true;
	default:
		return decode_int(v, type, field);
	}
}

static void
bad_value(struct rpc_req *req, const struct rpc_param *p, const json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

	rpc_error(req, RPC_INVALID_PARAMS,
		  "Invalid parameters: '%s' must be %s, not %.64s", p->name,
		  type_name(p->type), text ? text : "this");
	free(text);
}

/* Those that do something, for whoever has mistyped one. */
static const char *
known_names(const struct rpc_param *table, size_t n, char *buf, size_t len)
{
	const char *sep = "there are ";
	size_t i, at = 0;

	snprintf(buf, len, "there are none");
	for (i = 0; i < n && at < len; i++) {
		if (table[i].type == RPC_IGNORE)
			continue;
		at += (size_t)snprintf(buf + at, len - at, "%s%s", sep,
				       table[i].name);
		sep = ", ";
	}
	return buf;
}

/* Refused, or where clients are known to send what others understand: said, so that a misspelt option is no secret. */
static bool
unknown_ok(struct rpc_req *req, const json_t *params,
	   const struct rpc_param *table, size_t n, bool relaxed)
{
	const char *key;
	unsigned said = 0;
	char known[640];
	json_t *v;
	size_t i;

	json_object_foreach((json_t *)params, key, v) {
		for (i = 0; i < n; i++)
			if (!strcmp(table[i].name, key))
				break;
		if (i == n && relaxed && ++said <= SAID_MAX) {
			log_notice(
				"%s: '%.64s' is unknown here and has no effect: %s",
				rpc_req_method(req)->name, key,
				known_names(table, n, known, sizeof(known)));
		} else if (i == n && !relaxed) {
			rpc_error(
				req, RPC_INVALID_PARAMS,
				"Invalid parameters: unknown member '%.128s': %s",
				key,
				known_names(table, n, known, sizeof(known)));
			return false;
		}
	}
	if (said > SAID_MAX)
		log_notice("%s: %u more members are unknown",
			   rpc_req_method(req)->name, said - SAID_MAX);
	return true;
}

bool
rpc_decode(struct rpc_req *req, const json_t *params,
	   const struct rpc_param *table, size_t n, void *out, unsigned flags)
{
	json_t *v;
	size_t i;

	if (json_is_null(params))
		params = NULL;
	if (params && !json_is_object(params)) {
		rpc_error(
			req, RPC_INVALID_PARAMS,
			"Invalid parameters: params must be an object with named members");
		return false;
	}
	if (!unknown_ok(req, params, table, n, flags & RPC_RELAXED))
		return false;
	for (i = 0; i < n; i++) {
		v = json_object_get(params, table[i].name);
		if (!v && table[i].required) {
			rpc_error(req, RPC_INVALID_PARAMS,
				  "Invalid parameters: '%s' is missing",
				  table[i].name);
			return false;
		}
		if (!v)
			continue;
		if (!decode_one(v, table[i].type,
				(char *)out + table[i].offset)) {
			bad_value(req, &table[i], v);
			return false;
		}
		if (table[i].seen_offset)
			*(bool *)((char *)out + table[i].seen_offset) = true;
	}
	return true;
}
