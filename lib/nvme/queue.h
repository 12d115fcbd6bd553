/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Submission and completion queues (sq.c, cq.c), their rings in the guest's memory (ring.c), and which of them a
 * round looks at (cold.c). Part of internal.h.
 */
#ifndef BELFRY_NVME_QUEUE_H
#define BELFRY_NVME_QUEUE_H

struct group_call;
struct nvme_core;
struct nvme_group;

struct nvme_ring {
	void **page; /* host address of each 4 KiB page; NULL: unmapped, the queue is paused */
	iova_t iova;
	uint32_t npages;
	uint32_t missing; /* pages that are NULL */
	uint32_t prot;
	struct ioas_hit hit;
};

struct nvme_cq {
	/* first line: posting */
	void **page; /* ring.page */
	uint32_t depth, tail;
	uint32_t head; /* last value of the doorbell that was checked */
	uint32_t busy; /* slots promised to requests in flight */
	volatile uint32_t *head_db;
	uint32_t phase; /* CQE_PHASE or 0: of the next entry */
	uint16_t cqid, iv;
	uint8_t hold; /* CQ_HOLD_*: completions are not posted */
	bool ien, irq_pending;
	struct list dirty; /* core->dirty when irq_pending */
	struct nvme_group *group;
	uint32_t unsignalled; /* entries since the last interrupt */
	uint16_t coal; /* Interrupt Coalescing, as Feature 08h has it; 0: none here */
	uint32_t bad_head; /* the invalid doorbell value that was reported; ~0: none */
	bool adaptive;	       /* pace.c decides when interrupts are due */
	uint64_t irq_deadline; /* then it is */
	struct nvme_pace pace;
	struct nvme_ring ring;
	struct nvme_req *held_head,
		*held_tail;    /* completions that wait for the ring's memory */
	uint32_t shadow_first; /* admin: the shadow entry when it was configured */
	volatile uint32_t *shadow_db,
		*event_idx; /* Doorbell Buffer Config; NULL: none */
};
_Static_assert(offsetof(struct nvme_cq, dirty) + sizeof(struct list) <= 64,
	       "CQ: one line to post");
#define CQE_PHASE 0x10000u /* in the last dword */
#define CQ_HOLD_RING 1u	   /* ring memory is gone: keep them */
#define CQ_HOLD_MUTE 2u	   /* draining or failed: forget them */

struct nvme_sq {
	/* first line: looking for work */
	struct list node; /* group->hot, unless it is cold */
	volatile uint32_t
		*tail_db; /* where the tail is read: doorbell page or shadow */
	uint32_t head, depth;
	void **page; /* ring.page */
	struct nvme_cq *cq;
	struct nvme_group *group;
	uint8_t stop; /* SQ_STOP_*: not 0: not fetched */
	uint16_t sqid;
	uint32_t id_word;	   /* sqid where a completion has it */
	uint64_t worked;	   /* when it last had work */
	uint32_t inflight_n;	   /* requests, held completions included */
	uint32_t *used, *limit;	   /* the group's, of I/O or admin requests */
	uint32_t tail;		   /* last valid value seen */
	struct list inflight;	   /* reqs; scanned on unmap, abort, delete */
	struct ioas_hit hit;	   /* data pointers' last extent */
	volatile uint32_t *reg_db; /* the doorbell page's entry, always */
	volatile uint32_t *shadow_db, *event_idx;
	uint32_t bad_tail; /* the invalid doorbell value that was reported; ~0: none */
	uint32_t shadow_first; /* admin: the shadow entry when it was configured */
	bool cold;
	uint32_t cold_at; /* its place in core->colds */
	struct nvme_ring ring;
	struct group_call *
		delete_call; /* Delete I/O SQ that waits for the queue to drain */
};
_Static_assert(offsetof(struct nvme_sq, sqid) + 2 <= 64,
	       "SQ: one line to poll");
#define SQ_STOP_RING 1u /* ring of the SQ or of its CQ is unmapped: paused */
#define SQ_STOP_CTRL 2u /* controller not ready */
#define SQ_STOP_DELETE 4u

/* ring of a queue (ring.c) */
nvme_status_t ring_init(struct nvme_ring *ring, struct nvme_group *g,
			iova_t iova, uint64_t len, uint32_t prot, bool lenient);
void ring_fini(struct nvme_ring *ring);
bool ring_unmap(struct nvme_ring *ring, iova_t iova,
		uint64_t len); /* true: lost some */
bool ring_resolve(struct nvme_ring *ring,
		  struct ioas_view *view); /* true: complete (again) */

/* sq.c, cq.c, on the group's reactor. create: what remains to be checked there; depth in entries. @iova page-aligned was checked. */
nvme_status_t cq_create(struct nvme_group *g, uint16_t cqid, iova_t iova,
			uint32_t depth, uint16_t iv, bool ien);
nvme_status_t sq_create(struct nvme_group *g, uint16_t sqid, uint16_t cqid,
			iova_t iova, uint32_t depth);
int sq_fetch(struct nvme_sq *sq);
void cq_hold(struct nvme_cq *cq,
	     struct nvme_req *req); /* instead of cq_post, while cq->hold */
/* Attach queue @qid to the shadow doorbells (or, with NULL buffers, back to the registers). */
void sq_shadow(struct nvme_sq *sq);
void cq_shadow(struct nvme_cq *cq);

void
sq_cancel(struct nvme_sq *sq); /* ends what waits for a limit of its device */
void sq_free(struct nvme_sq *sq); /* drained */
void cq_free(struct nvme_cq *cq);
void cq_release_held(struct nvme_cq *cq); /* the ring's memory is back */
void cq_drop_held(struct nvme_cq *cq);
/* Take the doorbell's value; false: it is invalid (reported). */
bool cq_check_head(struct nvme_cq *cq);
/* cold.c: which queues a round looks at. A queue is made after cold_reserve(): -ENOMEM. */
int cold_reserve(struct nvme_core *core);
void sq_cool(struct nvme_sq *sq);   /* now and then, unless there are few */
void sq_heat(struct nvme_sq *sq);   /* always */
void sq_unlist(struct nvme_sq *sq); /* no more */
int cold_poll(struct nvme_core *core);
/* Before and in a sleep: all without work are cold; has one of them work by now? */
bool cold_all(struct nvme_core *core);
bool cold_look(struct nvme_core *core);
int sq_poll(struct nvme_core *core,
	    struct nvme_sq *sq);     /* poll.c; -EPROTO: an invalid tail */
bool cq_unread(struct nvme_cq *cq);  /* entries that the host has not taken */
bool sq_pending(struct nvme_sq *sq); /* is there something to do? */

#endif
