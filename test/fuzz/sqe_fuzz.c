/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue entries, register writes and doorbells, in any order, to a whole controller with a
 * real address space, on two reactors: queue 2 is not where the others are. The input is a list of records: a byte that says what, then its bytes.
 * Memory of the guest holds the input too, so that lists come out of it. Its last byte says whether there are more queues, so
 * many that those without work for 2 ms become cold.
 */
#include <unistd.h>

#include "belfry/guest.h"
#include "nvme_world.h"

static struct guest guest;
static iova_t arena; /* 64 pages that hold the input */
#define ARENA_LEN (64u * 4096)
#define MORE_QUEUES 12u
#define PAGES 256u /* of the guest's memory, rings among them, that can go */

static uint64_t free_memory; /* guest.used, before the rings */
static bool more_queues, slept, gone[PAGES];
static struct nvme_op removal;
static enum { NS_THERE, NS_GOES, NS_GONE } ns;

struct input {
	const uint8_t *p;
	size_t left;
};

static bool
take(struct input *in, void *out, size_t n)
{
	if (in->left < n)
		return false;
	memcpy(out, in->p, n);
	in->p += n;
	in->left -= n;
	return true;
}

/* The other one lags. */
static void
round_of_both(void)
{
	static unsigned tick;

	reactor_step(reactor_get(0));
	if (++tick % 3 == 0)
		reactor_step(reactor_get(1));
}

static void
page_comes(unsigned n)
{
	if (gone[n] && guest_map(&guest, GUEST_IOVA + n * 4096, 4096, n * 4096,
				 IOAS_READ | IOAS_WRITE))
		abort();
	gone[n] = false;
}

static void
page_goes(unsigned n)
{
	struct guest_op op;

	guest_unmap_start(&guest, GUEST_IOVA + n * 4096, 4096, &op);
	for (unsigned i = 0; i < 100000 && !op.done; i++)
		guest_step(&guest, 1);
	if (!op.done || op.err)
		abort(); /* no disk hangs here */
	gone[n] = true;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct guest_opts opts = { .bdev = "m",
						.io_queues = MORE_QUEUES,
						.vectors = MORE_QUEUES + 1,
						.trapped = true,
						.shadow = true,
						.nssr = true,
						.round = round_of_both };

	world_init(&guest, &opts, 4096);
	if (guest_unmap(&guest, GUEST_IOVA, guest.opts.mem_len) ||
	    guest_map(&guest, GUEST_IOVA + PAGES * 4096,
		      guest.opts.mem_len - PAGES * 4096, PAGES * 4096, 3))
		abort();
	memset(gone, true, sizeof(gone));
	for (unsigned n = 0; n < PAGES; n++)
		page_comes(n);
	arena = guest_alloc(&guest, ARENA_LEN);
	free_memory = guest.used;
	return 0;
}

/* Most addresses at random hit nothing: bend them into the guest's memory. */
static uint64_t
bend(uint64_t a)
{
	if (a >> 63)
		return a;
	return arena + (a & (2 * ARENA_LEN - 1));
}

static void
submit(struct input *in, uint16_t qid)
{
	struct nvme_sqe sqe;
	struct nvme_cqe cqe;

	if (!guest.q[qid].depth || !take(in, &sqe, sizeof(sqe)))
		return;
	if (sqe.cdw2 & 1) {
		sqe.prp1 = bend(sqe.prp1);
		if (!(sqe.flags >> 6))
			sqe.prp2 = bend(sqe.prp2);
	}
	if (sqe.cdw2 & 2)
		sqe.nsid = 1;
	guest_submit(&guest, qid, sqe);
	guest_step(&guest, 2);
	while (guest_take(&guest, qid, &cqe))
		;
}

/* A controller that was just enabled makes queues. */
static void
enable(void)
{
	uint16_t n = more_queues ? MORE_QUEUES : 2;

	guest_wr(&guest, NVME_REG_CC, 0);
	guest_step(&guest, 4);
	guest_forget_q(&guest);
	guest.used = free_memory; /* rings of before are free again */
	for (unsigned i = 0; i < PAGES; i++)
		page_comes(i);
	if (guest_enable(&guest, 16) != 1)
		return;
	for (uint16_t q = 1; q <= n; q++)
		if (guest_create_q(&guest, q, 16, q != 2))
			abort();
}

static void
reset_done(void *arg)
{
	*(bool *)arg = true;
}

/* The queue on the other reactor; several commands before a look; memory that changes: lists, shadow doorbells. */
static void
elsewhere(struct input *in, uint8_t what)
{
	struct nvme_sqe del = { .opcode = nvme_admin_delete_sq, .cdw10 = 2 };
	struct nvme_sqe config = { .opcode = nvme_admin_dbbuf,
				   .prp1 = arena,
				   .prp2 = arena + 4096 };
	uint32_t *mem = guest_ptr(&guest, arena), val;
	uint16_t at;

	switch (what % 6) {
	case 0:
	case 1:
		submit(in, 2);
		break;
	case 2:
		if (take(in, &at, 2) && take(in, &val, 4))
			guest_store32(&mem[at % (ARENA_LEN / 4)],
				      what & 0x40 ? val % 16 : val);
		guest_step(&guest, 1);
		break;
	case 3: /* commands under way, then they have no queue */
		for (uint16_t q = 1; q <= 2 && guest.q[q].depth; q++)
			guest_submit(&guest, q,
				     guest_rw(&guest, 2, 0, 8, arena, 4096));
		del.cdw10 = what & 0x40 ? 1 : 2;
		guest_submit(&guest, 0, del);
		break;
	case 4:
		guest_submit(&guest, 0, config);
		guest_step(&guest, 4);
		break;
	case 5:
		nvme_ctrl_reset(guest.ctrl, NVME_RESET_FUNCTION, NULL, NULL);
		guest_step(&guest, what >> 4 & 3);
		enable();
		break;
	}
}

