/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine of tests: a client with memory, queues and a controller that runs, made of raw messages, so that each
 * piece can be taken away, truncated or lied about. Each area is a file of its own.
 * Not for speed: lib/host is for that.
 */
#ifndef TEST_WIRE_COMMON_VM_H
#define TEST_WIRE_COMMON_VM_H

#include <pthread.h>

#include "common.h"

#define PAGE 4096ull
#define DEPTH 64u
#define LEGACY_BASE 0x100000ull

enum area_id {
	A_ADMIN, /* the admin queues: SQ at 0, CQ at PAGE */
	A_SQ,
	A_CQ,
	A_LIST,	  /* PRP lists */
	A_SHADOW, /* shadow doorbells at 0, event indexes at PAGE */
	A_DATA,	  /* 1 MiB */
	AREAS
};

struct area {
	int fd;
	uint8_t *va;
	uint64_t iova, len;
	bool mapped;
};

struct vm {
	int c;
	bool iommufd;
	uint32_t ioas; /* iommufd: what the device is attached to */
	struct area a[AREAS];
	volatile uint32_t *
		db; /* the doorbell page, as the daemon shares it; NULL: it does not */
	bool shadow; /* ring those as well */
	uint16_t cid;
	struct {
		unsigned tail, head, phase;
	} q[2];
};

struct sqe {
	uint8_t opc, flags;
	uint16_t cid;
	uint32_t nsid;
	uint64_t rsvd, mptr, prp1, prp2;
	uint32_t dw10, dw11, dw12, dw13, dw14, dw15;
};
struct cqe {
	uint32_t dw0, dw1;
	uint16_t sq_head, sqid, cid, status; /* with the phase */
};

#define OPC_WRITE 1
#define OPC_READ 2
#define OPC_FLUSH 0
#define ST_DATA_XFER 0x04 /* Data Transfer Error */
#define ST_PRP_OFFSET 0x13
#define CSTS_RDY 1u
#define CSTS_CFS 2u

/* Another listener @vm, of a subsystem of its own, with the namespace @bdev. */
void wire_export(const char *vm, const char *bdev);
/* A file of @len bytes of @byte in the daemon's directory; gives an fd. */
int wire_file(const char *name, uint64_t len, uint8_t byte);
/* That file as bdev @name. */
void wire_aio(const char *name);
/* The same by io_uring; false: there is none here. */
bool wire_uring(const char *name);
/* A malloc device, of blocks of 512 bytes. */
void wire_malloc(const char *name, unsigned blocks);
/* @base above, @ms slow in both directions. */
void wire_delay(const char *name, const char *base, unsigned ms);

/* Connect, and wait while the listener still winds up the client before. No memory, no queues. */
int vu_open_wait(const char *vm, const char *json);

/* All of it; fails the test when it does not work. @base: of the IOVAs in legacy mode. */
void vm_start(struct vm *v, const char *where, bool iommufd);
void vm_start_at(struct vm *v, const char *where, bool iommufd, uint64_t base,
		 bool huge);
/* Gone without a word, if it is there. The areas go, too. */
void vm_kill(struct vm *v);

/* Map and unmap; errno. @iova: asked for, in legacy mode; in iommufd mode the answer is there. */
int vm_map_fd(struct vm *v, uint32_t ioas, int fd, uint64_t off, uint64_t len,
	      bool read, bool write, uint64_t *iova);
int vm_unmap_range(struct vm *v, uint32_t ioas, uint64_t iova, uint64_t len);
int vm_map(struct vm *v, enum area_id id);
int vm_unmap(struct vm *v, enum area_id id);
/* The two halves, to do something in between. */
void vm_unmap_send(struct vm *v, uint64_t iova, uint64_t len);
int vm_unmap_reply(struct vm *v);

/* Put an entry on a queue (its cid is chosen) and ring; gives the cid. */
uint16_t vm_push(struct vm *v, unsigned q, struct sqe *e);
void vm_ring(struct vm *v, unsigned q);
/* A completion, if there is one. */
bool vm_poll(struct vm *v, unsigned q, struct cqe *out);
/* The status of the next completion; -1: none within @ms. No assertion inside: threads may. */
int vm_wait(struct vm *v, unsigned q, unsigned ms, struct cqe *out);
int vm_admin(struct vm *v, struct sqe *e, unsigned ms);
/* One read or write and its status; -1: no answer in ten seconds. */
int vm_io(struct vm *v, unsigned opc, uint64_t lba, unsigned nlb, uint64_t prp1,
	  uint64_t prp2);
void vm_io_push(struct vm *v, unsigned opc, uint64_t lba, unsigned nlb,
		uint64_t prp1, uint64_t prp2);
/* Controller status; ~0u: it has dropped us. */
uint32_t vm_csts(struct vm *v);
/* Has the daemon dropped us, within @ms? */
bool vm_dropped(struct vm *v, unsigned ms);
void vm_use_shadow(struct vm *v);
/* Queues 2 to @n, which share the memory of the first, rung by who makes them; and @e in all of its entries. */
#define VM_QUEUES 128u /* the most that a controller may have */
void vm_more_queues(struct vm *v, unsigned n, bool interrupts);
void vm_fill_queues(struct vm *v, const struct sqe *e);

/* Reads one after the other on a machine of its own, in a thread: does anything disturb it? (common_neighbour.c) */
#define NEIGHBOUR_WAITS 16
struct neighbour {
	struct vm vm;
	pthread_t thread;
	bool running, stop, failed;
	uint64_t count, max_gap_us;
	unsigned most_us; /* what it was not below when it was not calm */
	int waits[NEIGHBOUR_WAITS]; /* schedstat of the threads in its way */
	unsigned nwaits;
};
void neighbour_start(struct neighbour *n, const char *where);
/* The largest gap between two completions since the start or the last call, but for what they waited for a processor. */
uint64_t neighbour_gap_us(struct neighbour *n);
/*
 * Prints that gap, and tells whether it is below @most_us; with sanitizers, which have other times, any is. A machine that
 * others use adds to it, but not each time: who wants it to be small tries NEIGHBOUR_TRIES times.
 */
#define NEIGHBOUR_TRIES 5u
bool neighbour_is_calm(struct neighbour *n, const char *what, unsigned most_us);
/* It was not, in none of the tries: fails; or skips, if it is never calm on this machine, even when nobody disturbs it. */
void neighbour_suffers(struct neighbour *n);
/* Stops it, if it runs; it must have done something, without an error. */
void neighbour_stop(struct neighbour *n);

uint64_t now_us(void);
/* A value of /proc/PID/status, in kB where it has a unit. */
uint64_t daemon_status(const char *name);
unsigned daemon_maps(void);

#endif
