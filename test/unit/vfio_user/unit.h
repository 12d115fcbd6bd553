/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A listener with a fake device, and clients that speak to it over real sockets.
 * All on one thread: whoever waits steps the reactor.
 */
#ifndef TEST_VFIO_USER_UNIT_H
#define TEST_VFIO_USER_UNIT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define BAR_LEN 16384u
#define MSIX_VECTORS 32u
#define GUEST_LEN (1u << 20) /* of a file for mappings */

/* The device; a test sets what it is to do. */
struct fake {
	bool open_inside; /* calls vu_opened() before it gives -EINPROGRESS */
	bool later_open, later_io, later_reset, later_close;
	int open_err;	/* now or later */
	int io_err;	/* of region_read and region_write */
	bool throw_out; /* a write calls vu_disconnect() */
	unsigned opens, closes, reads, writes, resets, irq_changes;
	struct vu_session *s; /* of the device that is open */
	struct ioas_ctx *ioas;
	struct irq_set *irqs;
	bool opened, busy; /* an op waits for fake_finish() */
	void *read_buf;
	uint32_t read_len;
	int barfd;
	uint8_t bar[BAR_LEN];
	uint8_t config[4096];
};
extern struct fake fake;
extern struct vu_listener *listener;
extern char listen_path[108];

int unit_setup(void **state);	 /* listener and fake, fresh */
int unit_teardown(void **state); /* checks that no fd leaked */
void unit_unlisten(void);
void fake_finish(int err); /* vu_complete of what waits */

void step(void);
/* Step until @cond, two seconds at most. */
#define until(cond)                                          \
	do {                                                 \
		bool ok_ = (cond);                           \
		for (int i_ = 0; i_ < 20000 && !ok_; i_++) { \
			step();                              \
			ok_ = (cond);                        \
		}                                            \
		if (!ok_)                                    \
			fail_msg("%s: not in time", #cond);  \
	} while (0)
unsigned count_fds(void);

/* ---- a client ---- */
struct reply {
	struct vu_hdr hdr;
	size_t len; /* of the payload */
	uint8_t data[8192];
	int fds[8];
	unsigned nfds;
};
#define LEGACY_JSON                                                     \
	"{\"capabilities\":{\"max_msg_fds\":16,"                        \
	"\"max_data_xfer_size\":1048576,\"pgsizes\":4096,"              \
	"\"max_dma_maps\":65535,\"write_multiple\":true,\"migration\":" \
	"{\"pgsize\":4096,\"max_bitmap_size\":268435456}}}"
#define IOMMUFD_JSON "{\"capabilities\":{\"iommufd\":{\"supported\":true}}}"

int client_open(void);		    /* a connected socket */
int client_start(const char *json); /* VERSION has been answered */
size_t version_msg(void *buf, const char *json);
/* Header and payload in one sendmsg, with @nfds of @fds. */
void client_send(int c, unsigned cmd, uint32_t flags, const void *payload,
		 size_t len, const int *fds, unsigned nfds);
void client_send_raw(int c, const void *buf, size_t len, const int *fds,
		     unsigned nfds);
/* The next message of the server; false: it has closed. */
bool client_recv(int c, struct reply *r);
/* Send and receive; gives error_no. */
int client_call(int c, unsigned cmd, const void *payload, size_t len,
		const int *fds, unsigned nfds, struct reply *r);
bool client_gone(int c);   /* the server closes within two seconds */
bool client_silent(int c); /* nothing comes though the server had time */
int guest_file(void);	   /* a memfd of GUEST_LEN */

int version_tests(void);
int frame_tests(void);
int command_tests(void);
int iommufd_tests(void);
int irqs_tests(void);
int session_tests(void);
int vanish_tests(void);
int listen_tests(void);

#endif
