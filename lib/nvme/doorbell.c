/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The doorbell page, which clients may map, and the shadow doorbells of Doorbell
 * Buffer Config (NVMe 2.0 §5.8), which are announced only where they may not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define AER_ERROR 0 /* event type; NVMe 2.0 §5.2.1 */
#define INFO_BAD_DOORBELL 0
#define INFO_BAD_VALUE 1
#define LOG_ERRORS 1

int
doorbells_init(struct nvme_ctrl *ctrl)
{
	int err;

	ctrl->db = NULL;
	ctrl->db_fd = memfd_create("belfry-doorbells",
				   MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ctrl->db_fd < 0)
		return -errno;
	if (ftruncate(ctrl->db_fd, NVME_BAR0_LEN) ||
	    fcntl(ctrl->db_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto failed;
	ctrl->db = mmap(NULL, NVME_DB_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
			ctrl->db_fd, NVME_DB_OFFSET);
	if (ctrl->db != MAP_FAILED)
		return 0;
	ctrl->db = NULL;
failed:
	err = -errno;
	close(ctrl->db_fd);
	ctrl->db_fd = -1;
	return err;
}

void
doorbells_fini(struct nvme_ctrl *ctrl)
{
	if (ctrl->db)
		munmap((void *)ctrl->db, NVME_DB_LEN);
	if (ctrl->db_fd >= 0)
		close(ctrl->db_fd);
	ctrl->db = NULL;
	ctrl->db_fd = -1;
}

int
nvme_ctrl_doorbell_fd(const struct nvme_ctrl *ctrl)
{
	return ctrl->cfg.map_doorbells ? ctrl->db_fd : -1;
}

void
doorbell_reset(struct nvme_ctrl *ctrl)
{
	for (unsigned i = 0; i < NVME_DB_LEN / 4; i++)
		guest_store32(&ctrl->db[i], 0);
}

/* The event tells the host to read the error log, so there is an entry. */
static void
doorbell_event(struct nvme_ctrl *ctrl, uint8_t info)
{
	if (ctrl->state != CTRL_READY)
		return;
	log_page_error(&ctrl->group, NULL, NVME_SC_INVALID_FIELD);
	aer_event(ctrl, AER_ERROR, info, LOG_ERRORS);
}

void
doorbell_bad_value(struct nvme_ctrl *ctrl)
{
	doorbell_event(ctrl, INFO_BAD_VALUE);
}

static bool
doorbell_exists(const struct nvme_ctrl *ctrl, uint32_t index)
{
	uint32_t qid = index / 2;

	if (qid > NVME_MAX_IO_QUEUES)
		return false;
	return index & 1 ? ctrl->cqt[qid].group != NULL
			 : ctrl->sqt[qid].group != NULL;
}

/* A doorbell that came as a register write. Queues elsewhere are polled, but their reactor may sleep. */
void
doorbell_ring(struct nvme_ctrl *ctrl, uint32_t index, uint32_t val)
{
	struct nvme_group *g = &ctrl->group;
	uint32_t qid = index / 2;

	/* undefined before CSTS.RDY; while it shuts down heads still count */
	if (ctrl->state != CTRL_READY && ctrl->state != CTRL_SHUTDOWN)
		return;
	if (!doorbell_exists(ctrl, index)) {
		doorbell_event(ctrl, INFO_BAD_DOORBELL);
		return;
	}
	guest_store_release32(&ctrl->db[index], val);
	if (index & 1 && g->cqs[qid]) {
		cq_check_head(g->cqs[qid]);
		if (ctrl->intx_level)
			ctrl_intx_written(ctrl);
	} else if (index & 1) {
		far_bell(ctrl->cqt[qid].group);
	} else if (!g->sqs[qid]) {
		far_bell(ctrl->sqt[qid].group);
	} else if (g->sqs[qid]->cold) {
		sq_heat(g->sqs[qid]);
	}
}

/* Stores to a mapped page tell nobody: now and then look at those without a queue. */
void
doorbell_scan(struct nvme_ctrl *ctrl)
{
	bool found = false;

	for (uint32_t i = 0; i < NVME_DB_LEN / 4; i++) {
		if (!guest_load32(&ctrl->db[i]) || doorbell_exists(ctrl, i))
			continue;
		guest_store32(&ctrl->db[i], 0);
		found = true;
	}
	if (found)
		doorbell_event(ctrl, INFO_BAD_DOORBELL);
}

/* ---- shadow doorbells ---- */

static void *
dbbuf_page(struct nvme_group *g, iova_t iova, uint32_t prot)
{
	struct ioas_hit hit = { 0 };

	return ioas_translate(g->view, &hit, iova, NVME_PAGE, prot);
}

/*
 * Point the queue at its shadow entry, or back at the register. What was seen last is
 * carried over, for the other one is out of date.
 */
void
sq_shadow(struct nvme_sq *sq)
{
	struct nvme_group *g = sq->group;

	if (sq->cold) /* it is looked at where the tail was read */
		sq_heat(sq);
	if (!g->shadow) {
		if (sq->shadow_db && sq->tail_db == sq->shadow_db)
			guest_store32(sq->reg_db, sq->tail);
		sq->shadow_db = sq->event_idx = NULL;
		sq->tail_db = sq->reg_db;
		return;
	}
	sq->shadow_db = &g->shadow[2 * sq->sqid];
	sq->event_idx = &g->event[2 * sq->sqid];
	if (sq->sqid)
		sq->tail_db = sq->shadow_db;
	else /* Linux does not shadow it: its register, until the entry moves */
		sq->shadow_first = guest_load32(sq->shadow_db);
	dbbuf_progress(sq);
}

void
cq_shadow(struct nvme_cq *cq)
{
	struct nvme_group *g = cq->group;

	if (!g->shadow || !cq->cqid) {
		if (g->shadow)
			cq->shadow_first = guest_load32(&g->shadow[1]);
		if (cq->shadow_db)
			guest_store32(cq->head_db, cq->head);
		cq->shadow_db = cq->event_idx = NULL;
		return;
	}
	cq->shadow_db = &g->shadow[2 * cq->cqid + 1];
	cq->event_idx = &g->event[2 * cq->cqid + 1];
	g->rearm = true;
}

static void
dbbuf_switch(struct nvme_group *g)
{
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (g->sqs[i])
			sq_shadow(g->sqs[i]);
		if (g->cqs[i])
			cq_shadow(g->cqs[i]);
	}
}

uint32_t
sq_load_tail(struct nvme_sq *sq)
{
	uint32_t tail;

	if (sq->tail_db == sq->reg_db &&
	    guest_load32(sq->shadow_db) != sq->shadow_first)
		sq->tail_db = sq->shadow_db;
	tail = guest_load_acquire32(sq->tail_db);
	if (tail != sq->tail)
		sq->group->rearm = true;
	return tail;
}

/*
 * While we poll no doorbell is wanted: an index just behind is never passed. A queue that stays idle
 * keeps the one that a sleep left; that costs one message when it has work again.
 */
void
dbbuf_progress(struct nvme_sq *sq)
{
	struct nvme_cq *cq = sq->cq;

	sq->group->rearm = true;
	guest_store32(sq->event_idx, sq->tail - 1);
	if (cq->event_idx)
		guest_store32(cq->event_idx, cq->head - 1);
}

/* Asleep, we want to be woken: ask for a doorbell at the next entry. */
void
dbbuf_arm(struct nvme_group *g)
{
	if (!g->shadow || !g->rearm)
		return;
	g->rearm = false;
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		struct nvme_sq *sq = g->sqs[i];
		struct nvme_cq *cq = g->cqs[i];

		if (sq)
			guest_store32(sq->event_idx, sq->tail);
		if (cq && cq->event_idx)
			guest_store32(cq->event_idx, cq->head);
	}
}

