/* SPDX-License-Identifier: BSD-3-Clause */
/* Log lines as a reader of stderr sees them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "belfry/log.h"
#include "unit.h"

static int real_stderr, out_end;

/* From here on stderr is a pipe, until caught() gives what was written. */
static void
catch_stderr(void)
{
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	real_stderr = dup(STDERR_FILENO);
	dup2(p[1], STDERR_FILENO);
	close(p[1]);
	out_end = p[0];
}

static const char *
caught(void)
{
	static char buf[16384];
	ssize_t n = read(out_end, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(out_end);
	return buf;
}

static unsigned
lines(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static const struct line_case {
	const char *text, *want; /* what follows the level */
} line_cases[] = {
	{ "plain", "plain" },
	{ "", "" },
	{ "two\nlines", "two?lines" },
	{ "bell \a escape \x1b[2J del \x7f", "bell ? escape ?[2J del ?" },
	{ "percent %s %n", "percent %s %n" },
	{ "Gr\xc3\xbc\xc3\x9f", "Gr\xc3\xbc\xc3\x9f" },
};

static void
writes_one_line(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(line_cases); i++) {
		const char *s, *text;

		catch_stderr();
		log_error("%s", line_cases[i].text);
		s = caught();
		text = strstr(s, "Z ERROR: ");
		assert_non_null(text);
		assert_int_equal(text - s, 26); /* 2026-01-31T12:00:00.123456 */
		text += strlen("Z ERROR: ");
		assert_int_equal(lines(s), 1);
		assert_int_equal(strlen(text), strlen(line_cases[i].want) + 1);
		assert_memory_equal(text, line_cases[i].want, strlen(text) - 1);
	}
}

static void
cuts_long_messages(void **state)
{
	char big[5000];

	/* Around the limit, where an off by one would sit. */
	for (size_t n = 900; n < 1100; n++) {
		const char *s;
		size_t len;

		memset(big, 'x', n);
		big[n] = '\0';
		catch_stderr();
		log_error("%s", big);
		s = caught();
		len = strlen(s);
		assert_in_range(len, 900, 1024);
		assert_int_equal(s[len - 1], '\n');
		if (len < 36 + n)
			assert_memory_equal(s + len - 4, "...\n", 4);
		else
			assert_memory_equal(s + len - 4, "xxx\n", 4);
	}
}

static void
keeps_errno(void **state)
{
	const char *s;

	catch_stderr();
	errno = ENOENT;
	log_error("open: %m");
	assert_int_equal(errno, ENOENT);
	s = caught();
	assert_non_null(strstr(s, "open: No such file"));
}

static void
survives_a_closed_stderr(void **state)
{
	int save = dup(STDERR_FILENO);

	close(STDERR_FILENO);
	errno = 0;
	log_error("nobody reads this");
	assert_int_equal(errno, 0);
	dup2(save, STDERR_FILENO);
	close(save);
}

static void
obeys_the_level(void **state)
{
	unsigned evaluated = 0;
	const char *s;

	catch_stderr();
	log_set_level(LOG_WARNING);
	assert_int_equal(log_get_level(), LOG_WARNING);
	log_error("e");
	log_warn("w");
	log_notice("n %u", evaluated++);
	log_info("i %u", evaluated++);
	assert_int_equal(log_set_flag("nvme", true), 0);
	log_debug(nvme, "d %u", evaluated++);
	log_set_level(LOG_DEBUG);
	log_debug(nvme, "deep");
	log_debug(bdev, "other %u", evaluated++);
	assert_int_equal(log_set_flag("nvme", false), 0);
	log_debug(nvme, "off %u", evaluated++);
	log_set_level(LOG_NOTICE);
	s = caught();
	assert_int_equal(lines(s), 3);
	assert_non_null(strstr(s, "DEBUG: deep"));
	assert_int_equal(evaluated, 0);
}

static void
sets_flags(void **state)
{
	static const char *const bad[] = { "", "ALL", "nvmf", "bdev,ioas" };
	char names[256] = "all";
	const char *s;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(log_set_flag(bad[i], true), -EINVAL);
	for (unsigned i = 0; i < LOG_FLAG_COUNT; i++) {
		assert_false(log_get_flag(i));
		assert_int_equal(log_set_flag(log_flag_name(i), true), 0);
		for (unsigned j = 0; j < LOG_FLAG_COUNT; j++)
			assert_int_equal(log_get_flag(j), j == i);
		assert_int_equal(log_set_flag(log_flag_name(i), false), 0);
		strcat(names, ", ");
		strcat(names, log_flag_name(i));
	}
	assert_string_equal(names, LOG_FLAG_NAMES);
	assert_int_equal(log_set_flag("all", true), 0);
	for (unsigned i = 0; i < LOG_FLAG_COUNT; i++)
		assert_true(log_get_flag(i));
	catch_stderr();
	log_set_level(LOG_DEBUG);
	for (unsigned i = 0; i < 100; i++)
		log_guest_debug(ioas, "map %u", i);
	log_set_level(LOG_INFO);
	log_guest_debug(ioas, "too deep");
	log_set_level(LOG_NOTICE);
	s = caught();
	assert_int_equal(lines(s), 10);
	assert_non_null(strstr(s, "DEBUG: map 9"));
	assert_int_equal(log_set_flag("all", false), 0);
	for (unsigned i = 0; i < LOG_FLAG_COUNT; i++)
		assert_false(log_get_flag(i));
}

static void
names_levels(void **state)
{
	static const char *const bad[] = { "", "ERR", "ERRORS", "0", " ERROR" };
	enum log_level l = LOG_DEBUG;

	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
		assert_int_equal(log_level_parse(log_level_name(i), &l), 0);
		assert_int_equal(l, i);
	}
	assert_int_equal(log_level_parse("wArNiNg", &l), 0);
	assert_int_equal(l, LOG_WARNING);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(log_level_parse(bad[i], &l), -EINVAL);
		assert_int_equal(l, LOG_WARNING);
	}
	assert_string_equal(log_level_name((enum log_level)99), "?");
	assert_string_equal(log_level_name((enum log_level) - 1), "?");
}

