/* SPDX-License-Identifier: BSD-3-Clause */
/* What peer.c and peer_nvme.c share. */
#ifndef FAKE_PEER_IMPL_H
#define FAKE_PEER_IMPL_H

#include <pthread.h>

#include "belfry/spec/nvme.h"
#include "belfry/util.h"
#include "fake/peer.h"

#define PEER_MAPS 256
#define PEER_QUEUES 65 /* id 0: admin */
#define PEER_IRQS 64
#define PEER_DB 0x1000

struct peer_queue {
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	uint32_t depth, cq_depth, head, cq_tail;
	uint16_t phase;
	int iv;
	volatile uint32_t *tail, *cq_head; /* doorbells */
	volatile uint32_t *event, *cq_event;
};

struct peer {
	struct peer_opts opts;
	int fd;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint event;
	atomic_bool have_event;
	atomic_uint_fast64_t ios, db_messages;
	atomic_uint maps, irqs, irq_messages;
	bool iommufd, attached;
	struct {
		uint64_t iova, len;
		uint8_t *va;
	} map[PEER_MAPS];
	int irq[PEER_IRQS];
	int db_fd;
	uint8_t *db; /* doorbells, from PEER_DB on */
	uint8_t config[4096];
	uint64_t cap;
	uint32_t cc, csts, aqa;
	uint64_t asq, acq;
	struct peer_queue q[PEER_QUEUES];
	unsigned top;		   /* queues above are not there */
	uint64_t cqs[PEER_QUEUES]; /* from Create CQ to Create SQ */
	uint32_t cq_sizes[PEER_QUEUES];
	int cq_iv[PEER_QUEUES];
	uint8_t *shadow, *shadow_event;
	uint16_t aer_cid[16];
	unsigned naer;
	uint8_t *store;
};

/* Host memory at @iova, or NULL. */
void *peer_translate(struct peer *p, uint64_t iova, uint64_t len);

void peer_nvme_init(struct peer *p);
uint64_t peer_reg_read(struct peer *p, uint64_t off);
void peer_reg_write(struct peer *p, uint64_t off, uint64_t v, unsigned len);
/* Serve all queues once; how many commands. */
unsigned peer_nvme_poll(struct peer *p);
void peer_nvme_reset(struct peer *p);

#endif
