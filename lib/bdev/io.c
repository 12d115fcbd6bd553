/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: the way of an I/O, submit and complete. Data path.
 * Not here: what a device does with it (the backends), channels (channel.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

/*
 * Counters have one writer; the reader on the control reactor may be a moment
 * behind. Relaxed stores keep that defined, at the price of plain ones.
 */
#define SET(var, to) __atomic_store_n(&(var), (to), __ATOMIC_RELAXED)
#define COUNT(var, add) SET(var, (var) + (add))

/* Minima and maxima were reset: start those of this channel anew. */
static void
restart_extremes(struct bdev_ch *ch, uint32_t gen)
{
	for (unsigned i = 0; i < BDEV_OPS; i++) {
		SET(ch->stats[i].min_ns, UINT64_MAX);
		SET(ch->stats[i].max_ns, 0);
	}
	__atomic_store_n(&ch->stats_gen, gen, __ATOMIC_RELEASE);
}

static inline bool
generation_is_old(const struct bdev_ch *ch)
{
	return ch->stats_gen !=
	       __atomic_load_n(&ch->bdev->stats_gen, __ATOMIC_RELAXED);
}

static inline void
count(struct bdev_ch *ch, const struct bdev_io *io)
{
	struct bdev_op_stats *st = &ch->stats[io->op];
	uint64_t ns = *ch->clock - io->start_ns;

	COUNT(st->ops, 1);
	COUNT(st->bytes, io->len);
	COUNT(st->latency_ns, ns);
	if (unlikely(ns < st->min_ns))
		SET(st->min_ns, ns);
	if (unlikely(ns > st->max_ns))
		SET(st->max_ns, ns);
}

/* The device's generation may not be the channel's: a reset, or a histogram. */
static void
count_slow(struct bdev_ch *ch, const struct bdev_io *io)
{
	uint32_t gen = __atomic_load_n(&ch->bdev->stats_gen, __ATOMIC_RELAXED);
	uint32_t own = gen & ~BDEV_GEN_HISTOGRAM;

	if (ch->stats_gen != own)
		restart_extremes(ch, own);
	if (gen & BDEV_GEN_HISTOGRAM)
		bdev_histogram_count(ch->bdev, reactor_index(ch->br->reactor),
				     io->op, *ch->clock - io->start_ns);
	count(ch, io);
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
	case -ERANGE:
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
static int __attribute__((noinline))
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

const char *const bdev_op_names[BDEV_OPS] = { "read", "write", "flush", "unmap",
					      "write_zeroes" };

/* Of the disk below, that is: what a guest can ask for in vain, or a device that goes answers, is no news for the operator. */
static void
complain(struct bdev *b, const struct bdev_io *io, int err)
{
	char more[48] = "";
	uint32_t dropped;

	switch (err) {
	case -EINVAL:
	case -ERANGE:
	case -EOPNOTSUPP:
	case -ENODEV:
	case -EROFS:
	case -EFAULT:
	case -ECANCELED:
		return;
	}
	if (!log_ratelimit_ok(&b->complaints, &dropped))
		return;
	if (dropped)
		snprintf(more, sizeof(more), " (%u others dropped)", dropped);
	log_warn("bdev %s: %s of %" PRIu64 " bytes at %" PRIu64 " failed: %s%s",
		 b->name, bdev_op_names[io->op], (uint64_t)io->len,
		 (uint64_t)io->off, strerror(-err), more);
}

/* A flush, stable storage was asked for, it failed, or there is more to count. */
static void __attribute__((noinline)) complete_slow(struct bdev_io *io, int err)
{
	struct bdev_ch *ch = io->ch;

	if (io->op == BDEV_FLUSH || (io->flags & BDEV_IO_FUA))
		err = flush_result(ch->bdev, io, err);
	if (!err) {
		count_slow(ch, io);
	} else {
		COUNT(ch->stats[io->op].errors, 1);
		complain(ch->bdev, io, err);
	}
	io->err = err;
	io->done(io);
}

void
bdev_complete(struct bdev_io *io, int err)
{
	struct bdev_ch *ch = io->ch;

	if (unlikely(err || io->op == BDEV_FLUSH || (io->flags & BDEV_IO_FUA) ||
		     generation_is_old(ch))) {
		complete_slow(io, err);
		return;
	}
	count(ch, io);
	io->err = 0;
	io->done(io);
}

void
bdev_accept(struct bdev *b)
{
	uint8_t ops = 1u << BDEV_READ;

	if (!b->read_only)
		ops |= 1u << BDEV_WRITE;
	if (b->caps & BDEV_CAP_FLUSH)
		ops |= 1u << BDEV_FLUSH;
	if (b->caps & BDEV_CAP_DISCARD && !b->read_only)
		ops |= 1u << BDEV_DISCARD;
	if (b->caps & BDEV_CAP_WRITE_ZEROES && !b->read_only)
		ops |= 1u << BDEV_WRITE_ZEROES;
	__atomic_store_n(&b->accepts, b->is_removing ? 0 : ops,
			 __ATOMIC_RELAXED);
}

/* Why bdev_accept() left this operation out. */
static int
refusal(const struct bdev *b, uint8_t op)
{
	static const uint8_t cap_of[BDEV_OPS] = {
		[BDEV_FLUSH] = BDEV_CAP_FLUSH,
		[BDEV_DISCARD] = BDEV_CAP_DISCARD,
		[BDEV_WRITE_ZEROES] = BDEV_CAP_WRITE_ZEROES,
	};

	if (__atomic_load_n(&b->is_removing, __ATOMIC_RELAXED))
		return -ENODEV;
	if ((b->caps & cap_of[op]) != cap_of[op])
		return -EOPNOTSUPP;
	return -EROFS;
}

/* Always: -3 instructions a write, test/bench/path. */
static inline __attribute__((always_inline)) int
check(const struct bdev *b, const struct bdev_io *io)
{
	uint64_t end = __atomic_load_n(&b->len, __ATOMIC_RELAXED);
	unsigned accepts = __atomic_load_n(&b->accepts, __ATOMIC_RELAXED);
	bool data = io->op <= BDEV_WRITE;

	if (unlikely(!(accepts >> io->op & 1)))
		return refusal(b, io->op);
	if (unlikely(io->op == BDEV_FLUSH))
		return 0;
	if (unlikely((io->off | io->len) & b->block_mask) ||
	    unlikely(!io->len || (data && !io->iovcnt)))
		return -EINVAL;
	if (unlikely(!range_inside(io->off, io->len, end)))
		return -ERANGE; /* it may have shrunk a moment ago */
	return 0;
}

int
bdev_check(const struct bdev_io *io)
{
	return check(io->ch->bdev, io);
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
	COUNT(ch->started, 1);
	io->start_ns = *ch->clock;
	err = check(ch->bdev, io);
	if (likely(!err))
		ch->submit(ch, io);
	else
		bdev_complete(io, err);
}

void *
bdev_cursor_take(struct bdev_cursor *c, size_t max, size_t *len)
{
	while (c->left) {
		size_t n = MIN(max, c->iov->iov_len - c->pos);
		char *at = (char *)c->iov->iov_base + c->pos;

		c->pos += n;
		if (c->pos == c->iov->iov_len) {
			c->iov++;
			c->left--;
			c->pos = 0;
		}
		if (likely(n)) {
			*len = n;
			return at;
		}
	}
	return NULL;
}

static size_t
cursor_copy(struct bdev_cursor *c, char *buf, size_t len, bool out)
{
	size_t done = 0, n;
	char *at;

	while (done < len && (at = bdev_cursor_take(c, len - done, &n))) {
		if (out)
			memcpy(buf + done, at, n);
		else
			memcpy(at, buf + done, n);
		done += n;
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
