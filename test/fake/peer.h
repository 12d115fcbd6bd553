/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer: a small vfio-user server with an NVMe controller that does what it is told at once, for tests and benchmarks of
 * clients. It shares no code with the daemon. It trusts its client: not for hostile ones.
 *
 * Thread: one of its own, from peer_start to peer_stop; the counters may be read any time.
 */
#ifndef FAKE_PEER_H
#define FAKE_PEER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct peer;

/* What it does wrong; bits. */
enum peer_fault {
	PEER_NEVER_READY = 1,  /* CSTS.RDY stays 0 */
	PEER_FATAL = 2,	       /* CSTS.CFS when enabled */
	PEER_DEAF = 4,	       /* fetches admin commands, answers none */
	PEER_WRONG_CID = 8,    /* I/O completions name another command */
	PEER_FAIL_IO = 16,     /* each I/O ends with Internal Error */
	PEER_LOSE_IO = 32,     /* each I/O is fetched and forgotten */
	PEER_SHORT_BAR = 64,   /* the doorbells' file is too short to map */
	PEER_NO_QUEUES = 128,  /* Create SQ fails */
	PEER_ENDLESS_NS = 256, /* the namespace list does not go on */
};

struct peer_opts {
	bool iommufd;	    /* offered */
	bool trap;	    /* doorbells cannot be mapped */
	bool dbbuf;	    /* Doorbell Buffer Config is announced */
	unsigned max_fds;   /* max_msg_fds; 0: 8 */
	unsigned mqes;	    /* entries; 0: 1024 */
	unsigned block_len; /* 0: 512 */
	uint64_t blocks;    /* of namespace 1; 0: 2048 */
	bool store; /* data is kept; else reads and writes move nothing */
	unsigned faults;
	int flip_at; /* > 0: reads return the byte at this offset of the store flipped */
	int cpu; /* > 0: pin the thread to cpu - 1 */
};

/* Serves the connected socket @fd, which it takes. NULL: no memory. */
struct peer *peer_start(const struct peer_opts *opts, int fd);
/* Ends the thread; a client sees EOF. */
void peer_stop(struct peer *p);
/* The next Asynchronous Event Request is answered with @dw0. */
void peer_event(struct peer *p, uint32_t dw0);

/* Seen so far. */
uint64_t peer_ios(const struct peer *p);
uint64_t peer_db_messages(const struct peer *p); /* doorbells by REGION_WRITE */
unsigned peer_maps(const struct peer *p);	 /* that stand */
unsigned peer_irqs(const struct peer *p);	 /* vectors bound */
unsigned peer_irq_messages(const struct peer *p);

#endif
