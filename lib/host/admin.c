/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admin commands: one at a time, and Asynchronous Event Requests beside. Not for
 * what the commands say.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define OPC_AER 0x0c
#define SPIN_NS 50000
#define LOOK_NS 10000000 /* at the socket and CSTS */

static int
status_of(const struct belfry_cqe *cqe)
{
	return cqe->status >> 1 & 0x7ff;
}

static void
admin_done(void *arg, const struct belfry_cqe *cqe)
{
	struct belfry_host *h = arg;

	if (cqe->cid >= AER_CID) {
		if (!h->aers || h->naer == MAX_AERS)
			return; /* not ours */
		h->aers--;
		h->aer[h->naer++] = *cqe;
	} else if (cqe->cid == h->admin_cid) {
		h->admin_cqe = *cqe;
		h->admin_done = true;
	} /* else it is late, and nobody waits for it */
}

/* Is there still somebody who could answer? */
static int
look(struct belfry_host *h)
{
	struct pollfd p = { .fd = vuc_fd(h->vuc), .events = POLLRDHUP };
	uint32_t csts;
	int err;

	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
		return -ECONNRESET;
	err = belfry_reg_read(h, REG_CSTS, &csts, sizeof(csts));
	if (err)
		return err;
	return csts & CSTS_CFS ? -EIO : 0;
}

static int
wait_done(struct belfry_host *h, unsigned timeout_ms)
{
	uint64_t start = util_now_ns(), next_look = start + LOOK_NS;
	uint64_t end = start + timeout_ms * 1000000ull;

	for (;;) {
		int n = belfry_poll(h->admin, h->admin->depth, admin_done, h);
		uint64_t now = util_now_ns();

		if (n < 0)
			return n;
		if (h->admin_done)
			return 0;
		if (now >= end)
			return -ETIMEDOUT;
		if (now >= next_look) {
			int err = look(h);

			if (err)
				return err;
			next_look = now + LOOK_NS;
		}
		if (now - start > SPIN_NS)
			usleep(50);
	}
}

/* Room for @len bytes behind a page for a list. */
static int
bounce_get(struct belfry_host *h, uint32_t len)
{
	size_t want = NVME_PAGE + align_up(len, NVME_PAGE);
	struct belfry_mem *m;
	int err;

	if (h->bounce && h->bounce->len >= want)
		return 0;
	err = belfry_mem_alloc(h, MAX(want, 16u * NVME_PAGE),
			       BELFRY_MEM_READ | BELFRY_MEM_WRITE, &m);
	if (err)
		return err;
	if (h->bounce)
		belfry_mem_free(h, h->bounce);
	h->bounce = m;
	return 0;
}

static int
submit(struct belfry_host *h, const struct belfry_sqe *sqe)
{
	int err = belfry_push(h->admin, sqe);

	return err ? err : belfry_ring(h->admin);
}

static void *
bounce_data(struct belfry_host *h)
{
	return (char *)h->bounce->va + NVME_PAGE;
}

static int
prepare_data(struct belfry_host *h, struct belfry_sqe *sqe, const void *buf,
	     uint32_t len)
{
	int err;

	if (len > MAX_ADMIN_LEN)
		return -E2BIG;
	err = bounce_get(h, len);
	if (err)
		return err;
	if (sqe->dw[0] & 1)
		memcpy(bounce_data(h), buf, len);
	else
		memset(bounce_data(h), 0, len); /* nothing of others is seen */
	return belfry_sqe_prp(sqe, h->bounce->iova + NVME_PAGE, len,
			      h->bounce->va, h->bounce->iova);
}

int
belfry_admin(struct belfry_host *h, const struct belfry_sqe *sqe, void *buf,
	     uint32_t len, struct belfry_cqe *cqe, unsigned timeout_ms)
{
	struct belfry_sqe s = *sqe;
	int err = 0;

	if (!h->enabled)
		return -ENODEV;
	if (buf && len)
		err = prepare_data(h, &s, buf, len);
	if (err)
		return err;
	h->admin_cid = h->next_cid++ & (AER_CID - 1);
	h->admin_done = false;
	s.dw[0] = (s.dw[0] & 0xffff) | (uint32_t)h->admin_cid << 16;
	err = submit(h, &s);
	if (err)
		return err;
	err = wait_done(h, timeout_ms ? timeout_ms : timeout_of(h));
	if (err) {
		h->bounce = NULL; /* it may still be written; gone at the end */
		h->admin_cid = AER_CID;
		return err;
	}
	if (buf && len && (s.dw[0] & 2))
		memcpy(buf, bounce_data(h), len);
	if (cqe)
		*cqe = h->admin_cqe;
	return status_of(&h->admin_cqe);
}

int
belfry_aer_submit(struct belfry_host *h)
{
	struct belfry_sqe sqe = { .dw = { OPC_AER } };
	int err;

	if (!h->enabled)
		return -ENODEV;
	if (h->aers + h->naer == MAX_AERS)
		return -EAGAIN;
	sqe.dw[0] |= (AER_CID + (h->next_cid++ & (AER_CID - 1))) << 16;
	err = submit(h, &sqe);
	if (!err)
		h->aers++;
	return err;
}

int
belfry_aer_poll(struct belfry_host *h, uint32_t *dw0)
{
	struct belfry_cqe cqe;
	int n;

	if (!h->enabled)
		return -ENODEV;
	n = belfry_poll(h->admin, h->admin->depth, admin_done, h);
	if (n < 0)
		return n;
	if (!h->naer)
		return 0;
	cqe = h->aer[0];
	memmove(h->aer, h->aer + 1, --h->naer * sizeof(h->aer[0]));
	if (status_of(&cqe))
		return -EIO;
	*dw0 = cqe.dw0;
	return 1;
}

void
admin_forget(struct belfry_host *h)
{
	h->aers = 0;
	h->naer = 0;
	h->admin_done = false;
}