static void
limits_what_a_guest_provokes(void **state)
{
	const char *s;

	catch_stderr();
	for (int i = 0; i < 1000; i++)
		log_guest(LOG_ERROR, "bad doorbell %d", i);
	log_guest(LOG_ERROR, "another place");
	s = caught();
	assert_int_equal(lines(s), 11);
	assert_non_null(strstr(s, "bad doorbell 9\n"));
	assert_null(strstr(s, "bad doorbell 10\n"));
}

static void
names_what_was_dropped(void **state)
{
	struct log_ratelimit rl = { 0 };
	uint32_t dropped = 99;

	for (int i = 0; i < 10; i++)
		assert_true(log_ratelimit_ok(&rl, &dropped));
	assert_int_equal(dropped, 0);
	for (int i = 0; i < 7; i++)
		assert_false(log_ratelimit_ok(&rl, &dropped));
	rl.window_ns -= 4900000000ull; /* not yet over */
	assert_false(log_ratelimit_ok(&rl, &dropped));
	rl.window_ns -= 200000000ull;
	assert_true(log_ratelimit_ok(&rl, &dropped));
	assert_int_equal(dropped, 8);
	assert_true(log_ratelimit_ok(&rl, &dropped));
	assert_int_equal(dropped, 0);
}

int
log_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_one_line),
		cmocka_unit_test(cuts_long_messages),
		cmocka_unit_test(keeps_errno),
		cmocka_unit_test(survives_a_closed_stderr),
		cmocka_unit_test(obeys_the_level),
		cmocka_unit_test(sets_flags),
		cmocka_unit_test(names_levels),
		cmocka_unit_test(limits_what_a_guest_provokes),
		cmocka_unit_test(names_what_was_dropped),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
