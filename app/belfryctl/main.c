/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl: global options, the table of subcommands, help. No method is called here.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

#define DEFAULT_SOCKET "/run/belfry.sock"
#define MAX_ARGS 16

static struct ctl_cmd *const tables[] = { cmds_export, cmds_bdev, cmds_nvmf,
					  cmds_stat, cmds_daemon };

static void
usage(FILE *out)
{
	fprintf(out,
		"Usage: belfryctl [-s SOCKET] [--json] [--timeout S] COMMAND [ARGUMENTS]\n"
		"Operate a running belfryd over its JSON-RPC socket.\n\n"
		"  -s, --socket SOCKET  belfryd's RPC socket [" DEFAULT_SOCKET
		", or $BELFRY_SOCKET]\n"
		"      --json           print JSON for machines instead of tables\n"
		"      --timeout S      seconds to wait for an answer [60]\n"
		"  -h, --help           this text; 'belfryctl COMMAND --help' for one command\n"
		"      --version        version\n\nCommands:\n");
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (struct ctl_cmd *c = tables[t]; c->words; c++) {
			int n = fprintf(out, "  %s %s", c->words, c->args);

			fprintf(out, "%*s %s\n", n < 38 ? 38 - n : 0, "",
				c->help);
		}
	fprintf(out,
		"\nExit status: 0 done, 1 refused or daemon not reached, 2 wrong usage.\n");
}

static void
usage_of(FILE *out, const struct ctl_cmd *cmd)
{
	fprintf(out, "Usage: belfryctl %s %s%s\n%s.\n", cmd->words, cmd->args,
		cmd->opts[0].name ? " [OPTIONS]" : "", cmd->help);
	for (const struct ctl_opt *o = cmd->opts; o->name; o++)
		fprintf(out, "  --%s%s%s%*s %s\n", o->name, o->arg ? " " : "",
			o->arg ? o->arg : "",
			(int)(24 - MIN(24, strlen(o->name) +
						   (o->arg ? strlen(o->arg) + 1
							   : 0))),
			"", o->help);
}

const char *
ctl_opt(const struct ctl_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (!strcmp(opts->name, name))
			return opts->value;
	return NULL;
}

/* How many of argv's words are @words; 0: not this command. */
static int
match(const char *words, int argc, char **argv)
{
	int n = 0;

	while (*words) {
		size_t len = strcspn(words, " ");

		if (n >= argc || strlen(argv[n]) != len ||
		    strncmp(argv[n], words, len))
			return 0;
		words += len + (words[len] == ' ');
		n++;
	}
	return n;
}

static struct ctl_cmd *
find(int argc, char **argv, int *used)
{
	struct ctl_cmd *best = NULL;

	*used = 0;
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (struct ctl_cmd *c = tables[t]; c->words; c++) {
			int n = match(c->words, argc, argv);

			if (n > *used) {
				*used = n;
				best = c;
			}
		}
	return best;
}

/* Options in any place among the arguments; "--" ends them. False: told on stderr. */
static bool
parse_option(struct ctl_cmd *cmd, int argc, char **argv, int *i)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);

	for (struct ctl_opt *o = cmd->opts; o->name; o++) {
		if (strlen(o->name) != len || strncmp(o->name, name, len))
			continue;
		if (!o->arg) {
			o->value = "";
			return !eq;
		}
		if (!eq && *i + 1 >= argc) {
			fprintf(stderr, "belfryctl: --%s needs %s\n", o->name,
				o->arg);
			return false;
		}
		o->value = eq ? eq + 1 : argv[++*i];
		return true;
	}
	fprintf(stderr, "belfryctl: '%s' has no option '%s'\n", cmd->words,
		argv[*i]);
	return false;
}

