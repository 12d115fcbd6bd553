/* SPDX-License-Identifier: BSD-3-Clause */
/* The peer's NVMe controller. */
#include <string.h>
#include <unistd.h>

#include "fake/peer_impl.h"

static void
put_cqe(struct peer *p, unsigned id, uint16_t cid, uint32_t dw0,
	uint16_t status)
{
	struct peer_queue *q = &p->q[id];
	struct nvme_cqe *c = &q->cq[q->cq_tail];

	c->dw0 = dw0;
	c->sq_head = (uint16_t)q->head;
	c->sqid = (uint16_t)id;
	c->cid = cid;
	__atomic_store_n(&c->status, (uint16_t)(status << 1 | q->phase),
			 __ATOMIC_RELEASE);
	if (++q->cq_tail == q->cq_depth) {
		q->cq_tail = 0;
		q->phase ^= 1;
	}
}

static void
queue_open(struct peer *p, unsigned id, uint64_t sq, uint32_t depth,
	   uint64_t cq, uint32_t cq_depth, int iv)
{
	uint32_t *db = (uint32_t *)p->db + 2 * id;

	p->q[id] = (struct peer_queue){
		.sq = peer_translate(p, sq, depth * 64ull),
		.cq = peer_translate(p, cq, cq_depth * 16ull),
		.depth = depth,
		.cq_depth = cq_depth,
		.phase = 1,
		.iv = iv,
		.tail = db,
		.cq_head = db + 1,
	};
	db[0] = db[1] = 0;
	if (id && p->shadow) {
		p->q[id].tail = (uint32_t *)p->shadow + 2 * id;
		p->q[id].cq_head = p->q[id].tail + 1;
		p->q[id].event = (uint32_t *)p->shadow_event + 2 * id;
		p->q[id].cq_event = p->q[id].event + 1;
	}
	p->top = MAX(p->top, id + 1);
}

void
peer_nvme_reset(struct peer *p)
{
	memset(p->q, 0, sizeof(p->q));
	memset(p->db, 0, 4096);
	p->top = 0;
	p->naer = 0;
	p->shadow = p->shadow_event = NULL;
	p->csts = p->cc = 0;
}

static void
set_cc(struct peer *p, uint32_t v)
{
	uint32_t old = p->cc;

	if ((old & 1) && !(v & 1)) {
		peer_nvme_reset(p);
	} else if (!(old & 1) && (v & 1)) {
		if (p->opts.faults & PEER_FATAL) {
			p->csts = 2;
		} else if (!(p->opts.faults & PEER_NEVER_READY)) {
			queue_open(p, 0, p->asq, (p->aqa & 0xfff) + 1, p->acq,
				   (p->aqa >> 16) + 1, -1);
			p->csts = 1;
		}
	}
	if (v >> 14 & 3)
		p->csts |= 8;
	p->cc = v;
}

uint64_t
peer_reg_read(struct peer *p, uint64_t off)
{
	switch (off) {
	case 0x00:
		return p->cap;
	case 0x08:
		return 0x20000;
	case 0x14:
		return p->cc;
	case 0x1c:
		return p->csts;
	}
	return 0;
}

void
peer_reg_write(struct peer *p, uint64_t off, uint64_t v, unsigned len)
{
	switch (off) {
	case 0x14:
		set_cc(p, (uint32_t)v);
		return;
	case 0x24:
		p->aqa = (uint32_t)v;
		return;
	case 0x28:
		p->asq = v;
		return;
	case 0x30:
		p->acq = v;
		return;
	}
	if (off >= PEER_DB && off + 4 <= PEER_DB + 4096) {
		memcpy(p->db + off - PEER_DB, &v, 4);
		p->db_messages++;
	}
}

static void
identify_ctrl(struct peer *p, struct nvme_id_ctrl *id)
{
	id->vid = 0x1234;
	memcpy(id->sn, "PEER0001            ", 20);
	memcpy(id->mn, "ideal peer                              ", 40);
	memcpy(id->fr, "1       ", 8);
	id->mdts = 5;
	id->cntlid = 7;
	id->nn = 4;
	id->oacs = p->opts.dbbuf ? 0x100 : 0;
}

