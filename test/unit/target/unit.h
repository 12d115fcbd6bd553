/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of target share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "internal.h"

/* A target without sockets: modules up, methods registered. */
int unit_setup(void **state);
int unit_teardown(void **state);
/*
 * Call a method and run the reactor until it answers. Gives the result (the
 * caller's), or NULL and the error in unit_code, unit_message.
 */
json_t *unit_call(const char *method, const char *params);
extern int unit_code;
extern char unit_message[1024];

int nqn_tests(void);
int decode_tests(void);
int rpc_tests(void);

#endif
