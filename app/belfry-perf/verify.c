/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --verify crc32c: each block says who it is, and which writing of it. Not for
 * protection information of the device.
 *
 * A block: magic, LBA, sequence number, CRC-32C of all else, then words made of LBA and sequence number, and the
 * sequence number once more at its end. So all of it can be made again and the wrong byte be found.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "perf.h"

#define MAGIC 0x7966697265567942ull
#define NO_PIECE UINT64_MAX

struct head {
	uint64_t magic, lba, seq;
	uint32_t crc, zero;
};

struct verify_state {
	uint32_t block_len;
	uint64_t run;	   /* of sequence numbers, high half */
	uint32_t counter;  /* low half, from 1 */
	uint32_t *seq;	   /* by piece: the last one written; 0: not by us */
	uint64_t *busy;	   /* by piece, bits */
	uint64_t *piece;   /* by cid */
	uint32_t *pending; /* by cid: the number being written; 0: a read */
	bool strict;	   /* blocks we did not write must be good as well */
	bool back;
	uint64_t scan, checked;
	uint8_t *scratch;
};

static uint32_t
crc_table(uint32_t crc, const uint8_t *p, size_t len)
{
	static uint32_t table[256];

	if (!table[1]) /* the same whoever fills it */
		for (uint32_t i = 255; i; i--) {
			uint32_t c = i;

			for (int k = 0; k < 8; k++)
				c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
			table[i] = c;
		}
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t v;

		memcpy(&v, p, sizeof(v));
		c = _mm_crc32_u64(c, v);
	}
	while (len--)
		c = _mm_crc32_u8((uint32_t)c, *p++);
	return (uint32_t)c;
}
#endif

uint32_t
crc32c(uint32_t crc, const void *buf, size_t len)
{
	crc = ~crc;
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_sse42(crc, buf, len);
#endif
	return ~crc_table(crc, buf, len);
}

static uint32_t
block_crc(const uint8_t *block, uint32_t len)
{
	size_t at = offsetof(struct head, crc), after = at + sizeof(uint32_t);
	uint32_t crc = crc32c(0, block, at);

	return crc32c(crc, block + after, len - after);
}

void
block_fill(void *block, uint32_t len, uint64_t lba, uint64_t seq)
{
	struct head h = { .magic = MAGIC, .lba = lba, .seq = seq };
	uint64_t x = (lba * 0x9e3779b97f4a7c15ull ^ seq) | 1, *w = block;

	for (uint32_t i = sizeof(h) / 8; i < len / 8 - 1; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w[i] = x;
	}
	w[len / 8 - 1] = seq;
	memcpy(block, &h, sizeof(h));
	h.crc = block_crc(block, len);
	memcpy(block, &h, sizeof(h));
}

static uint32_t
count_wrong(const uint8_t *got, const uint8_t *want, uint32_t len,
	    uint32_t *first)
{
	uint32_t n = 0;

	for (uint32_t i = len; i-- > 0;)
		if (got[i] != want[i]) {
			*first = i;
			n++;
		}
	return n;
}

/* Make the block again by each number that it may have had; the nearest tells the byte. */
static void
find_byte(const uint8_t *block, uint32_t len, uint64_t lba, uint64_t seq,
	  uint8_t *scratch, struct mismatch *m)
{
	uint64_t tries[3] = { seq };
	uint32_t best = UINT32_MAX;

	memcpy(&tries[1], block + offsetof(struct head, seq), 8);
	memcpy(&tries[2], block + len - 8, 8);
	for (int i = seq ? 0 : 1; i < 3; i++) {
		uint32_t first = 0, n;

		block_fill(scratch, len, lba, tries[i]);
		n = count_wrong(block, scratch, len, &first);
		if (n && n < best) {
			best = n;
			m->offset = first;
			m->want = scratch[first];
			m->got = block[first];
		}
	}
}

bool
block_check(const void *block, uint32_t len, uint64_t lba, uint64_t seq,
	    void *scratch, struct mismatch *m)
{
	struct head h;
	bool sound;

	memcpy(&h, block, sizeof(h));
	sound = h.magic == MAGIC && h.crc == block_crc(block, len);
	if (sound && h.lba == lba && (!seq || h.seq == seq))
		return true;
	*m = (struct mismatch){ .lba = lba };
	if (sound && h.lba != lba) {
		m->what = "it holds another block";
		m->other = h.lba;
		m->offset = offsetof(struct head, lba);
	} else if (sound) {
		m->what = "it holds older data: a write was lost";
		m->offset = offsetof(struct head, seq);
	} else {
		memset(scratch, 0, len);
		m->what = memcmp(block, scratch, len)
				  ? "wrong data"
				  : "it is all zeros: never written, or lost";
	}
	find_byte(block, len, lba, sound ? seq : 0, scratch, m);
	return false;
}

