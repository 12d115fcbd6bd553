/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells that are more than one store: by message, and shadow doorbells
 * (NVMe 2.0 §5.7, Doorbell Buffer Config). The store itself is in qpair.c.
 */
#include <errno.h>

#include "internal.h"

#define OPC_DBBUF 0x7c
#define OACS_DBBUF 0x100

void
doorbell_init(struct belfry_host *h, struct doorbell *db, unsigned index)
{
	*db = (struct doorbell){ .off = REG_DOORBELLS + index * db_stride(h) };
	if (h->db_map && db->off >= h->db_off &&
	    range_inside(db->off - h->db_off, sizeof(uint32_t), h->db_len))
		db->mmio = (volatile uint32_t *)(h->db_map +
						 (db->off - h->db_off));
}

static void
attach_shadow(struct belfry_host *h, struct doorbell *db, uint32_t val)
{
	uint64_t at = db->off - REG_DOORBELLS;

	if (!h->shadow || !range_inside(at, sizeof(uint32_t), NVME_PAGE))
		return; /* behind the page there are registers only */
	db->shadow = (volatile uint32_t *)((uint8_t *)h->shadow->va + at);
	db->event = (volatile uint32_t *)((uint8_t *)h->event->va + at);
	*db->shadow = val;
	*db->event = val;
}

/* The admin queue stays with its registers, as Linux has it. */
void
doorbell_shadow(struct belfry_host *h, struct belfry_qpair *q)
{
	if (!q->id)
		return;
	attach_shadow(h, &q->sq_db, q->rung);
	attach_shadow(h, &q->cq_db, q->head_rung);
}

int
doorbell_write(struct belfry_host *h, const struct doorbell *db, uint32_t old,
	       uint32_t val)
{
	if (db->shadow) {
		uint32_t event;

		/*
		 * The store must be seen before the load: pairs with the
		 * controller's fence between event index and second look.
		 */
		__atomic_exchange_n(db->shadow, val, __ATOMIC_SEQ_CST);
		event = __atomic_load_n(db->event, __ATOMIC_SEQ_CST);
		if ((uint16_t)(val - event - 1) >= (uint16_t)(val - old))
			return 0; /* it is awake */
	}
	if (db->mmio) {
		__atomic_store_n(db->mmio, val, __ATOMIC_RELEASE);
		return 0;
	}
	/* Posted, as PCI has it: the answer would cost a wake-up here for each. */
	return vuc_region_post(h->vuc, VFIO_PCI_BAR0_REGION_INDEX, db->off,
			       &val, sizeof(val));
}

int
belfry_shadow_doorbells(struct belfry_host *h)
{
	struct belfry_sqe sqe = { .dw = { OPC_DBBUF } };
	struct belfry_ctrl_info info;
	struct belfry_qpair *q;
	int err;

	if (h->shadow)
		return 0;
	err = belfry_identify(h, &info);
	if (err)
		return err;
	if (!(info.oacs & OACS_DBBUF))
		return -ENOTSUP;
	err = belfry_mem_alloc(h, NVME_PAGE, BELFRY_MEM_READ | BELFRY_MEM_WRITE,
			       &h->shadow);
	if (err)
		return err;
	err = belfry_mem_alloc(h, NVME_PAGE, BELFRY_MEM_READ | BELFRY_MEM_WRITE,
			       &h->event);
	if (err)
		goto forget;
	/* Before the command, so that the controller finds true values. */
	list_for_each(q, &h->qpairs, node)
		doorbell_shadow(h, q);
	sqe.dw[6] = (uint32_t)h->shadow->iova;
	sqe.dw[7] = (uint32_t)(h->shadow->iova >> 32);
	sqe.dw[8] = (uint32_t)h->event->iova;
	sqe.dw[9] = (uint32_t)(h->event->iova >> 32);
	err = belfry_admin(h, &sqe, NULL, 0, NULL, 0);
	if (!err)
		return 0;
forget:
	shadow_forget(h);
	return err;
}

/* A controller reset ends them. */
void
shadow_forget(struct belfry_host *h)
{
	struct belfry_qpair *q;

	list_for_each(q, &h->qpairs, node) {
		q->sq_db.shadow = NULL;
		q->cq_db.shadow = NULL;
	}
	if (h->shadow)
		belfry_mem_free(h, h->shadow);
	if (h->event)
		belfry_mem_free(h, h->event);
	h->shadow = NULL;
	h->event = NULL;
}