static void
removed(struct nvme_op *op, int err)
{
	if (err)
		abort();
	ns = NS_GONE;
}

static void
ns_remove(void)
{
	int err;

	if (ns != NS_THERE)
		return;
	ns = NS_GOES;
	removal = (struct nvme_op){ .done = removed };
	err = nvme_subsys_remove_ns(guest.subsys, 1, &removal);
	if (err != -EINPROGRESS)
		removed(&removal, err);
}

static void
ns_add(void)
{
	if (ns != NS_GONE)
		return;
	if (guest_add_ns(&guest, "m", 1))
		abort();
	ns = NS_THERE;
}

/* As many bytes as a disk does not copy at once. */
static void
read_long(uint16_t qid)
{
	struct nvme_sqe sqe =
		guest_rw(&guest, nvme_cmd_read, 0, 512, arena, ARENA_LEN);

	if (guest.q[qid].depth)
		guest_submit(&guest, qid, sqe);
}

/* What the host does not send: events, namespaces that come and go, queues that become cold. */
static void
events(struct input *in, uint8_t what)
{
	struct nvme_sqe aer = { .opcode = nvme_admin_async_event };
	struct nvme_sqe hot = { .opcode = nvme_admin_set_features,
				.cdw10 = 4,
				.cdw11 = what & 0x40 ? 0xffff : 0 };
	unsigned n = what >> 3 & 3;

	switch (what % 8) {
	case 0: /* five are one too many */
		for (unsigned i = 0; guest.q[0].depth && i < n + 2; i++)
			guest_submit(&guest, 0, aer);
		break;
	case 1: /* a doorbell's value that cannot be */
		guest_wr(&guest, NVME_DB_OFFSET + 8 * n + (what >> 4 & 4),
			 0x7fff);
		break;
	case 2:
		if (guest.q[0].depth)
			guest_submit(&guest, 0, hot);
		break;
	case 3:
		read_long(1);
		read_long(2);
		guest_step(&guest, n);
		ns_remove();
		break;
	case 4:
		ns_add();
		break;
	case 5:
		ns_remove(); /* while commands come */
		submit(in, (uint16_t)(1 + n % 2));
		break;
	case 6: /* once: time is dear */
		if (!slept)
			usleep(2100);
		slept = true;
		guest_step(&guest, 4);
		for (uint16_t q = 3; more_queues && q <= MORE_QUEUES; q += 4)
			read_long(q);
		break;
	case 7:
		submit(in, more_queues ? (uint16_t)(3 + n * 2) : 1);
		break;
	}
	guest_step(&guest, 1 + n);
}

static void
one(struct input *in, uint8_t what)
{
	uint64_t val;
	uint16_t off;
	uint8_t n;

	if ((what & 0xa0) == 0xa0) {
		events(in, what);
		return;
	}
	if (what & 0x80) {
		elsewhere(in, what);
		return;
	}
	switch (what % 8) {
	case 0:
	case 1:
		submit(in, 0);
		break;
	case 2:
	case 3:
	case 4:
		submit(in, 1);
		break;
	case 5: /* any write to BAR0 */
		if (take(in, &off, 2) && take(in, &val, 8) && take(in, &n, 1))
			nvme_ctrl_write(guest.ctrl, off % (NVME_BAR0_LEN - 8),
					&val, n % 9);
		guest_step(&guest, 2);
		break;
	case 6: /* any read */
		if (take(in, &off, 2) && take(in, &n, 1))
			nvme_ctrl_read(guest.ctrl, off % (NVME_BAR0_LEN - 8),
				       &val, n % 9);
		break;
	case 7: /* a page goes, and comes back, at once or later */
		if (!take(in, &n, 1))
			break;
		if (!gone[n]) {
			page_goes(n);
			guest_step(&guest, 2);
		}
		if (!(what & 0x40))
			page_comes(n);
		guest_step(&guest, 2);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = { data, len };
	bool done = false;
	uint8_t what;

	for (size_t at = 0; len && at < ARENA_LEN; at += MIN(len, 4096))
		memcpy((uint8_t *)guest_ptr(&guest, arena) + at, data,
		       MIN(MIN(len, 4096), ARENA_LEN - at));
	more_queues = len && data[len - 1] & 1;
	slept = false;
	enable();
	for (unsigned i = 0; i < 64 && take(&in, &what, 1); i++)
		one(&in, what);
	nvme_ctrl_reset(guest.ctrl, NVME_RESET_FUNCTION, reset_done, &done);
	for (unsigned i = 0; i < 100000 && !done; i++)
		guest_step(&guest, 1);
	if (!done)
		abort(); /* a reset always ends: no disk hangs here */
	guest_forget_q(&guest);
	for (unsigned i = 0; i < 100000 && ns == NS_GOES; i++)
		guest_step(&guest, 1);
	if (ns == NS_GOES)
		abort(); /* and so does a removal */
	ns_add();
	for (unsigned i = 0; i < PAGES; i++)
		page_comes(i);
	return 0;
}
