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

static struct ctl_cmd *const tables[] = { cmds_export,	  cmds_bdev,
					  cmds_nvmf,	  cmds_stat,
					  cmds_histogram, cmds_daemon };

static void
print_command(FILE *out, const struct ctl_cmd *c)
{
	int n = fprintf(out, "  %s %s", c->words, c->args);

	fprintf(out, "%*s %s\n", n < 38 ? 38 - n : 0, "", c->help);
}

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
		"  -h, --help           this text; 'belfryctl help COMMAND' for one command\n"
		"      --version        version\n\nCommands:\n");
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (struct ctl_cmd *c = tables[t]; c->words; c++)
			print_command(out, c);
	fprintf(out,
		"\nExit status: 0 done, 1 refused or daemon not reached, 2 wrong usage.\n");
}

static void
usage_of(FILE *out, const struct ctl_cmd *cmd)
{
	fprintf(out, "Usage: belfryctl %s%s%s%s\n%s.\n", cmd->words,
		*cmd->args ? " " : "", cmd->args,
		cmd->opts[0].name ? " [OPTIONS]" : "", cmd->help);
	for (const struct ctl_opt *o = cmd->opts; o->name; o++) {
		int n = fprintf(out, o->letter ? "  -%c, " : "  ", o->letter);

		n += fprintf(out, "--%s%s%s", o->name, o->arg ? " " : "",
			     o->arg ? o->arg : "");
		fprintf(out, "%*s %s\n", n < 28 ? 28 - n : 0, "", o->help);
	}
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

/* Is argv[*i] the option @o, as --name, --name=VALUE, -l or -lVALUE? Then its value is stored and *i at its last word. */
static bool
is_option(struct ctl_opt *o, int argc, char **argv, int *i)
{
	const char *word = argv[*i], *rest;
	size_t len = strlen(o->name);
	bool is_long = !strncmp(word, "--", 2) &&
		       !strncmp(word + 2, o->name, len) &&
		       (!word[2 + len] || word[2 + len] == '=');

	if (!is_long && (!o->letter || word[1] != o->letter))
		return false;
	rest = is_long ? &word[2 + len] : &word[2];
	o->value = NULL;
	if (!o->arg)
		o->value = *rest ? NULL : "";
	else if (*rest)
		o->value = rest + is_long;
	else if (*i + 1 < argc)
		o->value = argv[++*i];
	return true;
}

/* What belfryctl itself takes, before the command or after it. */
static struct ctl_opt globals[] = {
	{ "socket", "the path of a socket", NULL, NULL, 's' },
	{ "timeout", "seconds", NULL, NULL, 0 },
	{ "json", NULL, NULL, NULL, 0 },
	{ 0 },
};

/* An option of @opts at argv[*i]: its value is stored. *known: it is one of them. False: told on stderr. */
static bool
take_option(struct ctl_opt *opts, int argc, char **argv, int *i, bool *known)
{
	const char *word = argv[*i];

	*known = true;
	for (struct ctl_opt *o = opts; o->name; o++) {
		if (!is_option(o, argc, argv, i))
			continue;
		if (o->value && (*o->value || !o->arg))
			return true;
		if (o->arg)
			return util_complain("%.*s needs %s",
					     (int)strcspn(word, "="), word,
					     o->arg);
		return util_complain("--%s takes no value", o->name);
	}
	*known = false;
	return true;
}

static bool
take_globals(struct ctl *c)
{
	const char *timeout = ctl_opt(globals, "timeout"),
		   *path = ctl_opt(globals, "socket");
	char *end;

	c->json = ctl_opt(globals, "json") != NULL;
	if (path)
		c->socket = path;
	if (strlen(c->socket) > CTL_MAX_PATH)
		return util_complain("socket path '%s' is longer than %d bytes",
				     c->socket, CTL_MAX_PATH);
	if (!timeout)
		return true;
	c->timeout_s = strtod(timeout, &end);
	if (!*end && c->timeout_s >= 0.001 && c->timeout_s <= 86400)
		return true;
	return util_complain(
		"--timeout '%s' is not a number of seconds from 0.001 to 86400",
		timeout);
}

static bool
begins_with_word(const struct ctl_cmd *c, const char *word)
{
	return strcspn(c->words, " ") == strlen(word) &&
	       !strncmp(c->words, word, strlen(word));
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
			if (begins_with_word(c, argv[0])) {
				fprintf(stderr, "%s '%s'", sep, c->words);
				sep = ",";
			}
	fputs("; see belfryctl --help\n", stderr);
	return CTL_USAGE;
}

/* "help", "help bdev", "help bdev create aio"; @argv without the first word. */
static int
help(int argc, char **argv)
{
	struct ctl_cmd *cmd;
	bool any = false;
	int used;

	if (!argc) {
		usage(stdout);
		return CTL_OK;
	}
	cmd = find(argc, argv, &used);
	if (cmd) {
		usage_of(stdout, cmd);
		return CTL_OK;
	}
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (struct ctl_cmd *c = tables[t]; c->words; c++)
			if (begins_with_word(c, argv[0])) {
				print_command(stdout, c);
				any = true;
			}
	return any ? CTL_OK : no_command(argc, argv);
}

static int
bad_count(const struct ctl_cmd *cmd, char **args, int nargs)
{
	if (nargs > cmd->max_args)
		util_complain("'%s': unexpected argument '%s'", cmd->words,
			      args[cmd->max_args]);
	else
		util_complain("'%s' needs %s", cmd->words, cmd->args);
	usage_of(stderr, cmd);
	return CTL_USAGE;
}

/* What goes into JSON, which is UTF-8. */
static bool
words_ok(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		json_t *s = json_string(argv[i]);

		if (!s)
			return util_complain("argument %d is no UTF-8", i);
		json_decref(s);
	}
	return true;
}