int
verify_create(struct job *j, uint32_t block_len, struct verify_state **out)
{
	struct verify_state *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->block_len = block_len;
	v->run = (uint64_t)j->rng >> 32 | 1;
	v->strict = !j->write_pct;
	v->seq = calloc(j->units, sizeof(*v->seq));
	v->busy = calloc(j->units / 64 + 1, sizeof(*v->busy));
	v->piece = calloc(j->qd, sizeof(*v->piece));
	v->pending = calloc(j->qd, sizeof(*v->pending));
	v->scratch = calloc(1, block_len);
	if (!v->seq || !v->busy || !v->piece || !v->pending || !v->scratch) {
		verify_destroy(v);
		return -ENOMEM;
	}
	*out = v;
	return 0;
}

void
verify_destroy(struct verify_state *v)
{
	if (!v)
		return;
	free(v->seq);
	free(v->busy);
	free(v->piece);
	free(v->pending);
	free(v->scratch);
	free(v);
}

static bool
is_busy(const struct verify_state *v, uint64_t piece)
{
	return v->busy[piece / 64] >> piece % 64 & 1;
}

static void
take(struct verify_state *v, unsigned cid, uint64_t piece, uint32_t pending)
{
	v->busy[piece / 64] |= 1ull << piece % 64;
	v->piece[cid] = piece;
	v->pending[cid] = pending;
}

/* Two commands on the same piece could be done in any order, so there are none. Setup sees to it that pieces are plenty. */
uint64_t
verify_begin(struct job *j, unsigned cid, uint64_t piece, bool write)
{
	struct verify_state *v = j->verify;
	uint8_t *data = j->data + (size_t)cid * j->stride;
	uint32_t number = 0;

	while (is_busy(v, piece))
		piece = piece + 1 == j->units ? 0 : piece + 1;
	if (write) {
		number = ++v->counter ? v->counter : ++v->counter;
		for (uint32_t i = 0; i < j->nlb; i++)
			block_fill(data + (size_t)i * v->block_len,
				   v->block_len,
				   (j->first + piece) * j->nlb + i,
				   v->run << 32 | number);
	} else {
		memset(data, 0xee, (size_t)j->nlb * v->block_len);
	}
	take(v, cid, piece, number);
	return piece;
}

void
verify_abort(struct job *j, unsigned cid)
{
	struct verify_state *v = j->verify;
	uint64_t piece = v->piece[cid];

	v->busy[piece / 64] &= ~(1ull << piece % 64);
	if (v->pending[cid])
		v->seq[piece] = 0; /* nobody knows what is there now */
}

bool
verify_end(struct job *j, unsigned cid)
{
	struct verify_state *v = j->verify;
	const uint8_t *data = j->data + (size_t)cid * j->stride;
	uint64_t piece = v->piece[cid];
	uint32_t known = v->seq[piece];

	v->busy[piece / 64] &= ~(1ull << piece % 64);
	if (v->pending[cid]) {
		v->seq[piece] = v->pending[cid];
		return true;
	}
	if (!known && !v->strict)
		return true;
	for (uint32_t i = 0; i < j->nlb; i++)
		if (!block_check(data + (size_t)i * v->block_len, v->block_len,
				 (j->first + piece) * j->nlb + i,
				 known ? v->run << 32 | known : 0, v->scratch,
				 &j->mismatch))
			return false;
	v->checked++;
	return true;
}

void
verify_read_back(struct job *j)
{
	j->verify->back = true;
	j->verify->scan = 0;
	j->verify->checked = 0;
}

uint64_t
verify_next(struct job *j, unsigned cid)
{
	struct verify_state *v = j->verify;

	while (v->scan < j->units && !v->seq[v->scan])
		v->scan++;
	if (v->scan == j->units)
		return NO_PIECE;
	return verify_begin(j, cid, v->scan++, false);
}

void
verify_counts(const struct job *j, uint64_t *written, uint64_t *checked)
{
	const struct verify_state *v = j->verify;

	*checked += v->checked;
	for (uint64_t i = 0; i < j->units; i++)
		*written += v->seq[i] != 0;
}
