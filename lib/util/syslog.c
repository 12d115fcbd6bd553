/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way to syslog. Must not see belfry/log.h: see internal.h.
 */
#include <stddef.h>
#include <syslog.h>

#include "internal.h"

void
syslog_write(unsigned level, const char *text)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_NOTICE,
					LOG_INFO, LOG_DEBUG };

	syslog(priority[level], "%s", text);
}

void
syslog_open(void)
{
	openlog(NULL, LOG_PID, LOG_DAEMON);
}

void
syslog_close(void)
{
	closelog();
}
