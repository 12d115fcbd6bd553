/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UNIT_IRQ_H
#define UNIT_IRQ_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "belfry/irq.h"

int irq_tests(void);
int watch_tests(void);

#endif
