/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RPC: version, methods, start of the framework, its configuration, logging, signals.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static void
rpc_get_version(struct rpc_req *req, const json_t *params)
{
	int major = 0, minor = 0, patch = 0, used = 0;

	if (!no_params(req, params))
		return;
	sscanf(BELFRY_VERSION, "%d.%d%n.%d%n", &major, &minor, &used, &patch,
	       &used);
	rpc_result(req, json_pack("{s:s, s:{s:i, s:i, s:i, s:s}}", "version",
				  "Belfry v" BELFRY_VERSION, "fields", "major",
				  major, "minor", minor, "patch", patch,
				  "suffix", &BELFRY_VERSION[used]));
}

struct methods_params {
	bool current, include_aliases;
};

static const struct rpc_param methods_table[] = {
	PARAM(struct methods_params, current, RPC_BOOL),
	PARAM(struct methods_params, include_aliases,
	      RPC_BOOL), /* there are none */
};

static void
rpc_get_methods(struct rpc_req *req, const json_t *params)
{
	struct methods_params p = { 0 };

	if (rpc_decode(req, params, methods_table, ARRAY_SIZE(methods_table),
		       &p, 0))
		rpc_result(req, rpc_methods(p.current));
}

/* ---- start ---- */

static void
say_ready(struct rpc_req *req)
{
	rpc_result(req, json_true());
}

static void
rpc_start_init(struct rpc_req *req, const json_t *params)
{
	if (!no_params(req, params))
		return;
	if (target_begin())
		rpc_when_runtime(req, say_ready);
	else
		rpc_error(req, RPC_INVALID_STATE,
			  "the framework is being initialized already");
}

static void
rpc_wait_init(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_when_runtime(req, say_ready);
}

/* ---- configuration ---- */

static void
rpc_get_subsystems(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_result(req,
			   json_pack("[{s:s, s:[]}, {s:s, s:[s]}]", "subsystem",
				     "bdev", "depends_on", "subsystem", "nvmf",
				     "depends_on", "bdev"));
}

struct config_params {
	const char *name;
	bool with_batches;
};

static const struct rpc_param config_table[] = {
	PARAM_REQ(struct config_params, name, RPC_STRING),
	PARAM(struct config_params, with_batches,
	      RPC_BOOL), /* a saved configuration needs none */
};

static void
rpc_get_config(struct rpc_req *req, const json_t *params)
{
	struct config_params p = { 0 };

	if (!rpc_decode(req, params, config_table, ARRAY_SIZE(config_table), &p,
			0))
		return;
	if (!strcmp(p.name, "bdev"))
		rpc_result(req, save_bdev());
	else if (!strcmp(p.name, "nvmf"))
		rpc_result(req, save_nvmf());
	else
		bad_params(
			req,
			"Subsystem '%.64s' not found ('name'): there are bdev and nvmf",
			p.name);
}

/* ---- logging ---- */

struct level_params {
	const char *level;
};

static const struct rpc_param level_table[] = {
	PARAM_REQ(struct level_params, level, RPC_STRING),
};

/* One level for stderr and syslog, so both methods set the same. */
static void
rpc_log_set_level(struct rpc_req *req, const json_t *params)
{
	struct level_params p = { 0 };
	enum log_level level;

	if (!rpc_decode(req, params, level_table, ARRAY_SIZE(level_table), &p,
			0))
		return;
	if (log_level_parse(p.level, &level)) {
		bad_params(
			req,
			"'level' '%.64s' is none of ERROR, WARNING, NOTICE, INFO, DEBUG",
			p.level);
		return;
	}
	log_set_level(level);
	rpc_result(req, json_true());
}

static void
rpc_log_get_level(struct rpc_req *req, const json_t *params)
{
	if (no_params(req, params))
		rpc_result(req, json_string(log_level_name(log_get_level())));
}

struct flag_params {
	const char *flag;
};

