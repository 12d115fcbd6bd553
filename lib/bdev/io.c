/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: the way of an I/O, submit and complete. Data path.
 * Not here: what a device does with it (the backends), channels (channel.c).
 */
#include <string.h>

#include "internal.h"

/*
 * Counters have one writer; the reader on the control reactor may be a moment
 * behind. Relaxed stores keep that defined, at the price of plain ones.
 */
#define SET(var, to) __atomic_store_n(&(var), (to), __ATOMIC_RELAXED)
#define COUNT(var, add) SET(var, (var) + (add))

static void
count(struct bdev_ch *ch, const struct bdev_io *io, int err)
{
	struct bdev_op_stats *st = &ch->stats[io->op];
	uint32_t gen = __atomic_load_n(&ch->bdev->stats_gen, __ATOMIC_RELAXED);
	uint64_t ns = reactor_now() - io->start_ns;

	COUNT(ch->inflight, -1);
	ch->br->inflight--;
	if (unlikely(err)) {
		COUNT(st->errors, 1);
		return;
	}
	if (unlikely(ch->stats_gen != gen)) {
		for (unsigned i = 0; i < BDEV_OPS; i++) {
			SET(ch->stats[i].min_ns, UINT64_MAX);
			SET(ch->stats[i].max_ns, 0);
		}
		__atomic_store_n(&ch->stats_gen, gen, __ATOMIC_RELEASE);
	}
	COUNT(st->ops, 1);
	COUNT(st->bytes, io->len);
	COUNT(st->latency_ns, ns);
	if (ns < st->min_ns)
		SET(st->min_ns, ns);
	if (ns > st->max_ns)
		SET(st->max_ns, ns);
}

/* Did this failure cost data that was written before? */
static bool
loses_data(const struct bdev_io *io, int err)
{
	switch (err) {
	case -EIO:
	case -ENOSPC:
	case -EDQUOT:
		return true;
	case -EINVAL:
	case -EOPNOTSUPP:
	case -ENODEV:
	case -EROFS:
		return false;
	default:
		return io->op == BDEV_FLUSH;
	}
}

/*
 * The kernel tells a failed write-back to the first flush that asks, once. Its
 * news is for all who wrote: belfry/bdev.h, bdev_flush_seq().
 */
static int
flush_result(struct bdev *b, struct bdev_io *io, int err)
{
	uint32_t seq;

	if (err) {
		if (!loses_data(io, err))
			return err;
		seq = __atomic_add_fetch(&b->flush_seq, 1, __ATOMIC_ACQ_REL);
		if (io->flush_seen)
			*io->flush_seen = seq;
		return err;
	}
	seq = __atomic_load_n(&b->flush_seq, __ATOMIC_ACQUIRE);
	if (likely(seq == (io->flush_seen ? *io->flush_seen : 0)))
		return 0;
	if (io->flush_seen)
		*io->flush_seen = seq;
	return -EIO;
}

void
bdev_complete(struct bdev_io *io, int err)
{
	struct bdev_ch *ch = io->ch;

	if (io->op == BDEV_FLUSH || (io->flags & BDEV_IO_FUA))
		err = flush_result(ch->bdev, io, err);
	count(ch, io, err);
	io->err = err;
	io->done(io);
}

static int
check(const struct bdev *b, const struct bdev_io *io)
{
	/* READ and WRITE always work, the others are announced by a bit. */
	static const uint8_t cap_of[BDEV_OPS] = {
		[BDEV_FLUSH] = BDEV_CAP_FLUSH,
		[BDEV_DISCARD] = BDEV_CAP_DISCARD,
		[BDEV_WRITE_ZEROES] = BDEV_CAP_WRITE_ZEROES,
	};
	uint64_t len = __atomic_load_n(&b->len, __ATOMIC_RELAXED);
	uint8_t op = io->op;

	if (unlikely(__atomic_load_n(&b->is_removing, __ATOMIC_RELAXED)))
		return -ENODEV;
	if (unlikely((b->caps & cap_of[op]) != cap_of[op]))
		return -EOPNOTSUPP;
	if (op == BDEV_FLUSH)
		return 0;
	if (unlikely(!io->len || ((io->off | io->len) & b->block_mask)))
		return -EINVAL;
	if (unlikely(!range_inside(io->off, io->len, len)))
		return -EINVAL;
	if (op == BDEV_READ)
		return likely(io->iovcnt) ? 0 : -EINVAL;
	if (unlikely(b->read_only))
		return -EROFS;
	return op != BDEV_WRITE || likely(io->iovcnt) ? 0 : -EINVAL;
}

void
bdev_submit(struct bdev_io *io)
{
	struct bdev_ch *ch = io->ch;
	int err;

	if (unlikely(io->op >= BDEV_OPS)) {
		io->err = -EINVAL;
		io->done(io);
		return;
	}
	COUNT(ch->inflight, 1);
	ch->br->inflight++;
	io->start_ns = reactor_now();
	err = check(ch->bdev, io);
	if (unlikely(err))
		bdev_complete(io, err);
	else
		ch->submit(ch, io);
}

static size_t
cursor_copy(struct bdev_cursor *c, char *buf, size_t len, bool out)
{
	size_t done = 0;

	while (done < len && c->left) {
		size_t n = MIN(len - done, c->iov->iov_len - c->pos);
		char *at = (char *)c->iov->iov_base + c->pos;

		if (out)
			memcpy(buf + done, at, n);
		else
			memcpy(at, buf + done, n);
		done += n;
		c->pos += n;
		if (c->pos == c->iov->iov_len) {
			c->iov++;
			c->left--;
			c->pos = 0;
		}
	}
	return done;
}

size_t
bdev_copy_out(struct bdev_cursor *c, void *buf, size_t len)
{
	return cursor_copy(c, buf, len, true);
}

size_t
bdev_copy_in(struct bdev_cursor *c, const void *buf, size_t len)
{
	return cursor_copy(c, (char *)buf, len, false);
}