/* The register's values are carried over into the shadow of queues that exist. */
void
dbbuf_set(struct nvme_group *g, uint64_t shadow_iova, uint64_t event_iova)
{
	volatile uint32_t *shadow, *event;

	dbbuf_reset(g); /* a second one replaces the first */
	g->shadow_iova = shadow_iova;
	g->event_iova = event_iova;
	g->shadow_on = true;
	shadow = dbbuf_page(g, shadow_iova, IOAS_READ | IOAS_WRITE);
	event = dbbuf_page(g, event_iova, IOAS_WRITE);
	if (!shadow || !event)
		return; /* it has just gone: dbbuf_map() */
	for (unsigned i = 0; i <= NVME_MAX_IO_QUEUES; i++) {
		if (g->sqs[i])
			guest_store32(&shadow[2 * i],
				      guest_load32(g->sqs[i]->reg_db));
		if (g->cqs[i])
			guest_store32(&shadow[2 * i + 1],
				      guest_load32(g->cqs[i]->head_db));
	}
	g->shadow = shadow;
	g->event = event;
	dbbuf_switch(g);
}

struct dbbuf_tour {
	struct group_tour tour;
	struct nvme_req *req;
	uint64_t shadow, event;
};

static void
dbbuf_visit(struct group_call *c)
{
	struct dbbuf_tour *t =
		container_of(tour_of(c), struct dbbuf_tour, tour);

	dbbuf_set(c->group, t->shadow, t->event);
	group_return(c);
}

