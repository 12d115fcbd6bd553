/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PRP lists in guest memory, through a read command, against a model that knows nothing of iovecs: it walks
 * the entries as NVMe 2.0 §4.1.1 tells, byte ranges in order. A read of a known pattern must change just
 * what the model says, and a list that the model refuses must be refused.
 */
#include "nvme_world.h"

#define P 4096u
#define PAGES 64u
#define BLOCKS 256u

static struct guest guest;
static iova_t arena;
static uint8_t model[PAGES * P];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct guest_opts opts = { .bdev = "m",
						.mem_len = 2 << 20 };

	world_init(&guest, &opts, BLOCKS);
	arena = world_ready(&guest, BLOCKS, PAGES * P);
	return 0;
}

/* Is [iova, +len) in the arena or elsewhere in memory? The model only follows the arena. */
static bool
in_arena(uint64_t iova, uint64_t len)
{
	return iova >= arena && range_inside(iova - arena, len, PAGES * P);
}

static bool
entry(uint64_t iova, uint8_t *snapshot, uint64_t *out)
{
	if (!in_arena(iova, 8))
		return false;
	memcpy(out, snapshot + (iova - arena), 8);
	return true;
}

/* Where the bytes go: @place[i] is the offset in the arena of byte i. false: refused. */
static bool
walk(uint64_t prp1, uint64_t prp2, uint32_t len, uint8_t *snapshot,
     uint32_t *place)
{
	uint32_t first = P - prp1 % P, done = 0;
	uint64_t at = prp2, e;

	if (prp1 % 4 || !in_arena(prp1, MIN(len, first)))
		return false;
	for (; done < len && done < first; done++)
		place[done] = (uint32_t)(prp1 - arena) + done;
	if (done == len)
		return true;
	if (len - done <= P) {
		if (prp2 % P || !in_arena(prp2, len - done))
			return false;
		for (uint32_t i = 0; done < len; i++)
			place[done++] = (uint32_t)(prp2 - arena) + i;
		return true;
	}
	if (at % 8)
		return false;
	while (done < len) {
		uint32_t part = MIN(len - done, P);

		if (!entry(at, snapshot, &e))
			return false;
		if (at % P == P - 8 && len - done > P) { /* a pointer */
			if (e % P)
				return false;
			at = e;
			continue;
		}
		if (e % P || !in_arena(e, part))
			return false;
		for (uint32_t i = 0; i < part; i++)
			place[done++] = (uint32_t)(e - arena) + i;
		at += 8;
	}
	return true;
}

static uint64_t
address(const uint8_t *p)
{
	uint64_t a;

	memcpy(&a, p, 8);
	if (a >> 62 == 3)
		return a;
	if (a >> 62 == 2)
		return arena + a % (PAGES * P);
	return arena + (a % PAGES) * P + (a >> 32 & 1 ? a >> 33 & 0xff8 : 0);
}

/* 20 bytes of command, then (page, slot) <- address. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint32_t place[BLOCKS * 512];
	struct nvme_sqe sqe = { .opcode = 2, .nsid = 1 };
	uint32_t bytes;
	uint16_t st;
	bool ok;

	if (len < 18)
		return 0;
	sqe.prp1 = address(data);
	sqe.prp2 = address(data + 8);
	sqe.cdw12 = data[16];
	bytes = (sqe.cdw12 + 1) * 512;
	data += 18;
	len -= 18;
	memset(guest_ptr(&guest, arena), 0, PAGES * P);
	for (; len >= 11; data += 11, len -= 11) {
		uint64_t a = address(data + 3);
		uint32_t slot = (data[1] | data[2] << 8) % 512;

		/* half of them near the end of the page, where chains are */
		if (data[0] & 0x80)
			slot = 511 - slot % 8;
		memcpy((uint8_t *)guest_ptr(&guest, arena) +
			       data[0] % PAGES * P + slot * 8,
		       &a, 8);
	}
	memcpy(model, guest_ptr(&guest, arena), PAGES * P);
	ok = walk(sqe.prp1, sqe.prp2, bytes, model, place);
	st = guest_cmd(&guest, 1, sqe, NULL);
	if (ok != (st == 0))
		abort();
	for (uint32_t i = 0; ok && i < bytes; i++)
		model[place[i]] = world_pattern(i);
	if (memcmp(model, guest_ptr(&guest, arena), PAGES * P))
		abort();
	return 0;
}
