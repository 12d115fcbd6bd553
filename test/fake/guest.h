/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for tests, fuzzers and benchmarks: memory in a memfd that is mapped through a real ioas_ctx, registers,
 * rings, doorbells, PRP lists and SGLs; it drives a whole controller in this process.
 *
 * What must work for a test to mean anything ends the process with a message when it does not.
 * Thread: reactor 0's, which is this one: guest_step() runs its rounds. reactors_init() and bdev_init() came before.
 */
#ifndef BELFRY_FAKE_GUEST_H
#define BELFRY_FAKE_GUEST_H

#include "belfry/nvme.h"
#include "belfry/spec/nvme.h"

#define GUEST_IOVA 0x100000ull	   /* where its memory begins */
#define GUEST_HOLE 0x4000000000ull /* nothing is mapped here, ever */
#define GUEST_QUEUES 13

struct guest_opts {
	const char *bdev;      /* of namespace 1; NULL: no namespace */
	uint64_t mem_len;      /* [16 MiB] */
	uint16_t io_queues;    /* [8] */
	uint32_t max_depth;    /* [1024] */
	uint32_t max_io_size;  /* [1 MiB] */
	uint16_t vectors;      /* [9] */
	uint32_t max_aq_depth; /* [64] */
	bool trapped;	       /* doorbells are register writes */
	bool shadow;	       /* Doorbell Buffer Config is offered */
	bool plain_irq;	       /* interrupts do not adapt */
	bool nssr;
	void (*round)(void); /* a round of the world [of reactor 0] */
};

struct guest_q {
	uint16_t qid;
	iova_t sq, cq;
	uint32_t depth, tail, head, sq_head;
	bool phase;
};

struct guest {
	struct guest_opts opts;
	struct reactor *r;
	int memfd;
	uint8_t *mem;  /* as the guest sees it, from GUEST_IOVA on */
	uint64_t used; /* handed out by guest_alloc() */
	struct ioas_ctx *ioas;
	struct irq_set *irqs;
	struct nvme_subsys *subsys;
	struct nvme_ctrl *ctrl;
	volatile uint32_t *db;		/* mapped doorbells, or NULL */
	struct guest_q q[GUEST_QUEUES]; /* 0: admin */
	uint16_t cid;
	unsigned failed; /* times the controller asked to be thrown out */
};

void guest_init(struct guest *g, const struct guest_opts *opts);
void guest_fini(struct guest *g); /* also of a controller that was destroyed */
void guest_destroy_ctrl(struct guest *g); /* and wait */
void guest_create_ctrl(struct guest *g);
int guest_add_ns(struct guest *g, const char *bdev, uint32_t nsid);
int guest_remove_ns(struct guest *g, uint32_t nsid);

void guest_step(struct guest *g, unsigned rounds);
/* Rounds for @ms of real time. */
void guest_run_ms(struct guest *g, unsigned ms);

/* Registers. */
uint32_t guest_rd(struct guest *g, uint32_t off);
void guest_wr(struct guest *g, uint32_t off, uint32_t val);
void guest_wr64(struct guest *g, uint32_t off, uint64_t val);

/* Page-aligned, zeroed guest memory. Never given back. */
iova_t guest_alloc(struct guest *g, uint64_t len);
void *guest_ptr(struct guest *g, iova_t iova);
int guest_map(struct guest *g, iova_t iova, uint64_t len, uint64_t file_off,
	      uint32_t prot);
int guest_map_nohost(struct guest *g, iova_t iova, uint64_t len);
/* Start; ends in rounds to come. */
struct guest_op {
	struct ioas_op op;
	bool done;
	int err;
};
void guest_unmap_start(struct guest *g, iova_t iova, uint64_t len,
		       struct guest_op *op);
int guest_unmap(struct guest *g, iova_t iova, uint64_t len);

/* Admin queue of @depth, CC.EN, until CSTS.RDY or CSTS.CFS; gives CSTS. */
uint32_t guest_enable(struct guest *g, uint32_t depth);
void guest_disable(struct guest *g);
/* An I/O queue pair with rings of its own; gives the status of the command that failed, or 0. */
uint16_t guest_create_q(struct guest *g, uint16_t qid, uint32_t depth,
			bool ien);
void guest_forget_q(struct guest *g); /* after a reset */

/* Put an entry in the ring (its cid is chosen); ring its doorbell. */
uint16_t guest_put(struct guest *g, uint16_t qid, struct nvme_sqe sqe);
void guest_ring(struct guest *g, uint16_t qid);
/* Both. */
uint16_t guest_submit(struct guest *g, uint16_t qid, struct nvme_sqe sqe);
/* Take a completion, if there is one; the head's doorbell is rung. */
bool guest_take(struct guest *g, uint16_t qid, struct nvme_cqe *out);
/* The next one, at most 5 s. false: none came. */
bool guest_wait(struct guest *g, uint16_t qid, struct nvme_cqe *out);
/* Submit and wait: the status, without phase and DNR; 0xffff: none came. */
uint16_t guest_cmd(struct guest *g, uint16_t qid, struct nvme_sqe sqe,
		   struct nvme_cqe *out);

/* Read or write of @nlb blocks, data at @iova (contiguous; a PRP list is made when needed). */
struct nvme_sqe guest_rw(struct guest *g, uint8_t opcode, uint64_t slba,
			 uint32_t nlb, iova_t iova, uint32_t len);

#endif
