/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue entries, register writes and doorbells, in any order, to a whole controller with a
 * real address space, on two reactors: queue 2 is not where the others are. The input is a list of records: a byte that says what, then its bytes.
 * Memory of the guest holds the input too, so that lists come out of it.
 */
#include "belfry/guest.h"
#include "nvme_world.h"

static struct guest guest;
static iova_t arena; /* 64 pages that hold the input */
#define ARENA_LEN (64u * 4096)

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

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct guest_opts opts = { .bdev = "m",
						.trapped = true,
						.shadow = true,
						.nssr = true,
						.round = round_of_both };

	world_init(&guest, &opts, 4096);
	arena = guest_alloc(&guest, ARENA_LEN);
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

static void
enable(void)
{
	uint64_t used = guest.used;

	guest_wr(&guest, NVME_REG_CC, 0);
	guest_step(&guest, 4);
	guest_forget_q(&guest);
	if (guest_enable(&guest, 16) == 1 &&
	    (guest_create_q(&guest, 1, 16, true) ||
	     guest_create_q(&guest, 2, 16, false)))
		abort(); /* a controller that was just enabled makes a queue */
	guest.used = used; /* rings of before are free again */
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
one(struct input *in, uint8_t what)
{
	uint64_t val;
	uint16_t off;
	uint8_t n;

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
	case 7: /* a page goes, and comes back */
		if (take(in, &n, 1)) {
			struct guest_op op;

			guest_unmap_start(&guest, 0x80000000 + n * 4096, 4096,
					  &op);
			guest_step(&guest, 2);
			while (!op.done)
				guest_step(&guest, 1);
			guest_map(&guest, 0x80000000 + n * 4096, 4096, n * 4096,
				  3);
		}
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
	enable();
	for (unsigned i = 0; i < 64 && take(&in, &what, 1); i++)
		one(&in, what);
	nvme_ctrl_reset(guest.ctrl, NVME_RESET_FUNCTION, reset_done, &done);
	for (unsigned i = 0; i < 100000 && !done; i++)
		guest_step(&guest, 1);
	if (!done)
		abort(); /* a reset always ends: no disk hangs here */
	guest_forget_q(&guest);
	return 0;
}
