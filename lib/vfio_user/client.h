/* SPDX-License-Identifier: BSD-3-Clause */
/* The client's connection, as client.c and client_io.c share it. */
#ifndef BELFRY_VFIO_USER_CLIENT_INTERNAL_H
#define BELFRY_VFIO_USER_CLIENT_INTERNAL_H

#include <pthread.h>

#include "belfry/spec/vfio_user.h"
#include "belfry/vfio_user_client.h"

#define MAX_PENDING 64

struct pending {
	uint16_t id, command;
	bool dropped; /* nobody waits for its reply any more */
};

struct vuc {
	int fd;
	int broken; /* -errno: why nothing works any more */
	unsigned timeout_ms;
	uint16_t next_id;
	bool iommufd;
	struct vu_caps caps;
	pthread_mutex_t lock;
	struct pending pending[MAX_PENDING]; /* the oldest first */
	unsigned npending;
	/* The message that is being received. */
	struct vu_hdr hdr;
	size_t got; /* bytes of header and body */
	uint8_t *body;
	size_t body_max;
	int fds[VUC_MAX_FDS];
	unsigned nfds;
};

/* client_io.c: vuc_send() and vuc_wait(), with the lock held. */
int vuc_send_locked(struct vuc *c, const struct vuc_msg *m, uint64_t deadline,
		    uint16_t *id);
int vuc_wait_locked(struct vuc *c, uint16_t id, struct vuc_msg *m,
		    uint64_t deadline);
void vuc_close_fds(struct vuc *c); /* those that came and nobody took */

#endif