static void
dbbuf_end(struct group_tour *tour)
{
	struct dbbuf_tour *t = container_of(tour, struct dbbuf_tour, tour);

	req_complete(t->req, NVME_OK);
	free(t);
}

/* Answered when all groups have them. */
nvme_status_t
dbbuf_config(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint64_t prp1 = req->sqe.prp1, prp2 = req->sqe.prp2;
	struct nvme_group *g = &ctrl->group;
	struct dbbuf_tour *t;

	if (prp1 % NVME_PAGE || prp2 % NVME_PAGE)
		return NVME_DNR(NVME_SC_PRP_INVALID_OFFSET);
	if (!dbbuf_page(g, prp1, IOAS_READ | IOAS_WRITE) ||
	    !dbbuf_page(g, prp2, IOAS_WRITE))
		return NVME_SC_DATA_XFER_ERROR;
	t = malloc(sizeof(*t));
	if (!t)
		return NVME_SC_INTERNAL;
	*t = (struct dbbuf_tour){ .req = req, .shadow = prp1, .event = prp2 };
	dbbuf_set(g, prp1, prp2);
	tour_start(&t->tour, ctrl, dbbuf_visit, dbbuf_end);
	return NVME_PENDING;
}

void
dbbuf_reset(struct nvme_group *g)
{
	g->shadow_on = false;
	g->shadow = g->event = NULL;
	dbbuf_switch(g);
}

static bool
page_in(iova_t page, iova_t iova, uint64_t len)
{
	return page >= iova && page - iova < len;
}

/* Until it is mapped again, the registers. */
void
dbbuf_unmap(struct nvme_group *g, iova_t iova, uint64_t len)
{
	if (!g->shadow || (!page_in(g->shadow_iova, iova, len) &&
			   !page_in(g->event_iova, iova, len)))
		return;
	g->shadow = g->event = NULL;
	dbbuf_switch(g);
}

void
dbbuf_map(struct nvme_group *g)
{
	volatile uint32_t *shadow, *event;

	if (!g->shadow_on || g->shadow)
		return;
	shadow = dbbuf_page(g, g->shadow_iova, IOAS_READ | IOAS_WRITE);
	event = dbbuf_page(g, g->event_iova, IOAS_WRITE);
	if (!shadow || !event)
		return;
	g->shadow = shadow;
	g->event = event;
	dbbuf_switch(g);
}