static uint16_t
identify(struct peer *p, const struct nvme_sqe *s)
{
	uint8_t *buf = peer_translate(p, s->prp1, 4096);

	if (!buf)
		return 0x04;
	memset(buf, 0, 4096);
	switch (s->cdw10 & 0xff) {
	case 0: {
		struct nvme_id_ns *id = (struct nvme_id_ns *)buf;

		if (s->nsid == 1) {
			id->nsze = p->opts.blocks;
			id->lbaf[0].ds = (uint8_t)ilog2(p->opts.block_len);
		}
		return 0;
	}
	case 1:
		identify_ctrl(p, (struct nvme_id_ctrl *)buf);
		return 0;
	case 2:
		if (s->nsid < 1 || (p->opts.faults & PEER_ENDLESS_NS))
			buf[0] = 1;
		return 0;
	case 3:
		memcpy(buf, "\x02\x10", 2); /* an NGUID before the UUID */
		memcpy(buf + 20, "\x03\x10", 2);
		memset(buf + 24, 0xab, 16);
		return 0;
	}
	return 0x02;
}

static uint16_t
create_sq(struct peer *p, const struct nvme_sqe *s)
{
	unsigned id = s->cdw10 & 0xffff, cq = s->cdw11 >> 16;

	if (p->opts.faults & PEER_NO_QUEUES)
		return 0x101;
	if (!id || id >= PEER_QUEUES || cq != id || !p->cqs[cq])
		return 0x101;
	queue_open(p, id, s->prp1, (s->cdw10 >> 16) + 1, p->cqs[cq],
		   p->cq_sizes[cq], p->cq_iv[cq]);
	return p->q[id].sq && p->q[id].cq ? 0 : 0x04;
}

static uint16_t
create_cq(struct peer *p, const struct nvme_sqe *s)
{
	unsigned id = s->cdw10 & 0xffff;

	if (!id || id >= PEER_QUEUES)
		return 0x101;
	p->cqs[id] = s->prp1;
	p->cq_sizes[id] = (s->cdw10 >> 16) + 1;
	p->cq_iv[id] = s->cdw11 & 2 ? (int)(s->cdw11 >> 16) : -1;
	return 0;
}

/* Gives the status; -1: no completion now. */
static int
admin(struct peer *p, const struct nvme_sqe *s, uint32_t *dw0)
{
	unsigned id = s->cdw10 & 0xffff;

	if (p->opts.faults & PEER_DEAF)
		return -1;
	switch (s->opcode) {
	case 0x00:
		if (!id || id >= PEER_QUEUES || !p->q[id].sq)
			return 0x101;
		p->q[id].sq = NULL;
		return 0;
	case 0x04:
		return id && id < PEER_QUEUES && p->cqs[id] ? 0 : 0x101;
	case 0x01:
		return create_sq(p, s);
	case 0x05:
		return create_cq(p, s);
	case 0x06:
		return identify(p, s);
	case 0x09:
		*dw0 = 15 | 15 << 16;
		return (s->cdw10 & 0xff) == 7 ? 0 : 0x02;
	case 0x0c:
		if (p->naer == 4)
			return 0x105;
		p->aer_cid[p->naer++] = s->cid;
		return -1;
	case 0x7c:
		if (!p->opts.dbbuf)
			return 0x01;
		p->shadow = peer_translate(p, s->prp1, 4096);
		p->shadow_event = peer_translate(p, s->prp2, 4096);
		return p->shadow && p->shadow_event ? 0 : 0x02;
	}
	return 0x01;
}

/* Move @len bytes between the store and the command's pages. */
static uint16_t
move_data(struct peer *p, const struct nvme_sqe *s, uint64_t at, uint64_t len)
{
	uint64_t iova = s->prp1, done = 0;
	const uint64_t *list = NULL;

	for (unsigned i = 0; done < len; i++) {
		uint64_t n = MIN(len - done, 4096 - iova % 4096);
		uint8_t *host = peer_translate(p, iova, n);

		if (!host)
			return 0x04;
		if (s->opcode == 1)
			memcpy(p->store + at + done, host, n);
		else
			memcpy(host, p->store + at + done, n);
		if (s->opcode == 2 && p->opts.flip_at > 0 &&
		    (uint64_t)p->opts.flip_at >= at + done &&
		    (uint64_t)p->opts.flip_at < at + done + n)
			host[(uint64_t)p->opts.flip_at - at - done] ^= 1;
		done += n;
		if (done >= len)
			break;
		if (!i && len - done <= 4096) {
			iova = s->prp2;
			continue;
		}
		if (!list)
			list = peer_translate(p, s->prp2, 8);
		if (!list)
			return 0x13;
		iova = list[i];
	}
	return 0;
}

