/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * util, inside. <syslog.h> and enum log_level use the same names for different
 * numbers, so that only one file may see each.
 */
#ifndef UTIL_INTERNAL_H
#define UTIL_INTERNAL_H

/* @level counts from 0, error, to 4, debug. */
void syslog_write(unsigned level, const char *text);
void syslog_open(void);
void syslog_close(void);

#endif
