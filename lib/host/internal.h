/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of lib/host share. */
#ifndef HOST_INTERNAL_H
#define HOST_INTERNAL_H

#include "belfry/host.h"
#include "belfry/list.h"
#include "belfry/spec/nvme.h"
#include "belfry/spec/vfio_user.h"
#include "belfry/vfio_user_client.h"

#define REG_CAP 0x00
#define REG_CC 0x14
#define REG_CSTS 0x1c
#define REG_AQA 0x24
#define REG_ASQ 0x28
#define REG_ACQ 0x30
#define REG_DOORBELLS 0x1000

#define CC_EN 1u
#define CC_SHN_MASK (3u << 14)
#define CC_SHN_NORMAL (1u << 14)
#define CC_QUEUES (6u << 16 | 4u << 20) /* entries of 64 and 16 bytes */
#define CSTS_RDY 1u
#define CSTS_CFS 2u
#define CSTS_SHST_MASK 12u
#define CSTS_SHST_DONE 8u

#define MAX_QID 65535
#define MAX_AERS 16
#define AER_CID 0x8000u /* AERs have cids from here */
#define MAX_ADMIN_LEN (1u << 20)

/* How the tail or the head of one queue is told. */
struct doorbell {
	volatile uint32_t *mmio;   /* NULL: by REGION_WRITE */
	volatile uint32_t *shadow; /* NULL: no shadow doorbells */
	volatile uint32_t *event;
	uint64_t off; /* in BAR0 */
};

struct belfry_qpair {
	/* What push and poll touch; one thread. */
	struct belfry_sqe *sq;
	struct belfry_cqe *cq;
	uint32_t depth, cq_depth;
	uint32_t tail, rung; /* of the SQ; what the controller was told */
	uint32_t head, head_rung;
	uint32_t lazy; /* entries to consume before the head is told */
	uint32_t inflight, limit; /* limit 0: dead */
	uint32_t phase;
	struct doorbell sq_db, cq_db;
	/* Configuration. */
	struct belfry_host *h;
	struct belfry_mem *mem;
	struct list node;
	uint16_t id;
	int iv;
};

_Static_assert(offsetof(struct belfry_qpair, sq_db) <= CACHE_LINE, "one line");

struct mem_node {
	struct belfry_mem m;
	struct list node;
	bool own_fd;
	uint16_t unmap_id; /* of the message begun */
};

struct belfry_host {
	struct vuc *vuc;
	enum belfry_mode mode;
	struct belfry_opts opts;
	uint32_t ioas_id;
	uint64_t next_iova; /* legacy mode */
	struct list mems, qpairs;
	/* BAR0 */
	uint64_t bar0_len;
	uint8_t *db_map; /* doorbells from db_off on, or NULL */
	uint64_t db_off, db_len;
	uint64_t cap;
	/* controller */
	bool enabled;
	struct belfry_qpair *admin;
	struct belfry_mem *bounce; /* a page for a PRP list, then data */
	uint16_t next_cid;
	bool admin_done;
	uint16_t admin_cid;
	struct belfry_cqe admin_cqe;
	unsigned aers; /* out */
	unsigned naer;
	struct belfry_cqe aer[MAX_AERS]; /* completed, not yet asked for */
	struct belfry_mem *shadow, *event;
};

/* 4 << CAP.DSTRD */
static inline uint64_t
db_stride(const struct belfry_host *h)
{
	return 4ull << (h->cap >> 32 & 15);
}

static inline uint32_t
max_depth(const struct belfry_host *h)
{
	return (uint32_t)(h->cap & 0xffff) + 1;
}

static inline unsigned
timeout_of(const struct belfry_host *h)
{
	return h->opts.timeout_ms;
}

/* doorbell.c */
void doorbell_init(struct belfry_host *h, struct doorbell *db, unsigned index);
void doorbell_shadow(struct belfry_host *h, struct belfry_qpair *q);
int doorbell_write(struct belfry_host *h, const struct doorbell *db,
		   uint32_t old, uint32_t val);
void shadow_forget(struct belfry_host *h);

/* qpair.c: rings without the commands that create them. */
int qpair_alloc(struct belfry_host *h, unsigned id, unsigned depth, int iv,
		struct belfry_qpair **out);
void qpair_free(struct belfry_qpair *q);

/* mem.c: local memory only, for when the server has gone. */
void mem_release_all(struct belfry_host *h);

/* admin.c: the rings are about to go. */
void admin_forget(struct belfry_host *h);

/* connect.c: memory and bus master in the PCI command register. */
int pci_enable(struct belfry_host *h);

#endif