static uint16_t
io_data(struct peer *p, const struct nvme_sqe *s)
{
	uint64_t slba = s->cdw10 | (uint64_t)s->cdw11 << 32;
	uint64_t nlb = (s->cdw12 & 0xffff) + 1;

	if (s->nsid != 1)
		return 0x0b;
	if (!range_inside(slba, nlb, p->opts.blocks))
		return 0x80;
	if (s->opcode != 1 && s->opcode != 2)
		return 0x01;
	return move_data(p, s, slba * p->opts.block_len,
			 nlb * p->opts.block_len);
}

static void
complete(struct peer *p, unsigned id, const struct nvme_sqe *s)
{
	unsigned faults = p->opts.faults;
	uint32_t dw0 = 0;
	int status = 0;

	if (!id)
		status = admin(p, s, &dw0);
	else if (unlikely(faults & (PEER_FAIL_IO | PEER_LOSE_IO)))
		status = faults & PEER_LOSE_IO ? -1 : 0x06;
	else if (p->store)
		status = io_data(p, s);
	if (status >= 0)
		put_cqe(p, id,
			id && (faults & PEER_WRONG_CID) ? 0x7fff : s->cid, dw0,
			(uint16_t)status);
}

static unsigned
serve(struct peer *p, unsigned id)
{
	struct peer_queue *q = &p->q[id];
	uint32_t tail = __atomic_load_n(q->tail, __ATOMIC_ACQUIRE);
	unsigned n = 0;

	if (tail >= q->depth)
		return 0;
	while (q->head != tail) {
		struct nvme_sqe *s = &q->sq[q->head];
		uint32_t next = q->cq_tail + 1 == q->cq_depth ? 0
							      : q->cq_tail + 1;

		if (next == __atomic_load_n(q->cq_head, __ATOMIC_RELAXED))
			break;
		q->head = q->head + 1 == q->depth ? 0 : q->head + 1;
		complete(p, id, s);
		n++;
		if (!q->sq)
			break;
	}
	if (n && q->event) {
		*q->event = tail;
		*q->cq_event = *q->cq_head;
	}
	if (n && q->iv >= 0 && q->iv < PEER_IRQS && p->irq[q->iv] >= 0) {
		uint64_t one = 1;

		if (write(p->irq[q->iv], &one, sizeof(one)) < 0)
			return n;
	}
	return n;
}

unsigned
peer_nvme_poll(struct peer *p)
{
	unsigned n = 0;

	if (!(p->csts & 1))
		return 0;
	if (p->have_event && p->naer) {
		p->have_event = false;
		put_cqe(p, 0, p->aer_cid[--p->naer], p->event, 0);
	}
	if (p->q[0].sq)
		serve(p, 0);
	for (unsigned i = 1; i < p->top; i++)
		if (p->q[i].sq)
			n += serve(p, i);
	if (n)
		atomic_store_explicit(
			&p->ios,
			atomic_load_explicit(&p->ios, memory_order_relaxed) + n,
			memory_order_relaxed);
	return n;
}

void
peer_nvme_init(struct peer *p)
{
	p->cap = (p->opts.mqes - 1) | 1ull << 16 | 10ull << 24 | 1ull << 37;
	p->config[0] = 0x34;
	p->config[1] = 0x12;
	p->config[6] = 0x10;	/* has a capability list */
	p->config[0x34] = 0x40; /* PM, then MSI-X */
	memcpy(p->config + 0x40, "\x01\x50", 2);
	memcpy(p->config + 0x50, "\x11\x00\x3f\x00", 4);
}