/* Names those that begin with the same word. */
static int
no_command(int argc, char **argv)
{
	const char *sep = ": there are";

	fprintf(stderr, "belfryctl: no command '%s%s%s'", argv[0],
		argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (struct ctl_cmd *c = tables[t]; c->words; c++)
			if (strcspn(c->words, " ") == strlen(argv[0]) &&
			    !strncmp(c->words, argv[0], strlen(argv[0]))) {
				fprintf(stderr, "%s '%s'", sep, c->words);
				sep = ",";
			}
	fputs("; see belfryctl --help\n", stderr);
	return CTL_USAGE;
}

static int
run(struct ctl *c, int argc, char **argv)
{
	char *args[MAX_ARGS + 1] = { NULL };
	struct ctl_cmd *cmd;
	int used, nargs = 0;
	bool only_args = false;

	cmd = find(argc, argv, &used);
	if (!cmd)
		return no_command(argc, argv);
	for (int i = used; i < argc; i++) {
		if (!only_args && !strcmp(argv[i], "--")) {
			only_args = true;
		} else if (!only_args && (!strcmp(argv[i], "--help") ||
					  !strcmp(argv[i], "-h"))) {
			usage_of(stdout, cmd);
			return CTL_OK;
		} else if (!only_args && !strcmp(argv[i], "--json")) {
			c->json = true;
		} else if (!only_args && !strncmp(argv[i], "--", 2)) {
			if (!parse_option(cmd, argc, argv, &i))
				return CTL_USAGE;
		} else if (nargs < MAX_ARGS) {
			args[nargs++] = argv[i];
		}
	}
	if (nargs < cmd->min_args || nargs > cmd->max_args) {
		usage_of(stderr, cmd);
		return CTL_USAGE;
	}
	return cmd->run(c, args, nargs, cmd->opts);
}

/* One that takes @value (NULL: there is none); false: told on stderr. */
static bool
valued_option(struct ctl *c, const char *name, const char *value)
{
	bool socket = !strcmp(name, "-s") || !strcmp(name, "--socket");
	char *end;

	if (!socket && strcmp(name, "--timeout")) {
		fprintf(stderr,
			"belfryctl: unknown option '%s'; see belfryctl --help\n",
			name);
		return false;
	}
	if (!value || !*value) {
		fprintf(stderr, "belfryctl: %s needs %s\n", name,
			socket ? "the path of a socket" : "seconds");
		return false;
	}
	if (socket) {
		c->socket = value;
		return true;
	}
	c->timeout_s = strtod(value, &end);
	if (!*end && c->timeout_s >= 0.001 && c->timeout_s <= 86400)
		return true;
	fprintf(stderr,
		"belfryctl: --timeout '%s' is not a number of seconds from 0.001 to 86400\n",
		value);
	return false;
}

/* Global options in front of the command. Gives how many words they take, or -1 - exit code. */
static int
global_options(struct ctl *c, int argc, char **argv)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
			usage(stdout);
			return -1 - CTL_OK;
		} else if (!strcmp(argv[i], "--version")) {
			printf("belfryctl %s\n", BELFRY_VERSION);
			return -1 - CTL_OK;
		} else if (!strcmp(argv[i], "--json")) {
			c->json = true;
		} else if (valued_option(c, argv[i], argv[i + 1])) {
			i++;
		} else {
			return -1 - CTL_USAGE;
		}
	}
	if (i == argc) {
		usage(stderr);
		return -1 - CTL_USAGE;
	}
	return i;
}

int
main(int argc, char **argv)
{
	const char *env = getenv("BELFRY_SOCKET");
	struct ctl c = { .socket = env && *env ? env : DEFAULT_SOCKET,
			 .timeout_s = 60,
			 .fd = -1 };
	int first = global_options(&c, argc, argv), rc;

	if (first < 0)
		return -1 - first;
	rc = run(&c, argc - first, argv + first);
	ctl_close(&c);
	if (fflush(stdout) || ferror(stdout)) {
		perror("belfryctl: stdout");
		return CTL_FAILED;
	}
	return rc;
}
