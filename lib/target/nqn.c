/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is it a name that NVMe allows? NVMe 2.0 §4.5: nqn.yyyy-mm.reverse.domain[:anything], at most 223 bytes of UTF-8.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define NQN_MAX 223
#define UUID_PREFIX "nqn.2014-08.org.nvmexpress:uuid:"

static bool
date_ok(const char *s)
{
	unsigned i;

	for (i = 0; i < 7; i++)
		if (i == 4 ? s[i] != '-' : !isdigit((unsigned char)s[i]))
			return false;
	return memcmp(s + 5, "01", 2) >= 0 && memcmp(s + 5, "12", 2) <= 0;
}

/* Labels of letters, digits and '-', joined by '.', to the end or a ':' with something behind it. */
static bool
domain_ok(const char *s)
{
	const char *label = s;

	for (;; s++) {
		if (isalnum((unsigned char)*s) || (*s == '-' && s != label))
			continue;
		if (s == label || s[-1] == '-')
			return false;
		if (*s == ':')
			return s[1] != '\0';
		if (!*s)
			return true;
		if (*s != '.')
			return false;
		label = s + 1;
	}
}

static bool
control_free(const char *s)
{
	for (; *s; s++)
		if (iscntrl((unsigned char)*s))
			return false;
	return true;
}

int
nqn_check(const char *nqn, char *why, size_t len)
{
	uuid_t uuid;

	if (strlen(nqn) > NQN_MAX)
		snprintf(why, len, "longer than %d bytes", NQN_MAX);
	else if (!control_free(nqn))
		snprintf(why, len, "control characters in it");
	else if (!strncmp(nqn, UUID_PREFIX, strlen(UUID_PREFIX))) {
		if (!uuid_parse(nqn + strlen(UUID_PREFIX), uuid))
			return 0;
		snprintf(why, len, "no UUID behind " UUID_PREFIX);
	} else if (strncmp(nqn, "nqn.", 4) || strlen(nqn) < 13 ||
		   !date_ok(nqn + 4) || nqn[11] != '.' || !domain_ok(nqn + 12))
		snprintf(why, len,
			 "not of the form nqn.yyyy-mm.reverse.domain:name");
	else
		return 0;
	return -EINVAL;
}
