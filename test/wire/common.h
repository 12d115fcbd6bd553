/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A real belfryd in a directory of its own, its RPC, and raw vfio-user messages.
 * Everything waits ten seconds at most.
 */
#ifndef TEST_WIRE_COMMON_H
#define TEST_WIRE_COMMON_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "belfry/spec/vfio_user.h"

#define WIRE_NQN "nqn.2024-01.io.example:wire"

struct daemon {
	char dir[40];
	char rpc[64];
	int pid;
};
extern struct daemon d;
extern bool daemon_hides_bar0; /* no mapped doorbells; shadow doorbells instead */
extern bool
	daemon_spreads; /* a reactor on each of the first two cores, if there are two */

/*
 * Group setup and teardown: a daemon with a malloc bdev behind the listeners vm0 and vm1.
 * The latter wants it to end by SIGTERM with 0.
 */
int daemon_setup(void **state);
int daemon_teardown(void **state);
bool daemon_is_sanitized(void); /* then its times and sizes are others */
unsigned daemon_fds(void);	/* that it has open */
/* Wait until no more than @n are open, ten seconds at most. */
void daemon_fds_settle(unsigned n);
/* Takes @params (may be NULL); gives the result; an error fails the test. */
json_t *rpc(const char *method, json_t *params);
/* The whole answer; its error's message, NULL: none. */
json_t *rpc_answer(const char *method, json_t *params);
const char *rpc_error(const json_t *answer);

#define QEMU_JSON                                                       \
	"{\"capabilities\":{\"max_msg_fds\":16,"                        \
	"\"max_data_xfer_size\":1048576,\"pgsizes\":4096,"              \
	"\"max_dma_maps\":65535,\"write_multiple\":true,\"migration\":" \
	"{\"pgsize\":4096,\"max_bitmap_size\":268435456}}}"
#define IOMMUFD_JSON "{\"capabilities\":{\"iommufd\":{\"supported\":true}}}"

struct reply {
	struct vu_hdr hdr;
	size_t len;
	uint8_t data[8192];
	int fd; /* -1: none came */
};
int vu_connect(const char *vm);
void vu_send_raw(int c, const void *buf, size_t len, const int *fds,
		 unsigned nfds);
void vu_send(int c, unsigned cmd, uint32_t flags, const void *payload,
	     size_t len, const int *fds, unsigned nfds);
bool vu_recv(int c, struct reply *r); /* false: it was closed */
/* Gives error_no. @r may be NULL: its descriptor is closed then. */
int vu_call(int c, unsigned cmd, const void *payload, size_t len,
	    const int *fds, unsigned nfds, struct reply *r);
void vu_hello(int c, const char *json);	       /* send VERSION 0.0 */
int vu_open(const char *vm, const char *json); /* and have it accepted */
bool vu_closed_by_peer(int c);
/* REGION_READ and _WRITE of up to 8 bytes. */
uint64_t region_get(int c, unsigned region, uint64_t off, unsigned len);
void region_put(int c, unsigned region, uint64_t off, uint64_t v, unsigned len);
uint64_t now_ms(void);

#endif
