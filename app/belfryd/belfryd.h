/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryd, the inside. Not for others.
 */
#ifndef BELFRYD_H
#define BELFRYD_H

#include "belfry/target.h"

#define DEFAULT_SOCKET "/run/belfry.sock"

enum { OPT_IDLE = 256, OPT_SPIN, OPT_ARENA, OPT_WAIT, OPT_FLAG };

struct options {
	unsigned cores[REACTOR_MAX];
	unsigned ncores;
	enum reactor_idle idle;
	uint32_t spin_us;
	struct target_options target;
};

/* options.c. false: said on stderr what is wrong and what would be right. */
bool option_set(struct options *o, int opt, const char *value);
/* What was not given. */
bool options_default(struct options *o);

/* notify.c: tell systemd, when it listens (sd_notify(3)'s protocol). */
void notify(const char *state);

#endif
