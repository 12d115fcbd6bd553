/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SGLs in guest memory, through a read command, against a naive model of NVMe 2.0 §4.1.2: it walks descriptor by
 * descriptor and notes where each byte goes. What the read changes must be what the model says.
 */
#include "nvme_world.h"

#define P 4096u
#define PAGES 64u
#define BLOCKS 256u
#define NOWHERE UINT32_MAX

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

static bool
in_arena(uint64_t iova, uint64_t len)
{
	return iova >= arena && range_inside(iova - arena, len, PAGES * P);
}

/* false: the model would rather not say (too many pieces or descriptors, or refused). */
static bool
leaf(const struct nvme_sgl *d, uint32_t len, uint32_t *done, uint32_t *place)
{
	uint32_t n = MIN(d->len, len - *done);

	if (d->type == 0x10) {
		while (n--)
			place[(*done)++] = NOWHERE;
		return true;
	}
	if (d->type != 0)
		return false;
	if (d->len > UINT64_MAX - d->addr || (n && !in_arena(d->addr, n)))
		return false;
	for (uint32_t i = 0; i < n; i++)
		place[(*done)++] = (uint32_t)(d->addr - arena) + i;
	return true;
}

static bool
walk(struct nvme_sgl seg, uint32_t len, uint32_t *place, unsigned *descs)
{
	uint32_t done = 0;

	if (seg.type >> 4 != 2 && seg.type >> 4 != 3)
		return leaf(&seg, len, &done, place) && done == len;
	while (done < len) {
		uint32_t n = seg.len / 16, i;
		bool next = false;

		if (seg.type & 15 || !n || seg.len % 16)
			return false;
		for (i = 0; i < n && done < len; i++) {
			uint64_t at = seg.addr + (uint64_t)i * 16;
			struct nvme_sgl d;

			if (++*descs > 1024 || !in_arena(at, 16))
				return false;
			memcpy(&d, model + (at - arena), 16);
			if (d.type >> 4 == 2 || d.type >> 4 == 3) {
				if (seg.type >> 4 == 3 || i != n - 1)
					return false;
				seg = d;
				next = true;
				break;
			}
			if (!leaf(&d, len, &done, place))
				return false;
		}
		if (!next)
			break;
	}
	return done == len;
}

/* Eight bytes make a descriptor: kind, page, offset, length. */
static struct nvme_sgl
descriptor(const uint8_t *p)
{
	static const uint8_t types[8] = { 0, 0, 0, 0, 0x10, 0x20, 0x30, 0xff };
	struct nvme_sgl d = { .type = types[p[0] % 8] };

	if (d.type == 0xff)
		d.type = p[7];
	d.addr = arena + p[1] % PAGES * P + ((p[2] | p[3] << 8) & 0xfff);
	if (p[0] & 0x80)
		d.addr = (uint64_t)p[1] << 56 | p[2];
	d.len = p[4] | (uint32_t)p[5] << 8;
	if (d.type >> 4 == 2 || d.type >> 4 == 3) {
		d.len = p[4] % 24 * 16 + (p[0] & 0x40 ? p[5] : 0);
		d.addr &= ~15ull;
	} else if (p[6] & 1) {
		d.len = (d.len & 31) * 512;
	}
	return d;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint32_t place[BLOCKS * 512];
	struct nvme_sqe sqe = { .opcode = 2, .nsid = 1, .flags = 1 << 6 };
	unsigned descs = 0;
	uint32_t bytes;
	uint16_t st;
	bool ok;

	if (len < 9)
		return 0;
	sqe.cdw12 = data[0];
	bytes = (sqe.cdw12 + 1) * 512;
	sqe.sgl = descriptor(data + 1);
	data += 9;
	len -= 9;
	memset(guest_ptr(&guest, arena), 0, PAGES * P);
	for (; len >= 10; data += 10, len -= 10) {
		struct nvme_sgl d = descriptor(data + 2);

		memcpy((uint8_t *)guest_ptr(&guest, arena) +
			       data[0] % PAGES * P + data[1] * 16,
		       &d, 16);
	}
	memcpy(model, guest_ptr(&guest, arena), PAGES * P);
	ok = walk(sqe.sgl, bytes, place, &descs);
	st = guest_cmd(&guest, 1, sqe, NULL);
	if (st == 0xffff)
		abort();
	/* Number of pieces (0Eh) and what lies around a hole are the code's. */
	if (st == 0 && !ok)
		abort();
	if (ok && st && st != 0x0e && st != 4)
		abort();
	for (uint32_t i = 0; !st && i < bytes; i++)
		if (place[i] != NOWHERE)
			model[place[i]] = world_pattern(i);
	if (memcmp(model, guest_ptr(&guest, arena), PAGES * P))
		abort();
	return 0;
}
