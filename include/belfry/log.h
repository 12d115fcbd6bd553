/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log: one line a message on stderr (and to syslog when asked), with time and level.
 *
 * Called by every module; never per I/O. What a guest can provoke goes through
 * log_guest(), which is rate-limited per call site.
 * Thread: any; a line is written with one write(2).
 */
#ifndef BELFRY_LOG_H
#define BELFRY_LOG_H

#include "belfry/util.h"

/* SPDK's names and order: rpc log_set_level speaks these. */
enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* Messages above the level are dropped. Default NOTICE. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/*
 * Parts of the program whose DEBUG messages can be asked for: such a message is written when its part's flag is set, and
 * the level is DEBUG. Other messages have no flag. Default: none.
 */
#define LOG_FLAGS(X) X(bdev) X(ioas) X(nvme) X(rpc) X(target) X(vfio_user)
#define LOG_FLAG_ENUM(name) LOG_FLAG_##name,
enum log_flag { LOG_FLAGS(LOG_FLAG_ENUM) LOG_FLAG_COUNT };
#define LOG_FLAG_TEXT(name) ", " #name
#define LOG_FLAG_NAMES "all" LOG_FLAGS(LOG_FLAG_TEXT)

/* @name of a part, or "all". -EINVAL: neither. */
int log_set_flag(const char *name, bool on);
bool log_get_flag(enum log_flag flag);
const char *log_flag_name(enum log_flag flag);
/* Is a DEBUG message of that part written now? */
bool log_debugs(enum log_flag flag);

/* Send the lines to syslog too (daemon, the program's name). Default off. */
void log_set_syslog(bool on);

/* "ERROR" ... "DEBUG", case-insensitive. -EINVAL: not a level. */
int log_level_parse(const char *name, enum log_level *out);
const char *log_level_name(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_at(level, ...)                             \
	do {                                           \
		if ((level) <= log_get_level())        \
			log_write(level, __VA_ARGS__); \
	} while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
/* log_debug(nvme, "...") */
#define log_debug(flag, ...)                               \
	do {                                               \
		if (log_debugs(LOG_FLAG_##flag))           \
			log_write(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/* At most 10 lines in 5 s a call site; the next one that passes names the number dropped. */
struct log_ratelimit {
	uint64_t window_ns;
	uint32_t passed, dropped;
};
/* May this message pass? Stores in @dropped how many did not before it. */
bool log_ratelimit_ok(struct log_ratelimit *rl, uint32_t *dropped);

#define log_guest(level, fmt, ...) \
	log_limited((level) <= log_get_level(), level, fmt, ##__VA_ARGS__)
#define log_guest_debug(flag, fmt, ...) \
	log_limited(log_debugs(LOG_FLAG_##flag), LOG_DEBUG, fmt, ##__VA_ARGS__)
#define log_limited(wanted, level, fmt, ...)                                  \
	do {                                                                  \
		static struct log_ratelimit rl_;                              \
		uint32_t dropped_;                                            \
		if ((wanted) && log_ratelimit_ok(&rl_, &dropped_)) {          \
			if (dropped_)                                         \
				log_write(level, fmt " (%u like it dropped)", \
					  ##__VA_ARGS__, dropped_);           \
			else                                                  \
				log_write(level, fmt, ##__VA_ARGS__);         \
		}                                                             \
	} while (0)

#endif