static const struct rpc_param flag_table[] = {
	PARAM_REQ(struct flag_params, flag, RPC_STRING),
};

static void
set_flag(struct rpc_req *req, const json_t *params, bool on)
{
	struct flag_params p = { 0 };

	if (!rpc_decode(req, params, flag_table, ARRAY_SIZE(flag_table), &p, 0))
		return;
	if (log_set_flag(p.flag, on))
		bad_params(req, "'flag' '%.64s' is none of " LOG_FLAG_NAMES,
			   p.flag);
	else
		rpc_result(req, json_true());
}

static void
rpc_log_set_flag(struct rpc_req *req, const json_t *params)
{
	set_flag(req, params, true);
}

static void
rpc_log_clear_flag(struct rpc_req *req, const json_t *params)
{
	set_flag(req, params, false);
}

static void
rpc_log_get_flags(struct rpc_req *req, const json_t *params)
{
	json_t *out;
	unsigned i;

	if (!no_params(req, params))
		return;
	out = json_object();
	for (i = 0; i < LOG_FLAG_COUNT; i++)
		json_object_set_new(out, log_flag_name(i),
				    json_boolean(log_get_flag(i)));
	rpc_result(req, out);
}

/* ---- signals ---- */

struct kill_params {
	const char *sig_name;
};

static const struct rpc_param kill_table[] = {
	PARAM_REQ(struct kill_params, sig_name, RPC_STRING),
};

static void
rpc_kill_instance(struct rpc_req *req, const json_t *params)
{
	static const struct {
		const char *name;
		int sig;
	} sigs[] = { { "SIGINT", SIGINT },   { "SIGTERM", SIGTERM },
		     { "SIGQUIT", SIGQUIT }, { "SIGHUP", SIGHUP },
		     { "SIGKILL", SIGKILL }, { "SIGUSR1", SIGUSR1 } };
	struct kill_params p = { 0 };
	uint64_t number = 0;
	unsigned i;

	if (!rpc_decode(req, params, kill_table, ARRAY_SIZE(kill_table), &p, 0))
		return;
	(void)util_parse_u64(p.sig_name, &number);
	for (i = 0; i < ARRAY_SIZE(sigs); i++) {
		if (!strcmp(p.sig_name, sigs[i].name) ||
		    number == (uint64_t)sigs[i].sig) {
			/* the answer first: after some of these there is nobody to give it */
			rpc_result(req, json_true());
			kill(getpid(), sigs[i].sig);
			return;
		}
	}
	bad_params(
		req,
		"'sig_name' '%.64s' is none of SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGKILL, SIGUSR1",
		p.sig_name);
}

#define ALWAYS (RPC_STARTUP | RPC_RUNTIME)
static const struct rpc_method methods[] = {
	{ "spdk_get_version", rpc_get_version, ALWAYS },
	{ "rpc_get_methods", rpc_get_methods, ALWAYS },
	{ "framework_start_init", rpc_start_init, RPC_STARTUP },
	{ "framework_wait_init", rpc_wait_init, ALWAYS },
	{ "framework_get_subsystems", rpc_get_subsystems, RPC_RUNTIME },
	{ "framework_get_config", rpc_get_config, RPC_RUNTIME },
	{ "log_set_flag", rpc_log_set_flag, ALWAYS },
	{ "log_clear_flag", rpc_log_clear_flag, ALWAYS },
	{ "log_get_flags", rpc_log_get_flags, ALWAYS },
	{ "log_set_level", rpc_log_set_level, ALWAYS },
	{ "log_set_print_level", rpc_log_set_level, ALWAYS },
	{ "log_get_level", rpc_log_get_level, ALWAYS },
	{ "log_get_print_level", rpc_log_get_level, ALWAYS },
	{ "spdk_kill_instance", rpc_kill_instance, ALWAYS },
};

void
rpc_framework_register(void)
{
	rpc_register(methods, ARRAY_SIZE(methods));
}
