/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this unit test share. */
#ifndef UNIT_H
#define UNIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake/peer.h"
#include "internal.h"

/* A host and the peer it talks to. */
struct rig {
	struct peer *peer;
	struct belfry_host *h;
};

/* belfry_connect_fd's result; when it is not 0, the peer is stopped already. */
static inline int
rig_open(struct rig *r, const struct peer_opts *po, enum belfry_mode mode,
	 bool by_message)
{
	struct belfry_opts o = { .size = sizeof(o),
				 .mode = mode,
				 .timeout_ms = 20000,
				 .no_map_doorbells = by_message };
	int sv[2], err;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
			 0);
	r->h = NULL;
	r->peer = peer_start(po, sv[1]);
	assert_non_null(r->peer);
	err = belfry_connect_fd(sv[0], &o, &r->h);
	if (err)
		peer_stop(r->peer);
	return err;
}

static inline void
rig_close(struct rig *r)
{
	belfry_disconnect(r->h);
	peer_stop(r->peer);
}

int client_tests(void);
int host_tests(void);
int qpair_tests(void);
int sqe_tests(void);

#endif
