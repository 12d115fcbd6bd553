/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl: what its files share. A command line over belfryd's JSON-RPC socket.
 *
 * Each subcommand is a row of a table (cmd_*.c); it parses its options, calls methods, prints a table or JSON.
 * Exit codes: 0 done; 1 the daemon refused or cannot be reached; 2 wrong usage.
 */
#ifndef BELFRY_CTL_H
#define BELFRY_CTL_H

#include <jansson.h>
#include <stdio.h>

#include "belfry/util.h"

#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2

#define CTL_MAX_PATH 107 /* what an address takes */

struct ctl {
	const char *socket; /* at most CTL_MAX_PATH bytes */
	double timeout_s;
	bool json;
	bool quiet; /* no message when the daemon cannot be reached */
	int fd;	    /* -1: not connected yet */
	char *rx;   /* bytes read behind the last reply */
	size_t rx_len;
	unsigned next_id;
};

/* An option of a subcommand: --name VALUE, or a flag when @arg is NULL. */
struct ctl_opt {
	const char *name, *arg, *help;
	const char *value; /* set by the parser; "" for a flag */
	char letter;	   /* also -l; 0: no */
};
#define CTL_MAX_OPTS 12

struct ctl_cmd {
	const char *words; /* "bdev create aio" */
	const char *args;  /* "NAME FILE" */
	const char *help;
	int min_args, max_args;
	int (*run)(struct ctl *c, char **args, int nargs, struct ctl_opt *opts);
	struct ctl_opt opts[CTL_MAX_OPTS];
};

/* Tables, each ending in a row without words. */
extern struct ctl_cmd cmds_bdev[], cmds_nvmf[], cmds_export[], cmds_daemon[],
	cmds_stat[], cmds_histogram[];

/* The value of option @name; NULL: not given. */
const char *ctl_opt(const struct ctl_opt *opts, const char *name);

/* ---- client.c ---- */
/*
 * Call @method with @params (taken; may be NULL). Gives the result (the caller's), or NULL after a message on
 * stderr. @error (may be NULL: print) gets the error object instead of a message.
 */
json_t *ctl_call(struct ctl *c, const char *method, json_t *params,
		 json_t **error);
/* As ctl_call, drops the result: CTL_OK or CTL_FAILED. */
int ctl_do(struct ctl *c, const char *method, json_t *params);
/* The same, and @said is printed to the user unless --json (then the result is). */
int ctl_do_say(struct ctl *c, const char *method, json_t *params,
	       const char *said_fmt, ...) printf_like(4, 5);
void ctl_close(struct ctl *c);

/* ---- cmd_nvmf.c ---- */
/* Params of nvmf_subsystem_add_listener, or of remove, on directory @dir, with what is given of LISTENER_OPTS. */
json_t *ctl_listener_params(const char *nqn, const char *dir,
			    const struct ctl_opt *opts);
#define LISTENER_OPTS                                                   \
	{ "mode", "OCTAL", "of the socket [0600]", NULL, 0 },           \
		{ "owner", "USER", "of the socket", NULL, 0 },          \
		{ "group", "GROUP", "of the socket", NULL, 0 },         \
	{                                                               \
		"trap-doorbells", NULL,                                 \
			"do not let clients map the doorbells", NULL, 0 \
	}

/* ---- table.c ---- */
struct table;
struct table *
table_new(const char *headers); /* "NAME,SIZE>,BLOCK>": '>' right-aligns */
void table_row(struct table *t, const char *first, ...)
	__attribute__((sentinel)); /* one string a column, then NULL */
void table_print(struct table *t, FILE *out); /* and frees it */
/* "1.5 GiB" into one of a few static buffers. */
const char *ctl_size(uint64_t bytes);
const char *ctl_fmt(const char *fmt, ...) printf_like(1, 2);
void ctl_print_json(const json_t *v);

/* "64M", "1GiB", "512", "0x1000": bytes. False after a message that names @what. */
bool ctl_parse_size(const char *s, const char *what, uint64_t *out);
bool ctl_parse_u32(const char *s, const char *what, uint32_t *out);
/* Whole, for the daemon's working directory is not ours; freed by the caller. The last word need not be there any more. */
char *ctl_path(const char *path);
/* Seconds, from 0.1 to an hour; NULL leaves *out. */
bool ctl_parse_interval(const char *s, double *out);
/* Until a signal. */
void ctl_sleep(double seconds);

#endif
