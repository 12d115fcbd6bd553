/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this unit test share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "belfry/reactor.h"

/* @n reactors on no particular core; they start with reactors_run(). */
void unit_init(unsigned n, enum reactor_idle idle, uint32_t spin_us);

int event_tests(void);
int idle_tests(void);
int mailbox_tests(void);
int poller_tests(void);
int reactor_tests(void);
int timer_tests(void);
int work_tests(void);

#endif
