/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines, to stderr and syslog. Not for the data path, and not a place to
 * decide what is worth a line.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "belfry/log.h"
#include "internal.h"

#define LOG_LINE 1024
#define RATE_WINDOW_NS 5000000000ull
#define RATE_BURST 10

static const char *const level_names[] = { "ERROR", "WARNING", "NOTICE", "INFO",
					   "DEBUG" };

/* Read by any thread for every message, written by an operator's RPC. */
static enum log_level max_level = LOG_NOTICE;
static bool use_syslog;
static uint32_t flags; /* a bit for each enum log_flag */

void
log_set_level(enum log_level level)
{
	__atomic_store_n(&max_level, level, __ATOMIC_RELAXED);
}

enum log_level
log_get_level(void)
{
	return __atomic_load_n(&max_level, __ATOMIC_RELAXED);
}

const char *
log_flag_name(enum log_flag flag)
{
#define LOG_FLAG_NAME(name) #name,
	static const char *const names[] = { LOG_FLAGS(LOG_FLAG_NAME) };

	return (unsigned)flag < ARRAY_SIZE(names) ? names[flag] : "?";
}

int
log_set_flag(const char *name, bool on)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < LOG_FLAG_COUNT; i++)
		if (!strcmp(name, "all") || !strcmp(name, log_flag_name(i)))
			mask |= 1u << i;
	if (on)
		__atomic_or_fetch(&flags, mask, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&flags, ~mask, __ATOMIC_RELAXED);
	return mask ? 0 : -EINVAL;
}

bool
log_get_flag(enum log_flag flag)
{
	return __atomic_load_n(&flags, __ATOMIC_RELAXED) >> flag & 1;
}

bool
log_debugs(enum log_flag flag)
{
	return log_get_level() >= LOG_DEBUG && log_get_flag(flag);
}

void
log_set_syslog(bool on)
{
	if (on)
		syslog_open();
	__atomic_store_n(&use_syslog, on, __ATOMIC_RELAXED);
	if (!on)
		syslog_close();
}

int
log_level_parse(const char *name, enum log_level *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (!strcasecmp(name, level_names[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *
log_level_name(enum log_level level)
{
	return (unsigned)level < ARRAY_SIZE(level_names) ? level_names[level]
							 : "?";
}

static size_t
put_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, size, "%FT%T", &tm);
	n += (size_t)snprintf(line + n, size - n,
			      ".%06ldZ %s: ", ts.tv_nsec / 1000,
			      log_level_name(level));
	return n;
}

/*
 * A message may hold a client's words: it gets one line and no way to steer the
 * reader's terminal. Bytes from 0x80 on stay, they may be UTF-8.
 */
static void
disarm(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

void
log_write(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE];
	int saved = errno;
	size_t start = put_prefix(line, sizeof(line), level);
	size_t room = sizeof(line) - start - 1; /* -1: the newline */
	size_t len = start;
	va_list ap;
	int n;

	va_start(ap, fmt);
	errno = saved; /* for %m */
	n = vsnprintf(line + start, room, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n >= room) {
		len += room - 1;
		memcpy(line + len - 3, "...", 3);
	} else if (n > 0) {
		len += (size_t)n;
	}
	line[len] = '\0';
	disarm(line + start);
	if (__atomic_load_n(&use_syslog, __ATOMIC_RELAXED))
		syslog_write((unsigned)level, line + start);
	line[len++] = '\n';
	/* A line that a full or closed stderr does not take is lost. */
	if (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		(void)!write(STDERR_FILENO, line, len);
	errno = saved;
}

/*
 * Threads may share a call site. The numbers are exact for one thread; a race
 * at the edge of a window may pass or count a few lines too many.
 */
bool
log_ratelimit_ok(struct log_ratelimit *rl, uint32_t *dropped)
{
	uint64_t start = __atomic_load_n(&rl->window_ns, __ATOMIC_RELAXED);
	uint64_t now = util_now_ns();

	if ((!start || now - start >= RATE_WINDOW_NS) &&
	    __atomic_compare_exchange_n(&rl->window_ns, &start, now, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		__atomic_store_n(&rl->passed, 0, __ATOMIC_RELAXED);
	if (__atomic_load_n(&rl->passed, __ATOMIC_RELAXED) >= RATE_BURST) {
		__atomic_add_fetch(&rl->dropped, 1, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_add_fetch(&rl->passed, 1, __ATOMIC_RELAXED);
	*dropped = __atomic_exchange_n(&rl->dropped, 0, __ATOMIC_RELAXED);
	return true;
}