/* Options in any place among the arguments; "--" ends them. */
static int
run(struct ctl *c, int argc, char **argv)
{
	char *args[MAX_ARGS + 1] = { NULL };
	struct ctl_cmd *cmd;
	int used, nargs = 0;
	bool only_args = false, known;

	cmd = find(argc, argv, &used);
	for (int i = used; i < argc; i++) {
		const char *w = argv[i];

		if (only_args || w[0] != '-' || !w[1]) {
			if (nargs < MAX_ARGS)
				args[nargs++] = argv[i];
			continue;
		}
		if (!strcmp(w, "--help") || !strcmp(w, "-h"))
			return help(i, argv);
		if (!strcmp(w, "--")) {
			only_args = true;
			continue;
		}
		if (!take_option(globals, argc, argv, &i, &known) ||
		    (!known && cmd &&
		     !take_option(cmd->opts, argc, argv, &i, &known)))
			return CTL_USAGE;
		if (!known && cmd) {
			util_complain(
				"'%s' has no option '%s'; '--' goes before an argument that begins with '-'",
				cmd->words, w);
			return CTL_USAGE;
		}
	}
	if (!cmd)
		return no_command(argc, argv);
	if (nargs < cmd->min_args || nargs > cmd->max_args)
		return bad_count(cmd, args, nargs);
	return take_globals(c) ? cmd->run(c, args, nargs, cmd->opts)
			       : CTL_USAGE;
}

/* Options in front of the command. Gives where the command is, or -1 - exit code. */
static int
global_options(int argc, char **argv)
{
	bool known;
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
			usage(stdout);
			return -1 - CTL_OK;
		}
		if (!strcmp(argv[i], "--version")) {
			printf("belfryctl %s\n", BELFRY_VERSION);
			return -1 - CTL_OK;
		}
		if (!take_option(globals, argc, argv, &i, &known))
			return -1 - CTL_USAGE;
		if (!known) {
			util_complain(
				"unknown option '%s'; see belfryctl --help",
				argv[i]);
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
	int first, rc;

	if (!words_ok(argc, argv))
		return CTL_USAGE;
	first = global_options(argc, argv);
	if (first < 0)
		return -1 - first;
	if (!strcmp(argv[first], "help"))
		rc = help(argc - first - 1, argv + first + 1);
	else
		rc = run(&c, argc - first, argv + first);
	ctl_close(&c);
	if (fflush(stdout) || ferror(stdout)) {
		perror("belfryctl: stdout");
		return CTL_FAILED;
	}
	return rc;
}
